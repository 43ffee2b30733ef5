"""Following the log for one anchor: what it was not given yet, in order, and what operators hear of that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from broker.audit.anchors.continuity import Contradicted, History
from broker.audit.anchors.places import Place, sentence
from broker.audit.stores import StoredCheckpoint
from broker.model import Clock, rfc3339


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds: between looks, between attempts (at first, at most), for one attempt, for a claim, at the very end.

    After `late` seconds without its oldest waiting checkpoint, a required anchor makes the service not ready.
    """

    look: float = 2.0
    first_retry: float = 1.0
    longest_retry: float = 60.0
    deadline: float = 15.0
    claim: float = 45.0
    ending: float = 5.0
    late: float = 900.0


class Log(Protocol):
    """The audit log, as far as it keeps who follows it."""

    async def claim(self, follower: str, seconds: float) -> int | None:
        """Keep a follower to this process for so long; answer its position, or None while another has it."""
        ...

    async def advance(self, follower: str, position: int) -> None:
        """Note durably how far a claimed follower has come."""
        ...


Report = Callable[[str, str], object]
"""Told the name of an anchor and what is the matter with it; nothing when it is well again."""


class Follower:
    """Brings checkpoints to one anchor. Among several processes, the one that holds the claim does so."""

    def __init__(self, place: Place, history: History, clock: Clock, report: Report, pace: Pace) -> None:
        self.place = place
        self.trouble = ""
        self.compared = False
        """Whether the log was held against it; until then it is given nothing."""
        self._follower = f"anchor:{place.name}"
        self._history = history
        self._clock = clock
        self._report = report
        self._pace = pace
        self._position: int | None = None
        self._elsewhere = False
        """Whether another process followed when we last asked."""
        self._waiting_since: datetime | None = None
        self._contradicted = False

    def hinders(self) -> bool:
        """Tell whether nothing should be issued because of this anchor."""
        if self._contradicted:
            return True
        if not self.place.required or not self.trouble or self._waiting_since is None:
            return False
        return (self._clock() - self._waiting_since).total_seconds() > self._pace.late

    @property
    def late(self) -> float:
        """For how many seconds the oldest waiting checkpoint has not been taken."""
        return (self._clock() - self._waiting_since).total_seconds() if self._waiting_since else 0.0

    async def run(self, log: Log, alarm: Callable[[str], object]) -> None:
        """Follow the log until cancelled, or until it turns out to be another one."""
        failures = 0
        while not self._contradicted:
            pause = self._pace.look
            try:
                if not await self._follow(log):
                    pause = self._pace.claim / 2  # another process does
                failures = 0
            except Contradicted as problem:
                self._stop(str(problem), alarm)
            except Exception as problem:  # noqa: BLE001 - an anchor may fail in any way; the others go on
                self._failed(sentence(problem))
                failures += 1
                pause = min(self._pace.first_retry * 2.0 ** min(failures - 1, 16), self._pace.longest_retry)
            await asyncio.sleep(pause)

    async def _follow(self, log: Log) -> bool:
        """Bring everything that is there now; False when another process does."""
        if self._position is None:
            await self._claim(log)
        while self._position is not None and (checkpoint := await self._next(self._position)):
            known = self._position
            await self._claim(log)
            if self._position == known:  # otherwise another process has been at it
                await self._bring(checkpoint, known)
                await log.advance(self._follower, checkpoint.size)
                self._position = checkpoint.size
                self._well()
        return self._position is not None

    async def _claim(self, log: Log) -> None:
        self._position = await log.claim(self._follower, self._pace.claim)
        self._elsewhere = self._position is None
        if self._elsewhere:
            self._well()  # how it fares is for the other process to say

    async def _next(self, position: int) -> StoredCheckpoint | None:
        """Answer what comes after so many events; a new anchor begins with the newest."""
        if position:
            return await self._history.following(position)
        newest = await self._history.newest()
        return newest if newest and newest.size else None  # an empty log is no news

    async def _bring(self, checkpoint: StoredCheckpoint, after: int) -> None:
        sealed = datetime.fromtimestamp(checkpoint.time / 1000, UTC)
        self._waiting_since = min(sealed, self._waiting_since or sealed)
        async with asyncio.timeout(self._pace.deadline):
            if not self.compared:  # it could not be reached at the start
                await self.place.anchor.compare(self._history)
                self.compared = True
            await self.place.anchor.take(checkpoint, after, self._history)

    async def finish(self) -> None:
        """Bring what has come since, without noting it: the log is closed."""
        position = self._position or 0  # an end that comes before the first claim brings the newest
        with suppress(Exception):  # the next start brings it again, and says what is wrong
            while not self._elsewhere and not self._contradicted and (checkpoint := await self._next(position)):
                await self._bring(checkpoint, position)
                position = checkpoint.size

    def _well(self) -> None:
        self._waiting_since = None
        if self.trouble:
            self.trouble = ""
            self._report(self.place.name, "")

    def _failed(self, detail: str) -> None:
        since = (
            f"takes no checkpoint since {rfc3339(self._waiting_since)}" if self._waiting_since else "is not followed"
        )
        told, self.trouble = self.trouble, f"{since} ({detail})"
        if self.trouble != told:
            self._report(self.place.name, self.trouble)

    def _stop(self, reason: str, alarm: Callable[[str], object]) -> None:
        self._contradicted = True
        self.trouble = f"contradicts the log: {reason}"
        self._report(self.place.name, self.trouble)
        alarm(f"the anchor {self.place.name} contradicts it: {reason}")
