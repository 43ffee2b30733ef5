"""What a change of policies changes: every cell of the matrix, and every case of the tables, asked of both sets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from broker.authorization.matrix import Outcome, actions_on, likely, outcome, principals
from broker.authorization.questions import Question, question_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from broker.authorization.cases import Case
    from broker.authorization.snapshot import PolicySnapshot
    from broker.model import Caller, Instance, RequestContext

PLAIN, EVERYTHING, GLASS = "", "with everything given", "breaking the glass"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One cell that changed. `when` are circumstances other than the plain ones, or the case that showed it."""

    who: str
    question: Question
    when: str
    before: Outcome
    after: Outcome

    @property
    def kind(self) -> Literal["gains", "loses", "changes"]:
        """Whether more is allowed, or less; of two denials, the one that more can lift is less of a denial."""
        before, after = _rank(self.before), _rank(self.after)
        return "gains" if after > before else "loses" if after < before else "changes"


@dataclass(slots=True)
class Difference:
    """All that changed, and among how many cells."""

    changes: list[Change]
    cells: int
    policies: dict[str, Literal["added", "removed", "changed"]]


def difference(
    old: PolicySnapshot,
    new: PolicySnapshot,
    resources: Sequence[Instance | str],
    cases: Iterable[Case],
    context: RequestContext,
) -> Difference:
    """Compare two sets. What is asked of the same candidates is the same, and is not asked."""
    found = Difference([], 0, changed_policies(old, new))
    for who, question, when in _questions(old, new, resources, cases, context):
        found.cells += 1
        if found.policies and _candidates(old, question) != _candidates(new, question):
            before, after = outcome(old, question), outcome(new, question)
            if before != after:
                found.changes.append(Change(who=who, question=question, when=when, before=before, after=after))
    found.changes = list(_once(found.changes))
    return found


def changed_policies(old: PolicySnapshot, new: PolicySnapshot) -> dict[str, Literal["added", "removed", "changed"]]:
    """Answer the policies that mean something else now; layout and comments mean nothing."""
    found: dict[str, Literal["added", "removed", "changed"]] = {}
    for name in dict.fromkeys([*old.rules, *new.rules]):
        if name not in new.rules or name not in old.rules:
            found[name] = "removed" if name in old.rules else "added"
        elif old.rules[name].cedar_json != new.rules[name].cedar_json:
            found[name] = "changed"
    return found


def _questions(
    old: PolicySnapshot,
    new: PolicySnapshot,
    resources: Sequence[Instance | str],
    cases: Iterable[Case],
    context: RequestContext,
) -> Iterator[tuple[str, Question, str]]:
    samples = dict.fromkeys(
        sample[:2] for snapshot in (old, new) for rule in snapshot.rules.values() for sample in rule.samples
    )
    who = principals((old, new), context)
    for resource in resources:
        for principal in who:
            for each in likely(principal, resource):
                for action in actions_on(resource):
                    plain = Question(each.caller, action, resource, context)
                    for question, when in _circumstances(plain, dict(samples)):
                        yield each.name, question, when
    for case in cases:
        yield str(case.caller), question_of(case), f"{case.file}:{case.line}"


def _circumstances(plain: Question, samples: dict[str, str]) -> Iterator[tuple[Question, str]]:
    """Answer a question in plain circumstances, with all that one can give, and with the glass broken."""
    yield plain, PLAIN
    strong = replace(
        plain,
        caller=_strongest(plain.caller, plain.context),
        context=replace(
            plain.context,
            reason=samples.get("reason", "given"),
            ticket=samples.get("ticket", "given"),
            approvals=max(plain.context.approvals, 5),
        ),
    )
    yield strong, EVERYTHING
    yield replace(strong, context=replace(strong.context, approvals=0, break_glass=True)), GLASS


def _strongest(caller: Caller, context: RequestContext) -> Caller:
    return replace(caller, mfa=caller.kind == "user", bound=True, authenticated_at=context.now)


def _candidates(snapshot: PolicySnapshot, question: Question) -> list[tuple[str, str]]:
    try:
        found = snapshot.candidates(question.caller, question.action, question.resource)
    except ValueError:  # a question that cannot be put is denied by both
        return []
    return sorted((rule.id, rule.cedar_json) for rule in found)


def _once(changes: Iterable[Change]) -> Iterator[Change]:
    """Leave out what shows nothing new: circumstances that change as others do, members whom a group covers."""
    seen: set[tuple[object, ...]] = set()
    for change in changes:
        group = change.who.partition(" and ")[0].rpartition(" in ")[2]
        question = change.question
        key = (question.on, str(getattr(question.resource, "tags", "")), question.action)
        verdicts = (change.before.allowed, change.after.allowed, change.before.policies, change.after.policies)
        covered = {(group, key, verdicts), (change.who, key, verdicts)} & seen
        seen.add((change.who, key, verdicts))
        if not covered:
            yield change


def _rank(found: Outcome) -> tuple[int, int]:
    return (2, 0) if found.allowed else (1, -len(found.needs)) if found.needs else (0, 0)
