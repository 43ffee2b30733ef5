"""One run of a job at a time, shared by all who want its outcome; and two jobs at once, of which none is left over."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

Outcome = TypeVar("Outcome")
First = TypeVar("First")
Second = TypeVar("Second")


class SingleFlight(Generic[Outcome]):
    """Runs `job` in a task of its own: a waiter that goes away ends neither the job nor the wait of the others."""

    def __init__(self, job: Callable[[], Awaitable[Outcome]]) -> None:
        self._job = job
        self._task: asyncio.Task[Outcome] | None = None

    @property
    def running(self) -> bool:
        """Tell whether a run is under way."""
        return self._task is not None and not self._task.done()

    def start(self) -> asyncio.Task[Outcome]:
        """Answer the run that is under way, else begin one."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
            self._task.add_done_callback(_look_at)
        return self._task

    async def join(self) -> Outcome:
        """Answer the outcome of the run that is under way, else of a new one."""
        return await asyncio.shield(self.start())

    async def stop(self) -> None:
        """End a run that is under way."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._task

    async def _run(self) -> Outcome:
        return await self._job()


async def both(first: Coroutine[Any, Any, First], second: Coroutine[Any, Any, Second]) -> tuple[First, Second]:
    """Do two things at once. When one fails the other is ended first: nothing goes on behind its caller's back."""
    try:
        async with asyncio.TaskGroup() as group:
            one, two = group.create_task(first), group.create_task(second)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return one.result(), two.result()


def _look_at(task: asyncio.Task[Outcome]) -> None:
    """Take note of a failure that nobody waits for; the job has told its owner already."""
    if not task.cancelled():
        task.exception()
