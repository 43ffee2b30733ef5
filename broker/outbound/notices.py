"""Which event of the log becomes which notice, and for whom it is meant. Pure: events in, notices out.

Some notices have the name of their event; the others are derived from what events say. `log_fault` comes from no event:
a log that cannot be written cannot tell so itself.
"""

from __future__ import annotations

import base64
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Final

from broker.model import EVENTS

DENIED_BURST: Final = "denied_burst"
HOST_KEY_CHANGED: Final = "host_key_changed"
LOG_FAULT: Final = "log_fault"
TEST: Final = "notify.test"
NAMES: Final = tuple(sorted((*EVENTS, DENIED_BURST, HOST_KEY_CHANGED, LOG_FAULT)))
"""Every name that a receiver can choose."""

_MAX_ACTORS: Final = 10_000
"""So many people's denials are counted at once; who was denied longest ago is forgotten first."""

Document = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Notice:
    """One message. `id` is the same however often it is sent; `timestamp` is when the thing happened (RFC 3339)."""

    id: str
    type: str
    timestamp: str
    data: Document

    def body(self) -> bytes:
        """Answer the JSON that is sent."""
        members = {"type": self.type, "timestamp": self.timestamp, "data": self.data}
        return json.dumps(members, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Selection:
    """What a receiver wants: names or patterns with `*`, and tags that an instance must have had.

    A notice that is about no instance has no tags to look at, and is sent whatever the tags are.
    """

    patterns: Sequence[str]
    tags: Mapping[str, str] = field(default_factory=dict)

    def wants(self, name: str) -> bool:
        """Tell whether one of the patterns fits the name."""
        return any(fnmatchcase(name, pattern) for pattern in self.patterns)

    def concerns(self, event: Document) -> bool:
        """Tell whether the event is about an instance with these tags, or about none."""
        instance = event.get("instance")
        if not isinstance(instance, Mapping):
            return True
        tags = instance.get("tags")
        had = tags if isinstance(tags, Mapping) else {}
        return all(had.get(name) == value for name, value in self.tags.items())


def unknown_patterns(patterns: Iterable[str]) -> list[str]:
    """Answer, for each pattern that fits no name, a sentence that says which names there are."""
    return [
        f"no event is called {pattern!r}{_guess(pattern)}; there are {', '.join(NAMES)}, and patterns like keys.*"
        for pattern in patterns
        if not any(fnmatchcase(name, pattern) for name in NAMES)
    ]


def _guess(pattern: str) -> str:
    close = get_close_matches(pattern, NAMES, n=1)
    return f", did you mean {close[0]}?" if close else ""


@dataclass(frozen=True, slots=True)
class Burst:
    """So many denials of one person within this time are worth a notice."""

    count: int = 5
    within: timedelta = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class _Denials:
    """The newest denials of one person: their times, the indices of their events, and whether they are a burst."""

    times: deque[datetime]
    indices: deque[int]
    bursting: bool = False


class Bursts:
    """Finds the denial with which a burst begins.

    That is a function of the events of twice the time before alone, so that a reader who begins anew somewhere comes
    to the same: a burst begins with a denial that is the last of enough of them, if the one before it was not.
    """

    def __init__(self, rule: Burst) -> None:
        self.rule = rule
        self._people: dict[str, _Denials] = {}

    def take(self, index: int, event: Document) -> Sequence[int]:
        """Answer the indices of the denials with which a burst begins; empty when none does. Events come in order."""
        person = _person(event)
        if event.get("event") != "credential.denied" or not person:
            return ()
        before = self._people.pop(person, None) or _Denials(
            deque(maxlen=self.rule.count), deque(maxlen=self.rule.count)
        )
        before.times.append(datetime.fromisoformat(str(event["time"])))
        before.indices.append(index)
        enough = len(before.times) == self.rule.count
        bursting = enough and before.times[-1] - before.times[0] < self.rule.within
        self._people[person] = _Denials(before.times, before.indices, bursting)  # at the end: the order is by age
        if len(self._people) > _MAX_ACTORS:
            del self._people[next(iter(self._people))]
        return tuple(before.indices) if bursting and not before.bursting else ()


def _person(event: Document) -> str:
    actor = event.get("actor")
    return f"{actor.get('issuer')}/{actor.get('subject')}" if isinstance(actor, Mapping) else ""


@dataclass(frozen=True, slots=True)
class Told:
    """An event as it lies in the log called `log`."""

    log: str
    index: int
    leaf_hash: bytes
    event: Document


def notices(told: Told, selection: Selection, bursts: Bursts) -> list[Notice]:
    """Answer what a receiver is told because of one event. `bursts` must have taken every event before it."""
    burst = bursts.take(told.index, told.event)
    found: dict[str, Document] = {name: {} for name in _names(told.event)}
    if burst:
        found[DENIED_BURST] = _burst(burst, bursts.rule)
    if not selection.concerns(told.event):
        found = {name: more for name, more in found.items() if name == DENIED_BURST}  # is about a person
    return [_notice(told, name, more) for name, more in found.items() if selection.wants(name)]


def _names(event: Document) -> Iterator[str]:
    name = str(event.get("event"))
    yield name
    if name == "credential.failed" and event.get("error") == HOST_KEY_CHANGED:
        yield HOST_KEY_CHANGED


def _burst(indices: Sequence[int], rule: Burst) -> Document:
    return {"denials": list(indices), "within_seconds": int(rule.within.total_seconds())}


def _notice(told: Told, name: str, more: Mapping[str, object]) -> Notice:
    data = {
        "log": told.log,
        "index": told.index,
        "leaf_hash": base64.b64encode(told.leaf_hash).decode(),
        **more,
        "event": told.event,
    }
    # No dot may stand in an id: it parts the members of what is signed.
    return Notice(f"{name.replace('.', '-')}_{told.leaf_hash.hex()}", name, str(told.event.get("time")), data)


def log_fault(message_id: str, timestamp: str, log: str, fault: Mapping[str, object]) -> Notice:
    """Answer the notice that a part of the log turned bad, or good again."""
    return Notice(message_id, LOG_FAULT, timestamp, {"log": log, **fault})


def trial(message_id: str, timestamp: str, log: str) -> Notice:
    """Answer a notice that says nothing but that notices arrive."""
    return Notice(message_id, TEST, timestamp, {"log": log, "message": "This is a test of the broker's notices."})
