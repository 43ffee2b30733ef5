"""A request for access: what became of it follows from its events and the time, and from nothing else.

    created ──▶ pending ──▶ approved ──▶ ended
                   │            │
                   ├─▶ denied   └─▶ cancelled
                   ├─▶ cancelled
                   └─▶ expired

`pending_until` bounds how long it waits, `duration` how long the access lasts. That clock starts when the last approval
that is needed has come, or at the wanted start if that is later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Literal

from broker.approvals.facts import Fact, Person, details, instance, moment, moment_or_none, person, protocol
from broker.model import Caller, InstanceRef, Protocol, RequestContext

CREATED: Final = "request.created"
APPROVED: Final = "request.approved"
DENIED: Final = "request.denied"
CANCELLED: Final = "request.cancelled"
EXPIRED: Final = "request.expired"
OPEN: Final = (CREATED, APPROVED)
"""The newest event of a request that may still be pending."""


class State(StrEnum):
    """Where a request stands."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Approval:
    """One approver's yes."""

    approver: Person
    at: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRequest:
    """What somebody asked for, and what others said to it.

    `last_index` is its newest event: who goes on from this has seen all that there is. `starts_at` and `ends_at` are
    there once it is approved.
    """

    id: str
    index: int
    last_index: int
    requester: Person
    kind: Literal["user", "workload"]
    groups: tuple[str, ...]
    instance: InstanceRef
    protocol: Protocol
    reason: str
    ticket: str
    created_at: datetime
    duration: timedelta
    wanted_start: datetime | None
    pending_until: datetime
    approvals_needed: int
    approvals: tuple[Approval, ...] = ()
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    closed: State | None = None
    closed_by: Person | None = None
    closing_reason: str = ""

    @property
    def approvers(self) -> tuple[Person, ...]:
        """Who has said yes."""
        return tuple(approval.approver for approval in self.approvals)

    def state(self, now: datetime) -> State:
        """Answer where it stands at a time."""
        if self.closed is not None:
            return self.closed
        if self.ends_at is not None:
            return State.APPROVED if now < self.ends_at else State.ENDED
        return State.PENDING if now < self.pending_until else State.EXPIRED

    def is_in_force(self, now: datetime) -> bool:
        """Tell whether it opens anything now."""
        return self.state(now) is State.APPROVED and self.starts_at is not None and self.starts_at <= now

    def at_best(self, now: datetime, approvals: int, source_ip: str) -> tuple[Caller, RequestContext]:
        """Answer the requester with all that they can still show: what the policies then say bounds what they may get.

        What they really show is asked when they use it.
        """
        requester = Caller(
            issuer=self.requester.issuer,
            subject=self.requester.subject,
            kind=self.kind,
            groups=self.groups,
            email=self.requester.email or None,
            mfa=True,
            authenticated_at=now,
            bound=True,
            token_expires_at=now,
        )
        circumstances = RequestContext(
            now=now, source_ip=source_ip, reason=self.reason, ticket=self.ticket, approvals=approvals
        )
        return requester, circumstances


def request_of(thread: str, facts: Sequence[Fact]) -> AccessRequest:
    """Fold the facts of a request, the oldest first."""
    request = _created(thread, facts[0])
    for fact in facts[1:]:
        request = _told(request, fact)
    return request


def _created(thread: str, fact: Fact) -> AccessRequest:
    said, actor = details(fact), fact["actor"]
    return AccessRequest(
        id=thread,
        index=fact["index"],
        last_index=fact["index"],
        requester=person(fact),
        kind=actor["kind"],
        groups=tuple(actor.get("groups", ())),
        instance=instance(fact),
        protocol=protocol(fact),
        reason=fact.get("reason", ""),
        ticket=fact.get("ticket", ""),
        created_at=moment(fact["time"]),
        duration=timedelta(seconds=said["duration"]),
        wanted_start=moment_or_none(said.get("wanted_start")),
        pending_until=moment(said["pending_until"]),
        approvals_needed=said["approvals_needed"],
    )


def _told(request: AccessRequest, fact: Fact) -> AccessRequest:
    request = replace(request, last_index=fact["index"])
    event, said = fact["event"], details(fact)
    if event == APPROVED:
        approval = Approval(person(fact), moment(fact["time"]), fact.get("reason", ""))
        return replace(
            request,
            approvals=(*request.approvals, approval),
            approvals_needed=said["approvals_needed"],
            starts_at=moment_or_none(said.get("starts_at")),
            ends_at=moment_or_none(said.get("ends_at")),
        )
    closing = {DENIED: State.DENIED, CANCELLED: State.CANCELLED, EXPIRED: State.EXPIRED}.get(event)
    if closing is None:
        return request
    by = person(fact) if fact.get("actor") else None
    return replace(request, closed=closing, closed_by=by, closing_reason=fact.get("reason", ""))
