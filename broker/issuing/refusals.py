"""What is said to whom something is refused: the error, and the exact steps that would help."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from broker.approvals.locks import Lock
from broker.errors import (
    ApprovalRequired,
    Denied,
    HostKeyChanged,
    Locked,
    ProtocolNotSupported,
    ReasonRequired,
    Refused,
    ReviewRequired,
    StepUpRequired,
    TicketRequired,
)
from broker.model import Decision, InstanceRef, Obligation, Platform, Step, rfc3339

_REFUSALS: Final[dict[Obligation, type[Refused]]] = {
    Obligation.MFA: StepUpRequired,
    Obligation.FRESH_LOGIN: StepUpRequired,
    Obligation.REASON: ReasonRequired,
    Obligation.TICKET: TicketRequired,
    Obligation.APPROVAL: ApprovalRequired,
    Obligation.REVIEW: ReviewRequired,
}


def refusal(decision: Decision) -> Refused:
    """Answer the error that names the first obligation; all steps are in it, and in `next` in words."""
    if not decision.steps:
        return Denied("; ".join(decision.errors))
    error = _REFUSALS[decision.steps[0].obligation](next_step=f"To get in, {_enumerated([*_spoken(decision.steps)])}.")
    error.steps = decision.steps
    return error


def _spoken(steps: Sequence[Step]) -> Iterator[str]:
    """Say the steps in words; one login serves two of them."""
    kinds = {step.obligation: step for step in steps}
    if Obligation.MFA in kinds or Obligation.FRESH_LOGIN in kinds:
        factor = " with a second factor" if Obligation.MFA in kinds else ""
        yield f"log in again{factor}{_recently(kinds.get(Obligation.FRESH_LOGIN))}"
    for step in steps:
        match step:
            case Step(obligation=Obligation.REASON | Obligation.TICKET as text, pattern=pattern):
                yield f"give a {text}{f' like {pattern}' if pattern else ''}"
            case Step(obligation=Obligation.APPROVAL):
                yield f"have it approved{_by_whom(step)}"
            case Step(obligation=Obligation.REVIEW):
                yield "have your last break-glass use reviewed"


def _recently(login: Step | None) -> str:
    if login is None or login.max_age is None:
        return ""
    minutes, seconds = divmod(login.max_age, 60)
    ago = _counted(minutes, "minute") if minutes else _counted(seconds, "second")
    return f" (at most {ago} ago)"


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def _by_whom(step: Step) -> str:
    people = f" by {step.approvals} people" if step.approvals > 1 else " by somebody"
    if not step.approvers:
        return people
    whom = " or ".join(step.approvers)
    return f"{people} of {whom}" if all(each.startswith("group ") for each in step.approvers) else f"{people}: {whom}"


def _enumerated(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def locked(lock: Lock) -> Locked:
    """Say what whoever locked it wrote, and how long it lasts."""
    until = f" (until {rfc3339(lock.until)})" if lock.until else ""
    return Locked(
        detail=f"The {lock.kind} {lock.target} is locked: {lock.message}{until}",
        next_step=f"Talk to {lock.created_by}, who locked it.",
    )


def changed(instance: InstanceRef) -> HostKeyChanged:
    """Say that AWS names other host keys than those that an instance is held to."""
    return HostKeyChanged(
        detail="AWS names host keys for this instance that are not the ones it was pinned to, so nothing was issued.",
        next_step="Find out whether the instance was rebuilt or made new keys. If so, somebody who may approve accepts"
        f" them by `broker hosts accept {instance}`.",
    )


def unspoken(platform: Platform) -> ProtocolNotSupported:
    """Say which protocol a platform speaks."""
    return ProtocolNotSupported(
        detail=f"The platform of this instance is {platform}, which speaks {platform.protocol}."
    )
