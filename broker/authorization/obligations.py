"""What would have made a denied request succeed: found by asking the same policies again (pure)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from broker.authorization.entities import resource_entity
from broker.model import Action, Caller, Instance, Obligation, RequestContext, Step

if TYPE_CHECKING:
    from broker.authorization.snapshot import PolicySnapshot

MAX_APPROVALS = 5
MAX_APPROVERS = 8
MAX_HEADS = 64
"""So many principals are tried as approvers."""
LONGEST_AGE = 30 * 86_400
"""A login that may be so many seconds old may be of any age."""

Circumstances = tuple[Caller, RequestContext]
Change = Callable[[Circumstances], Circumstances]
Samples = tuple[tuple[str, str, str], ...]
Ask = Callable[[Caller, RequestContext], bool]
Taken = Mapping[Obligation, tuple[Step, Change]]


def _climb(ask: Ask, caller: Caller, context: RequestContext, samples: Samples) -> Taken:
    """Take one thing more after the other until the denial is a permit; empty when it never is."""
    taken: dict[Obligation, tuple[Step, Change]] = {}
    for step, change in _ladder(caller, context, samples):
        taken[step.obligation] = step, change  # a later rung of the same kind replaces the earlier one
        if ask(*_apply(taken, caller, context)):
            return taken
    return {}


def _ladder(caller: Caller, context: RequestContext, samples: Samples) -> Iterator[tuple[Step, Change]]:
    if caller.kind == "user":  # nobody can ask a program for a second factor
        yield Step(obligation=Obligation.MFA), lambda now: (replace(now[0], mfa=True), now[1])
        yield Step(obligation=Obligation.FRESH_LOGIN), _logged_in(timedelta())
    texts: tuple[tuple[Obligation, Literal["reason", "ticket"]], ...] = (
        (Obligation.REASON, "reason"),
        (Obligation.TICKET, "ticket"),
    )
    for obligation, member in texts:
        for text, pattern in (("given", ""), *((fits, pattern) for other, fits, pattern in samples if other == member)):
            yield Step(obligation=obligation, pattern=pattern), _text(member, text)
    for count in range(context.approvals + 1, MAX_APPROVALS + 1):
        yield Step(obligation=Obligation.APPROVAL, approvals=count), _approvals(count)


def _logged_in(ago: timedelta) -> Change:
    return lambda now: (replace(now[0], authenticated_at=now[1].now - ago), now[1])


def _text(member: Literal["reason", "ticket"], text: str) -> Change:
    if member == "reason":
        return lambda now: (now[0], replace(now[1], reason=text))
    return lambda now: (now[0], replace(now[1], ticket=text))


def _approvals(count: int) -> Change:
    return lambda now: (now[0], replace(now[1], approvals=count))


def _apply(taken: Taken, caller: Caller, context: RequestContext) -> Circumstances:
    now = caller, context
    for _, change in taken.values():
        now = change(now)
    return now


def _minimal(ask: Ask, taken: Taken, caller: Caller, context: RequestContext) -> Taken:
    """Leave out, one after the other, what the permit does not need."""
    for obligation in tuple(taken):
        fewer = {other: step for other, step in taken.items() if other is not obligation}
        if fewer and ask(*_apply(fewer, caller, context)):
            taken = fewer
    return taken


def _exact(ask: Ask, taken: Taken, step: Step, caller: Caller, context: RequestContext) -> Step:
    """Find how old the login may be at most; every other step is exact already."""
    if step.obligation is not Obligation.FRESH_LOGIN:
        return step

    def allows(age: int) -> bool:
        aged = {**taken, Obligation.FRESH_LOGIN: (step, _logged_in(timedelta(seconds=age)))}
        return ask(*_apply(aged, caller, context))

    if allows(LONGEST_AGE):
        return step  # it is only that nobody knew when they logged in
    enough, too_old = 0, LONGEST_AGE
    while too_old - enough > 1:
        middle = (enough + too_old) // 2
        enough, too_old = (middle, too_old) if allows(middle) else (enough, middle)
    return replace(step, max_age=enough)


def lifting(
    snapshot: PolicySnapshot, caller: Caller, action: Action, resource: Instance | str, context: RequestContext
) -> tuple[Step, ...]:
    """Answer the fewest steps that lift a denial by `snapshot`, exactly; () when nothing does."""
    question = _question(snapshot, caller, action, resource)
    if question is None:
        return ()
    ask, samples = question
    fewest = _minimal(ask, _climb(ask, caller, context, samples), caller, context)
    steps = (_exact(ask, fewest, step, caller, context) for step, _ in fewest.values())
    return tuple(_with_approvers(step, snapshot, caller, resource, context) for step in steps)


def liftable(
    snapshot: PolicySnapshot, caller: Caller, action: Action, resource: Instance | str, context: RequestContext
) -> bool:
    """Tell whether anything lifts a denial by `snapshot`: less work than to say exactly what."""
    question = _question(snapshot, caller, action, resource)
    return question is not None and bool(_climb(question[0], caller, context, question[1]))


def _question(
    snapshot: PolicySnapshot, caller: Caller, action: Action, resource: Instance | str
) -> tuple[Ask, Samples] | None:
    """Answer how to ask again, and with which texts; None when no permit could ever hold for this question."""
    candidates = snapshot.candidates(caller, action, resource)
    if not any(rule.effect == "permit" for rule in candidates):
        return None

    def ask(other: Caller, circumstances: RequestContext) -> bool:
        return snapshot.decide(other, action, resource, circumstances).allowed

    return ask, tuple(dict.fromkeys(sample for rule in candidates for sample in rule.samples))


def _with_approvers(
    step: Step, snapshot: PolicySnapshot, caller: Caller, resource: Instance | str, context: RequestContext
) -> Step:
    if step.obligation is not Obligation.APPROVAL or isinstance(resource, str):
        return step
    return replace(step, approvers=approvers(snapshot, caller, resource, context))


def approvers(snapshot: PolicySnapshot, caller: Caller, instance: Instance, context: RequestContext) -> tuple[str, ...]:
    """Answer the groups and people whom permits name in their heads, and who may approve for an instance.

    They are imagined in the place of `caller`, at their best: with a second factor, just logged in, and with a reason.
    """
    at_best = replace(context, reason="given", ticket="", approvals=0, break_glass=False)
    strong = replace(caller, email=None, mfa=True, authenticated_at=context.now, bound=True)
    found = []
    for head in _named_in_heads(snapshot, instance)[:MAX_HEADS]:
        kind, _, name = head.partition("::")
        issuer, _, local = name.partition("/")
        person = replace(strong, issuer=issuer, kind="workload" if kind == "Workload" else "user")
        group = kind == "Group"
        person = replace(person, subject="" if group else local, groups=(local,) if group else ())
        if snapshot.decide(person, Action.APPROVE, instance, at_best).allowed:
            found.append(f"group {name}" if group else name)
    return tuple(found[:MAX_APPROVERS])


def _named_in_heads(snapshot: PolicySnapshot, instance: Instance) -> Sequence[str]:
    """Answer the principals, as `Type::id`, that the heads of permits to approve name, for this instance or more."""
    places = {"", *resource_entity(instance).keys}
    permits = (rule.scope for rule in snapshot.rules_about(Action.APPROVE) if rule.effect == "permit")
    return sorted({scope.principal for scope in permits if "::" in scope.principal and scope.resource in places})
