"""The clock of the log, held against its newest event: one that was set back is told, and marked in the log.

The order of events is that of their indices, so nothing is lost when times overlap; but whoever reads times must know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from broker.audit.events import Document
from broker.audit.leaves import milliseconds
from broker.model import Clock, rfc3339

TOLERANCE = 60.0
"""A clock may be so many seconds behind the newest event: it is adjusted now and then, and replicas have their own."""
SET_BACK = "set_back"


class Timekeeper:
    """Tells the time, how far it is behind, and marks the first event after it was set back. For one thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._newest = 0
        self._marked = False
        self.behind = 0.0
        """By how many seconds the clock was set back; 0 again once it has caught up with the newest event."""

    def now(self) -> str:
        """Answer the time, in the form of events."""
        time = rfc3339(self._clock())
        behind = (self._newest - milliseconds(time)) / 1000
        if behind > TOLERANCE or (self.behind and behind > 0):
            self.behind = behind
        else:
            self.behind, self._marked = 0.0, False
        return time

    def remember(self, members: Iterable[Mapping[str, object]]) -> None:
        """Take the times of events into account that are in the log."""
        times = (event.get("time") for event in members)
        self._newest = max((milliseconds(time) for time in times if isinstance(time, str)), default=self._newest)

    def marked(self, documents: Sequence[Document]) -> Sequence[Document]:
        """Answer the same documents; the first has member `clock` when it is the first since the clock was set back."""
        if not self.behind or self._marked or not documents:
            return documents
        return [documents[0] | {"clock": SET_BACK}, *documents[1:]]

    def written(self, time: str, documents: Sequence[Document]) -> None:
        """Note that documents of that time are in the log."""
        self._newest = max(self._newest, milliseconds(time))
        self._marked = self._marked or any("clock" in members for members in documents)
