"""What would have made a denied request succeed: found by asking the same policies again (pure)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from broker.model import Caller, Obligation, RequestContext

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from broker.authorization.snapshot import PolicySnapshot
    from broker.model import Action, Instance

MAX_APPROVALS = 5

Circumstances = tuple[Caller, RequestContext]
Change = Callable[[Circumstances], Circumstances]
Samples = tuple[tuple[str, str], ...]
Ask = Callable[[Caller, RequestContext], bool]


def obligations(
    ask: Ask, caller: Caller, context: RequestContext, samples: Iterable[tuple[str, str]] = ()
) -> tuple[Obligation, ...]:
    """Answer the fewest things that turn the denial into a permit; () when nothing does.

    Args:
        ask: tells whether the policies allow it under other circumstances.
        caller: who was denied.
        context: under which circumstances.
        samples: texts that fit what the policies ask of a `reason` or a `ticket`, as (member, text).
    """
    taken: dict[Obligation, Change] = {}
    for obligation, change in _ladder(caller, context, tuple(samples)):
        taken[obligation] = change  # a later rung of the same kind replaces the earlier one
        if ask(*_apply(taken, caller, context)):
            return _minimal(ask, taken, caller, context)
    return ()


def _ladder(
    caller: Caller, context: RequestContext, samples: tuple[tuple[str, str], ...]
) -> Iterator[tuple[Obligation, Change]]:
    if caller.kind == "user":  # nobody can ask a program for a second factor
        yield Obligation.MFA, lambda now: (replace(now[0], mfa=True), now[1])
        yield Obligation.FRESH_LOGIN, lambda now: (replace(now[0], authenticated_at=now[1].now), now[1])
    texts: tuple[tuple[Obligation, Literal["reason", "ticket"]], ...] = (
        (Obligation.REASON, "reason"),
        (Obligation.TICKET, "ticket"),
    )
    for obligation, member in texts:
        for text in ("given", *(text for other, text in samples if other == member)):
            yield obligation, _text(member, text)
    for count in range(context.approvals + 1, MAX_APPROVALS + 1):
        yield Obligation.APPROVAL, _approvals(count)


def _text(member: Literal["reason", "ticket"], text: str) -> Change:
    if member == "reason":
        return lambda now: (now[0], replace(now[1], reason=text))
    return lambda now: (now[0], replace(now[1], ticket=text))


def _approvals(count: int) -> Change:
    return lambda now: (now[0], replace(now[1], approvals=count))


def _apply(changes: Mapping[Obligation, Change], caller: Caller, context: RequestContext) -> Circumstances:
    now = caller, context
    for change in changes.values():
        now = change(now)
    return now


def _minimal(
    ask: Ask, taken: dict[Obligation, Change], caller: Caller, context: RequestContext
) -> tuple[Obligation, ...]:
    """Leave out, one after the other, what the permit does not need."""
    for obligation in tuple(taken):
        fewer = {other: change for other, change in taken.items() if other is not obligation}
        if fewer and ask(*_apply(fewer, caller, context)):
            taken = fewer
    return tuple(taken)


def lifting(
    snapshot: PolicySnapshot, caller: Caller, action: Action, resource: Instance | str, context: RequestContext
) -> tuple[Obligation, ...]:
    """Answer what would lift a denial by `snapshot`; () at once when no permit could ever hold for this question."""
    candidates = snapshot.candidates(caller, action, resource)
    if not any(rule.effect == "permit" for rule in candidates):
        return ()
    samples = dict.fromkeys(sample for rule in candidates for sample in rule.samples)

    def ask(other: Caller, circumstances: RequestContext) -> bool:
        return snapshot.decide(other, action, resource, circumstances).allowed

    return obligations(ask, caller, context, samples)
