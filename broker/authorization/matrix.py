"""Who may do what: the principals that policies name, by instances, by actions; each cell is asked of the policies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from broker.authorization.questions import Question, question_from
from broker.model import Action, Instance, InstanceRef, Obligation, Platform

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from broker.authorization.snapshot import PolicySnapshot
    from broker.model import Caller, RequestContext, Step

SOMEBODY = "somebody"
"""The subject of whoever is asked about as a member of a group, or as anybody."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody to ask about, and how to call them."""

    name: str
    caller: Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One cell: `needs` would lift a denial, and `policies` are then those that decide with it."""

    allowed: bool
    needs: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    max_duration: timedelta | None = None

    @property
    def may(self) -> str:
        """Whether, in a word or two."""
        return "yes" if self.allowed else f"with {', '.join(self.needs)}" if self.needs else "no"


def principals(snapshots: Iterable[PolicySnapshot], context: RequestContext) -> list[Principal]:
    """Answer anybody, any program, and whoever the policies name."""
    named = sorted({name for snapshot in snapshots for rule in snapshot.rules.values() for name in rule.named})
    whoever = question_from({"as": f"-/{SOMEBODY}", "action": "readAudit", "on": "-"}, {}).caller
    anybody = replace(whoever, token_expires_at=context.now + timedelta(hours=1))
    programs = {name.partition("::")[2].partition("/")[0] for name in named if name.startswith("Workload::")}
    people = {name.partition("::")[2].partition("/")[0] for name in named if name.startswith("User::")}
    found = [Principal("anybody", anybody), Principal("any program", replace(anybody, kind="workload"))]
    for name in named:
        kind, _, rest = name.partition("::")
        issuer, _, local = rest.partition("/")
        # An issuer vouches for people or for programs; a group tells which only by the company it keeps.
        program = kind == "Workload" or (kind == "Group" and issuer in programs - people)
        caller = replace(anybody, issuer=issuer, kind="workload" if program else "user")
        found.append(
            Principal(f"group {rest}", replace(caller, groups=(local,)))
            if kind == "Group"
            else Principal(f"program {rest}" if program else rest, replace(caller, subject=local))
        )
    return found


def likely(principal: Principal, resource: Instance | str) -> Iterator[Principal]:
    """Answer a principal, and what it becomes by an instance's tags: the owner that one names, a member of a group."""
    yield principal
    if isinstance(resource, str) or not principal.name.startswith("group "):
        return
    for value in sorted({value for value in resource.tags.values() if value}):
        caller = principal.caller
        if value not in caller.groups:
            yield Principal(f"{principal.name} and {value}", replace(caller, groups=(*caller.groups, value)))
        yield Principal(f"{caller.issuer}/{value} in {principal.name}", replace(caller, subject=value))


def outcome(snapshot: PolicySnapshot, question: Question) -> Outcome:
    """Ask, and on a denial find what would lift it and who would decide then."""
    decision = question.decide(snapshot)
    if decision.allowed:
        return Outcome(allowed=True, policies=decision.policies, max_duration=decision.max_duration)
    steps = () if decision.errors else question.steps(snapshot)
    if not steps:
        return Outcome(allowed=False, policies=decision.policies)
    lifted = lifted_by(snapshot, question, steps).decide(snapshot)
    return Outcome(
        allowed=False, needs=tuple(map(described, steps)), policies=lifted.policies, max_duration=lifted.max_duration
    )


def lifted_by(snapshot: PolicySnapshot, question: Question, steps: Sequence[Step]) -> Question:
    """Answer the question after some steps were taken."""
    texts = {pattern: text for rule in snapshot.rules.values() for _, text, pattern in rule.samples}
    caller, context = question.caller, question.context
    for step in steps:
        match step.obligation:
            case Obligation.MFA:
                caller = replace(caller, mfa=True)
            case Obligation.FRESH_LOGIN:
                caller = replace(caller, authenticated_at=context.now - timedelta(seconds=step.max_age or 0))
            case Obligation.REASON:
                context = replace(context, reason=texts.get(step.pattern, "given"))
            case Obligation.TICKET:
                context = replace(context, ticket=texts.get(step.pattern, "given"))
            case Obligation.APPROVAL:
                context = replace(context, approvals=step.approvals)
    return replace(question, caller=caller, context=context)


def described(step: Step) -> str:
    """Write a step in a few words: `ticket OPS-*`, `2 approvals`, `login within 900s`."""
    match step.obligation:
        case Obligation.REASON | Obligation.TICKET if step.pattern:
            return f"{step.obligation} {step.pattern}"
        case Obligation.APPROVAL:
            return f"{step.approvals} approval{'s' if step.approvals > 1 else ''}"
        case Obligation.FRESH_LOGIN if step.max_age is not None:
            return f"login within {step.max_age}s"
    return str(step.obligation.value).replace("_", " ")


def actions_on(resource: Instance | str) -> tuple[Action, ...]:
    """Answer what can be done to an instance or an account."""
    if isinstance(resource, str):
        return (Action.READ_AUDIT, Action.LOCK)
    return (Action.SSH, Action.RDP, Action.LIST, Action.APPROVE)


def resources(instances: Sequence[Instance]) -> list[Instance | str]:
    """Answer instances, and the accounts that they are in."""
    return [*instances, *sorted({instance.ref.account for instance in instances})]


def cells(
    snapshot: PolicySnapshot,
    who: Sequence[Principal],
    what: Sequence[Instance | str],
    actions: Sequence[Action],
    context: RequestContext,
) -> Iterator[tuple[Principal, Question, Outcome]]:
    """Go through the matrix. What an instance's tags make of a principal shows only where it changes the answer."""
    for resource in what:
        for action in (action for action in actions_on(resource) if action in actions):
            for principal in who:
                base: Outcome | None = None
                for each in likely(principal, resource):
                    question = Question(each.caller, action, resource, context)
                    found = outcome(snapshot, question)
                    if base is None or (found != base and not base.allowed and (found.allowed or found.needs)):
                        yield each, question, found
                    base = base or found


def inventory(document: Any) -> list[Instance]:  # noqa: ANN401 - a JSON document has any shape
    """Read instances as `broker ls --format json` prints them; `key_pair` may be added by hand.

    Raises:
        ValueError: it is no such list. The message is fit for people.
    """
    if not isinstance(document, list) or not all(isinstance(item, dict) for item in document):
        raise ValueError("an inventory is a list of instances, as `broker ls --format json` prints it")
    return [_instance(item, number) for number, item in enumerate(document, start=1)]


def _instance(item: dict[str, Any], number: int) -> Instance:
    try:
        tags = item.get("tags", {})
        texts = [item[key] for key in ("account", "region", "name")]
        rest = {key: item.get(key, "") for key in ("blueprint", "bundle", "state", "key_pair")}
        if not all(isinstance(text, str) for text in (*texts, *rest.values(), *tags, *tags.values())):
            raise TypeError  # noqa: TRY301 - the one way in which an item can be wrong
        return Instance(ref=InstanceRef(*texts), platform=Platform(item["platform"]), tags=tags, **rest)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"instance {number} of the inventory needs account, region, name and platform, and texts for tags"
        ) from error
