"""What would have made a denied request succeed: found by asking the same policies again (pure)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from broker.authorization.approvers import approvers
from broker.model import Action, Caller, Decision, Instance, Obligation, RequestContext, Step

if TYPE_CHECKING:
    from broker.authorization.snapshot import PolicySnapshot

MAX_APPROVALS = 5
MAX_TEXTS = 64
"""So many pairs of a reason and a ticket are tried, for patterns of policies."""
LONGEST_AGE = 30 * 86_400
"""A login that may be so many seconds old may be of any age."""

Circumstances = tuple[Caller, RequestContext]
Change = Callable[[Circumstances], Circumstances]
Rung = tuple[Step, Change]
Taken = Mapping[Obligation, Rung]


@dataclass(frozen=True, slots=True)
class _Denial:
    """The question that was answered by no, to be asked again with more."""

    snapshot: PolicySnapshot
    caller: Caller
    action: Action
    resource: Instance | str
    context: RequestContext

    def after(self, taken: Taken) -> Decision:
        """Ask again after some steps."""
        now = self.caller, self.context
        for _, change in taken.values():
            now = change(now)
        return self.snapshot.decide(now[0], self.action, self.resource, now[1])


def lifting(
    snapshot: PolicySnapshot, caller: Caller, action: Action, resource: Instance | str, context: RequestContext
) -> tuple[Step, ...]:
    """Answer the fewest steps that lift a denial by `snapshot`, exactly; () when nothing does."""
    denial = _Denial(snapshot, caller, action, resource, context)
    taken = _minimal(denial, _climb(denial))
    return tuple(_exact(denial, taken, step) for step, _ in taken.values())


def lifted(
    snapshot: PolicySnapshot, caller: Caller, action: Action, resource: Instance | str, context: RequestContext
) -> tuple[int, tuple[str, ...]]:
    """Answer how many steps at least lift a denial by `snapshot`, and which policies decide then; 0 when none do."""
    denial = _Denial(snapshot, caller, action, resource, context)
    taken = _minimal(denial, _climb(denial))
    return len(taken), denial.after(taken).policies if taken else ()


def liftable(
    snapshot: PolicySnapshot, caller: Caller, action: Action, resource: Instance | str, context: RequestContext
) -> bool:
    """Tell whether anything lifts a denial by `snapshot`: less work than to say what."""
    return bool(_climb(_Denial(snapshot, caller, action, resource, context)))


def _climb(denial: _Denial) -> Taken:
    """Take one thing more after the other until the denial is a permit; empty when it never is."""
    rules = denial.snapshot.candidates(denial.caller, denial.action, denial.resource)
    if not any(rule.effect == "permit" for rule in rules):
        return {}
    samples = tuple(dict.fromkeys(sample for rule in rules for sample in rule.samples))
    ladder = _ladder(denial.caller, denial.context, samples)
    return next((taken for taken in ladder if denial.after(taken).allowed), {})


def _ladder(caller: Caller, context: RequestContext, samples: tuple[tuple[str, str, str], ...]) -> Iterator[Taken]:
    """Answer what can be taken together: logins, then a reason, a ticket, and approvals beside."""
    login: dict[Obligation, Rung] = {}
    if caller.kind == "user":  # nobody can ask a program for a second factor
        login = {Obligation.MFA: (Step(obligation=Obligation.MFA), _second_factor)}
        yield login
        login = login | {Obligation.FRESH_LOGIN: (Step(obligation=Obligation.FRESH_LOGIN), _logged_in(timedelta()))}
        yield login
    reasons = [login | {Obligation.REASON: rung} for rung in _texts("reason", samples)][:MAX_TEXTS]
    yield from reasons
    tickets = _texts("ticket", samples)
    texts = [given | {Obligation.TICKET: rung} for given in reasons for rung in tickets][:MAX_TEXTS]
    yield from texts
    for count in range(context.approvals + 1, MAX_APPROVALS + 1):
        approved = Step(obligation=Obligation.APPROVAL, approvals=count), _approvals(count)
        yield from (given | {Obligation.APPROVAL: approved} for given in texts)


def _texts(member: Literal["reason", "ticket"], samples: tuple[tuple[str, str, str], ...]) -> list[Rung]:
    """Answer the texts to try: any text, then one for each pattern that a policy has."""
    found = [("given", ""), *((fits, pattern) for other, fits, pattern in samples if other == member)]
    return [(Step(obligation=Obligation(member), pattern=pattern), _text(member, text)) for text, pattern in found]


def _second_factor(now: Circumstances) -> Circumstances:
    return replace(now[0], mfa=True), now[1]


def _logged_in(ago: timedelta) -> Change:
    return lambda now: (replace(now[0], authenticated_at=now[1].now - ago), now[1])


def _text(member: Literal["reason", "ticket"], text: str) -> Change:
    if member == "reason":
        return lambda now: (now[0], replace(now[1], reason=text))
    return lambda now: (now[0], replace(now[1], ticket=text))


def _approvals(count: int) -> Change:
    return lambda now: (now[0], replace(now[1], approvals=count))


def _minimal(denial: _Denial, taken: Taken) -> Taken:
    """Leave out, one after the other, what the permit does not need."""
    for obligation in tuple(taken):
        fewer = {other: rung for other, rung in taken.items() if other is not obligation}
        if fewer and denial.after(fewer).allowed:
            taken = fewer
    return taken


def _exact(denial: _Denial, taken: Taken, step: Step) -> Step:
    """Find how old a login may be, and who may approve; other steps are exact already."""
    if step.obligation is Obligation.FRESH_LOGIN:
        return replace(step, max_age=_oldest(denial, taken))
    if step.obligation is Obligation.APPROVAL and isinstance(denial.resource, Instance):
        return replace(step, approvers=approvers(denial.snapshot, denial.caller, denial.resource, denial.context))
    return step


def _oldest(denial: _Denial, taken: Taken) -> int | None:
    """Answer how many seconds ago a login may be at most, as asked; None when it only has to be known."""

    def allows(age: int) -> bool:
        rung = Step(obligation=Obligation.FRESH_LOGIN), _logged_in(timedelta(seconds=age))
        return denial.after({**taken, Obligation.FRESH_LOGIN: rung}).allowed

    if allows(LONGEST_AGE):
        return None
    enough, too_old = 0, LONGEST_AGE
    while too_old - enough > 1:
        middle = (enough + too_old) // 2
        enough, too_old = (middle, too_old) if allows(middle) else (enough, middle)
    return enough
