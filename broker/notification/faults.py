"""Telling that the audit log, or a place where it is anchored, turned bad or good again.

That cannot wait in the log, which may be what is broken. It is kept in memory instead: it is sent as soon as it can be,
and lost when the process ends before; each process tells what it sees itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final
from uuid import uuid4

from broker.model import Clock, Health, rfc3339
from broker.notification.lines import Line
from broker.outbound.notices import Notice, log_fault

_MAX_WAITING: Final = 100
"""So many notices wait for one receiver; the oldest are forgotten first."""


class FaultWatch:
    """Looks at the health of components; a fault is one that is not ready, or says what is the matter with it."""

    def __init__(
        self, healths: Sequence[Callable[[], Health]], lines: Sequence[Line], origin: str, clock: Clock
    ) -> None:
        self._healths = healths
        self._queues = [_Queue(line) for line in lines]
        self._origin = origin
        self._clock = clock
        self._faulty: set[str] = set()

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            for queue in self._queues:
                group.create_task(queue.run())
            while True:
                for health in self._healths:
                    self._look(health())
                await asyncio.sleep(min(queue.line.pace.look for queue in self._queues))

    def _look(self, health: Health) -> None:
        faulty = not health.ready or bool(health.detail)
        if faulty == (health.component in self._faulty):
            return
        self._faulty ^= {health.component}
        fault = {"component": health.component, "faulty": faulty, "ready": health.ready, "detail": health.detail}
        notice = log_fault(f"log-fault_{uuid4().hex}", rfc3339(self._clock()), self._origin, fault)
        for queue in self._queues:
            queue.put(notice)


class _Queue:
    """What one receiver is still to be told."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self._waiting: deque[Notice] = deque(maxlen=_MAX_WAITING)
        self._filled = asyncio.Event()

    def put(self, notice: Notice) -> None:
        self._waiting.append(notice)
        self._filled.set()

    async def run(self) -> None:
        while not self.line.gone:
            await self._filled.wait()
            self._filled.clear()
            while self._waiting and await self.line.deliver(self._waiting.popleft(), _always):
                pass


async def _always() -> bool:
    return True
