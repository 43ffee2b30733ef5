"""Breaking the glass: it works at once, and leaves a debt until somebody else has looked at it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from broker.approvals.facts import Fact, Person, details, instance, moment, person, protocol
from broker.model import Caller, InstanceRef, Protocol

USED: Final = "break_glass.used"
REVIEWED: Final = "break_glass.reviewed"
_ISSUED: Final = "credential.issued"
_NOTHING_LEFT: Final = frozenset({"credential.failed", "credential.withheld"})


@dataclass(frozen=True, slots=True, kw_only=True)
class GlassUse:
    """One person's newest breaking of the glass. `settled` once it was reviewed, or when nothing came of it.

    `thread` is the same for every use of one person; `index` is the event of this one.
    """

    thread: str
    index: int
    last_index: int
    person: Person
    instance: InstanceRef
    protocol: Protocol
    reason: str
    ticket: str
    used_at: datetime
    issued: bool
    settled: bool
    reviewed_by: Person | None = None
    reviewed_at: datetime | None = None
    verdict: str = ""
    review: str = ""

    @property
    def id(self) -> str:
        """Name this use: the next one of the same person has another name."""
        return f"{self.thread.removeprefix(_PREFIX)}-{self.index}"


_PREFIX: Final = "glass-"


def thread_of(caller: Caller) -> str:
    """Name the thread of one person's uses: whoever has an open debt cannot begin another."""
    return _PREFIX + hashlib.sha256(f"{caller.issuer}\0{caller.subject}".encode()).hexdigest()[:32]


def thread_named(use: str) -> str:
    """Answer the thread that a use of this name would be in."""
    return _PREFIX + use.partition("-")[0]


def use_of(thread: str, facts: Sequence[Fact]) -> GlassUse:
    """Fold the facts of the newest use, the oldest first."""
    first, last = facts[0], facts[-1]
    review = next((fact for fact in facts if fact["event"] == REVIEWED), None)
    # Of one whose end nobody knows a credential may be out.
    nothing_left = any(fact["event"] in _NOTHING_LEFT and fact.get("outcome") == "failure" for fact in facts)
    return GlassUse(
        thread=thread,
        index=first["index"],
        last_index=last["index"],
        person=person(first),
        instance=instance(first),
        protocol=protocol(first),
        reason=first.get("reason", ""),
        ticket=first.get("ticket", ""),
        used_at=moment(first["time"]),
        issued=any(fact["event"] == _ISSUED for fact in facts) and not nothing_left,
        settled=review is not None or nothing_left,
        reviewed_by=person(review) if review else None,
        reviewed_at=moment(review["time"]) if review else None,
        verdict=details(review).get("verdict", "") if review else "",
        review=review.get("reason", "") if review else "",
    )
