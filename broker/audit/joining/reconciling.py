"""Holds the minting calls that CloudTrail saw against what the log says of them (pure).

They are joined by the id that AWS gave to the request. CloudTrail delivers late, in no order, and some records twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from broker.audit.events import decode
from broker.audit.joining.cloudtrail import Call, Covered
from broker.audit.leaves import search_columns
from broker.audit.stores import Filters, Found

MINUTE: Final = 60_000
MARGIN: Final = 60 * MINUTE
"""How far from its call an event is looked for, in milliseconds; opening a password takes seconds."""
EVENTS: Final = ("credential.issued", "credential.failed")
"""Those that follow a call. What AWS minted and the broker could not open or record has failed, and is known."""


class Kind(StrEnum):
    """What was found. The last is for information: CloudTrail's delivery is best effort."""

    UNKNOWN = "not in the log"
    ELSEWHERE = "other instance"
    STRANGER = "other principal"
    SHARED = "shared request id"
    MISSING = "not in CloudTrail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """An event of the log that follows a call. `time` is milliseconds since 1970."""

    index: int
    time: int
    event: str
    outcome: str
    actor: str
    instance: str
    protocol: str
    request_id: str
    upstream_request_id: str


class Finding(NamedTuple):
    """Something that does not fit. `perhaps` are events whose outcome nobody knows, and which may be of this call."""

    kind: Kind
    call: Call | None
    noted: Noted | None
    perhaps: tuple[int, ...] = ()


@dataclass(slots=True)
class Calls:
    """The calls of a trail, each once: those that minted by their request id, of others the number."""

    minted: dict[str, list[Call]] = field(default_factory=dict)
    failed: int = 0
    repeated: int = 0

    def take(self, call: Call) -> None:
        """Sort a call in."""
        if call.error:
            self.failed += 1
            return
        known = self.minted.setdefault(call.request_id, [])
        if any(other.event_id == call.event_id for other in known):
            self.repeated += 1
        else:
            known.append(call)

    def __iter__(self) -> Iterator[Call]:
        return (call for calls in self.minted.values() for call in calls)


def windows(calls: Calls, covered: Mapping[str, Covered]) -> list[Filters]:
    """Answer where events are looked for: as far as the trail reaches, and a bit more."""
    times = [call.time for call in calls] + [time for region in covered.values() for time in region]
    if not times:
        return []
    since, until = min(times) - MARGIN, max(times) + MARGIN
    return [Filters(event=event, since=since, until=until) for event in EVENTS]


def noted(found: Found) -> Noted:
    """Read an event; raises ValueError when it cannot be."""
    members = decode(found.record.leaf)
    columns = search_columns(members)
    upstream, protocol = members.get("upstream_request_id"), members.get("protocol")
    return Noted(
        index=found.record.idx,
        time=found.time,
        event=columns.event,
        outcome=columns.outcome,
        actor=columns.actor,
        instance=columns.instance,
        protocol=protocol if isinstance(protocol, str) else "",
        request_id=columns.request_id,
        upstream_request_id=upstream if isinstance(upstream, str) else "",
    )


def reconcile(
    calls: Calls, events: Iterable[Noted], covered: Mapping[str, Covered], *, lag: int, principal: str = ""
) -> list[Finding]:
    """Answer what does not fit, by time.

    Args:
        calls: of the trail.
        events: of the log, in any order; of each only what is needed is kept.
        covered: which time of which region the trail has.
        lag: by how many milliseconds CloudTrail may be late.
        principal: the ARN of the broker's user or role; empty when any may be the broker.
    """
    known: dict[str, list[Noted]] = {}
    unclear: list[Noted] = []
    findings: list[Finding] = []
    for event in events:
        if event.upstream_request_id in calls.minted and event.upstream_request_id:
            known.setdefault(event.upstream_request_id, []).append(event)
        elif event.event == "credential.issued" and _is_covered(event, covered, lag):
            findings.append(Finding(Kind.MISSING, None, event))
        elif event.outcome == "unknown" and not event.upstream_request_id:
            unclear.append(event)
    for call in calls:
        findings += _compared(call, calls.minted[call.request_id], known.get(call.request_id, []), unclear, principal)
    return sorted(findings, key=_moment)


def is_by(call: Call, principal: str) -> bool:
    """Tell whether a call is by a user, or in a session of a role, of this ARN."""
    return principal in {call.principal, call.role}


def _compared(
    call: Call, same_id: list[Call], events: list[Noted], unclear: list[Noted], principal: str
) -> Iterator[Finding]:
    if not events:
        perhaps = tuple(event.index for event in unclear if _fits(call, event) and call.time <= event.time + MINUTE)
        yield Finding(Kind.UNKNOWN, call, None, perhaps)
        return
    if len(same_id) > 1 or len(events) > 1:
        yield from (Finding(Kind.SHARED, call, event) for event in events)
    if not any(_fits(call, event) for event in events):
        yield Finding(Kind.ELSEWHERE, call, events[0])
    if principal and not is_by(call, principal):
        yield Finding(Kind.STRANGER, call, events[0])


def _fits(call: Call, event: Noted) -> bool:
    """Tell whether a call was for the instance of an event. The account has another name in the log than at AWS."""
    _, region, name = (*event.instance.split("/", 2), "", "", "")[:3]
    return (call.region, call.instance, call.protocol) == (region, name, event.protocol)


def _is_covered(event: Noted, covered: Mapping[str, Covered], lag: int) -> bool:
    """Tell whether the trail should have the call of an event, which comes a moment after it."""
    _, region, _ = (*event.instance.split("/", 2), "", "", "")[:3]
    span = covered.get(region)
    return span is not None and span.first + MINUTE <= event.time <= span.last - lag


def _moment(finding: Finding) -> tuple[int, int]:
    event = finding.noted
    time = finding.call.time if finding.call else event.time if event else 0
    return time, event.index if event else -1
