"""Telling receivers what happened: the audit log is the outbox, and each receiver follows it at its own pace.

At least once, and in order for each receiver. Nothing here holds up an issue: what is told is in the log already.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

from broker.model import Clock, Health
from broker.notification.couriers import Courier, Events, Log
from broker.notification.faults import FaultWatch
from broker.notification.lines import Line, Pace
from broker.outbound.notices import LOG_FAULT, Burst
from broker.outbound.webhooks import Receiver, connected


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbox:
    """What is told, and where it lies: the log called `origin`, its followers, its events, and what can fail of it."""

    origin: str
    log: Log
    events: Events
    healths: Sequence[Callable[[], Health]] = ()
    burst: Burst = field(default_factory=Burst)


@asynccontextmanager
async def notifying(
    receivers: Sequence[Receiver], outbox: Outbox, clock: Clock, pace: Pace | None = None
) -> AsyncIterator[Callable[[], Health]]:
    """Tell each receiver, until the context ends, what it wants to know; answer the health of that.

    An attempt that is under way at the end is broken off; the next start makes it again.
    """
    pace = pace or Pace()
    async with AsyncExitStack() as stack:
        lines = [
            Line(
                receiver,
                await stack.enter_async_context(connected(receiver, clock, seconds=pace.deadline)),
                clock,
                pace,
            )
            for receiver in receivers
        ]
        couriers = [
            Courier(line, outbox.log, outbox.events, origin=outbox.origin, burst=outbox.burst) for line in lines
        ]
        chores: list[Callable[[], Awaitable[None]]] = [courier.run for courier in couriers]
        if alarmed := [line for line in lines if line.receiver.selection.wants(LOG_FAULT)]:
            chores.append(FaultWatch(outbox.healths, alarmed, outbox.origin, clock).run)
        tasks = [asyncio.ensure_future(chore()) for chore in chores]
        stack.push_async_callback(_ended, tasks)
        yield lambda: _health(couriers)


async def _ended(tasks: Sequence[asyncio.Future[None]]) -> None:
    """Cancel all and wait until they are gone."""
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task


def _health(couriers: Sequence[Courier]) -> Health:
    """A receiver that cannot be told hinders nobody: the component is ready, and names it."""
    troubles = [f"{courier.name}: {courier.trouble}" for courier in couriers if courier.trouble]
    return Health("webhooks", ready=True, detail="; ".join(troubles))
