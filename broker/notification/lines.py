"""The line to one receiver: one attempt after another, with growing pauses, and what operators hear of that."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from broker.model import Clock, rfc3339
from broker.outbound.notices import Notice
from broker.outbound.webhooks import Fate, Receiver, Send

_log = structlog.get_logger("broker.notify")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds: between two looks at the log, between attempts (at first, at most), for one attempt, for a claim."""

    look: float = 1.0
    note: float = 1.0
    """While there is more to tell, progress is noted so often; a crash repeats what was told since."""
    first_retry: float = 1.0
    longest_retry: float = 600.0
    deadline: float = 10.0
    claim: float = 60.0
    """For so long a process has a receiver to itself; it renews that when half of it is over."""


class Line:
    """Delivers notices to one receiver. `gone` is set once the receiver has said that it wants none any more."""

    def __init__(self, receiver: Receiver, send: Send, clock: Clock, pace: Pace) -> None:
        self.receiver = receiver
        self.pace = pace
        self.gone = False
        self.trouble = ""
        """Since when the receiver takes nothing, and why; empty while all is well."""
        self._send = send
        self._clock = clock

    async def deliver(self, notice: Notice, may: Callable[[], Awaitable[bool]]) -> bool:
        """Try until the receiver takes it; False when it never will, or we may not any more (asked each time)."""
        failures = 0
        while not self.gone and await may():
            outcome = await self._send(notice)
            if outcome.fate is Fate.TAKEN:
                self._recovered()
                return True
            if outcome.fate is Fate.GONE:
                self._dismissed()
                return False
            self._failed(outcome.detail)
            failures += 1
            await asyncio.sleep(max(self._pause(failures), min(outcome.retry_after, self.pace.longest_retry)))
        return False

    def _pause(self, failures: int) -> float:
        """1, 2, 4 … seconds up to ten minutes, each shortened by chance by up to a half: no two in step."""
        full = min(self.pace.first_retry * 2.0 ** min(failures - 1, 32), self.pace.longest_retry)
        return full * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing

    def _failed(self, detail: str) -> None:
        if not self.trouble:
            _log.warning("a receiver of notices cannot be told", receiver=self.receiver.name, detail=detail)
            self._since = rfc3339(self._clock())
        self.trouble = f"takes nothing since {self._since} ({detail})"

    def _recovered(self) -> None:
        if self.trouble:
            _log.info("a receiver of notices is told again", receiver=self.receiver.name)
        self.trouble = ""

    def _dismissed(self) -> None:
        _log.error("a receiver wants no notices any more; they wait until the restart", receiver=self.receiver.name)
        self.gone = True
        self.trouble = "wants no notices any more (status 410)"
