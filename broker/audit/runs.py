"""What the order of events tells: which requests have no answer, and what a broker cannot have left unsealed. Pure.

A start of the service is sealed before anything else is written, a stop is the last thing that it writes, and whatever
an earlier process left is sealed before a new one writes at all. So a start or stop is either under a checkpoint or the
very last event, whenever the process dies. A log with its newest checkpoints removed, so that what they sealed could be
rewritten, does not look like that. Standard library only: the offline verifier uses this too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

STARTED: Final = "service.started"
STOPPED: Final = "service.stopped"
SERVICE_EVENTS: Final = frozenset({STARTED, STOPPED})
MAX_UNSEALED: Final = 65_536
"""More events than these are never left without a checkpoint."""
_REQUESTED = "credential.requested"
_CLOSING = {"credential.issued", "credential.failed"}
_OF_A_RUN = _CLOSING | {_REQUESTED, "credential.denied", STOPPED}
_OUTCOME_UNKNOWN = "outcome_unknown"  # written at a start, so before the run


class Flaw(NamedTuple):
    """The first event that cannot lie where it does, and why."""

    idx: int
    message: str


class Requests:
    """Which requests have no answer. With `answered`, also which were answered: what an earlier part must know."""

    def __init__(self, answered: set[str] | None = None) -> None:
        self._open: dict[str, dict[int, Mapping[str, object]]] = {}
        self._answered = answered

    def take(self, event: str, index: int, members: Mapping[str, object]) -> None:
        """Follow one more event."""
        if event == _REQUESTED:
            self._open.setdefault(_request_id(members), {})[index] = members
        elif event in _CLOSING:
            request_id = _request_id(members)
            self._open.pop(request_id, None)
            if self._answered is not None:
                self._answered.add(request_id)

    def add(self, later: Requests) -> None:
        """Follow what was followed by itself, with its answers, from where this one has come to."""
        for request_id in self._open.keys() & (later._answered or ()):
            del self._open[request_id]
        for request_id, requests in later._open.items():
            self._open.setdefault(request_id, {}).update(requests)

    def open(self) -> dict[int, Mapping[str, object]]:
        """Answer the requests that were neither issued nor failed: their members by index, in order."""
        return dict(sorted(item for requests in self._open.values() for item in requests.items()))


def _request_id(members: Mapping[str, object]) -> str:
    return str(members.get("request_id", ""))


class Runs:
    """Follows the events in their order, from the event `at` on, and is told where a checkpoint seals them."""

    def __init__(self, at: int = 0) -> None:
        self.size = at
        """Index of the next event."""
        self.flaw: Flaw | None = None
        """What is wrong with the events since the last seal."""
        self._sealed = at
        self._running: bool | None = None if at else False  # at the last seal; None while nobody knows
        self._newest = ""  # start or stop since the last seal
        self._requests = Requests()

    def take(self, members: Mapping[str, object]) -> None:
        """Follow one more event."""
        event = str(members.get("event", ""))
        if self.flaw is None and (objection := self._objection(event, members)):
            self.flaw = Flaw(self.size, objection)
        if event in SERVICE_EVENTS:
            self._newest = event
        else:
            self._requests.take(event, self.size, members)
        self.size += 1

    def skip(self, count: int, requests: Requests) -> None:
        """Pass over so many events of these requests, which a checkpoint seals and of which none is a start or stop."""
        self._requests.add(requests)
        self.size += count

    def _objection(self, event: str, members: Mapping[str, object]) -> str:
        if self.size - self._sealed >= MAX_UNSEALED:
            return f"more than {MAX_UNSEALED} events are under no checkpoint"
        if self._newest:
            return f"an event comes after {self._newest}, which is under no checkpoint"
        if self._running is False and event in _OF_A_RUN and members.get("error") != _OUTCOME_UNKNOWN:
            return f"{event} comes when no service was running, and is under no checkpoint"
        return ""

    def seal(self) -> None:
        """Note that a checkpoint covers everything so far."""
        if self._newest:
            self._running = self._newest == STARTED
        self._sealed, self._newest, self.flaw = self.size, "", None

    def open_requests(self) -> dict[int, Mapping[str, object]]:
        """Answer the requests that were neither issued nor failed: their members by index, in order."""
        return self._requests.open()
