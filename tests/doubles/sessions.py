"""A log of threads, in memory."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass

from broker.audit.events import document
from broker.errors import Superseded
from broker.model import Clock, Event, Receipt, rfc3339


@dataclass(frozen=True)
class Told:
    """What is known of one thread."""

    facts: str


class ThreadBook:
    """Keeps what events say by their thread, and lets a thread go on only from its newest event."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.facts: defaultdict[str, list[dict[str, object]]] = defaultdict(list)

    async def append(self, event: Event, *, after: int | None = None) -> Receipt:
        """Write one event."""
        index = sum(map(len, self.facts.values()))
        thread = self.facts[str(event.details["thread"])]
        if after is not None and after != (thread[-1]["index"] if thread else -1):
            raise Superseded
        thread.append({"index": index, "time": rfc3339(self._clock()), **document(event)})
        return Receipt(index, bytes(32), self._clock())

    async def thread(self, thread: str) -> Told | None:
        """Answer one thread."""
        found = self.facts.get(thread)
        return Told("".join(json.dumps(fact) + "\n" for fact in found)) if found else None
