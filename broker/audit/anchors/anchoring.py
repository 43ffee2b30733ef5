"""Anchors: places elsewhere that are given every checkpoint, so that the log cannot go back behind what they hold.

An anchor follows the log at its own pace and in order; nothing here holds up an issue. What an anchor holds is outside
knowledge: a log that is shorter, or has another past, is not the log that was anchored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from broker.audit.anchors.continuity import Contradicted, History
from broker.audit.anchors.following import Follower, Log, Pace, Report
from broker.audit.anchors.places import Place, sentence
from broker.errors import AuditUnavailable
from broker.model import Clock, Health, Measure


@dataclass(frozen=True, slots=True)
class Compared:
    """How the log stands to an anchor: a contradiction, or why nobody knows; both empty when all is well."""

    place: Place
    contradiction: str = ""
    hindrance: str = ""


class Anchors:
    """All anchors of one log: the check at the start, the chore of each, and their health."""

    def __init__(
        self, places: Sequence[Place], history: History, clock: Clock, report: Report, pace: Pace | None = None
    ) -> None:
        self._pace = pace or Pace()
        self._report = report
        self._history = history
        self._followers = [Follower(place, history, clock, report, self._pace) for place in places]

    async def check(self) -> None:
        """Hold the log against every anchor that can be reached; those that cannot are reported.

        Raises:
            AuditUnavailable: the log is not a continuation of what was anchored, or cannot be read.
        """
        found = await self.compare()
        for follower, each in zip(self._followers, found, strict=True):
            follower.compared = not each.hindrance
            if each.hindrance:
                self._report(each.place.name, f"not compared at the start: {each.hindrance}")
        if problems := [f"anchor {each.place.name}: {each.contradiction}" for each in found if each.contradiction]:
            raise AuditUnavailable("the audit log is not the one that was anchored: " + "; ".join(problems))

    async def compare(self) -> Sequence[Compared]:
        """Hold the log against every anchor. Raises AuditUnavailable when the log cannot be read."""
        return await asyncio.gather(*(self._compare(follower.place) for follower in self._followers))

    async def _compare(self, place: Place) -> Compared:
        try:
            async with asyncio.timeout(self._pace.deadline):
                await place.anchor.compare(self._history)
        except Contradicted as problem:
            return Compared(place, contradiction=str(problem))
        except AuditUnavailable:
            raise
        except Exception as problem:  # noqa: BLE001 - whatever hinders a place elsewhere, the start goes on
            return Compared(place, hindrance=sentence(problem))
        return Compared(place)

    def chores(self, log: Log, alarm: Callable[[str], object]) -> Iterator[Coroutine[None, None, None]]:
        """Answer what brings new checkpoints to each anchor, until cancelled; `alarm` hears of a contradiction."""
        return (follower.run(log, alarm) for follower in self._followers)

    async def finish(self) -> None:
        """Bring what was sealed at the end of the log, once; what is not taken then is brought at the next start."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pace.ending):
                await asyncio.gather(*(follower.finish() for follower in self._followers))

    def measures(self) -> Iterator[Measure]:
        """Answer how late each anchor is."""
        for follower in self._followers:
            yield Measure("audit_anchor_late_seconds", follower.late, (follower.place.name,))

    def health(self) -> Health:
        """Tell whether every required anchor takes checkpoints, and what is the matter with any."""
        troubles = [f"{follower.place.name}: {follower.trouble}" for follower in self._followers if follower.trouble]
        return Health("anchors", ready=not any(each.hinders() for each in self._followers), detail="; ".join(troubles))
