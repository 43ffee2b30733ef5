"""G10: the memory of the service after many requests, and how much it grows with many more."""

from __future__ import annotations

from pathlib import Path

from benchmarks.goals import Outcome, Row
from benchmarks.processes import memory_of
from benchmarks.profiles import Profile
from benchmarks.world import world

_AT_ONCE = 50_000
"""So many requests are one load, to be checked against the log."""


async def measure(folder: Path, profile: Profile) -> Outcome:
    """Ask, look, ask more, look again. There are no rounds: what was once asked stays asked."""
    first, last = profile.requests
    asked, found = 0, []
    async with world(folder) as scene:
        for end in (first, last):
            while asked < end:
                loaded = await scene.load("closed", count=min(_AT_ONCE, end - asked))
                asked += loaded.served().statuses["201"]
            found.append(memory_of(scene.broker))
    note = f"after {first:,} requests {found[0]:.0f} MB, after {last:,} {found[1]:.0f} MB"
    return Outcome(
        [
            Row("G10 memory", found[:1], 160, more_is_better=False, note=note, unit="MB"),
            Row(
                "G10 growth",
                [found[1] / found[0]],
                1.05,
                more_is_better=False,
                note=f"of {last / first:g} times as many",
            ),
        ]
    )
