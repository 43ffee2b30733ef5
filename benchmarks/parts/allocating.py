"""Allocations of the broker for each credential against those of a direct call: what no neighbour disturbs.

Few people ask, one after the other, and their tokens are known after a moment. What follows a request later, as the
index of words, is waited for; what the broker allocates while nobody asks is taken off.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks.counted import allocations_in, compiled
from benchmarks.goals import Outcome, ratios
from benchmarks.profiles import Profile
from benchmarks.progress import say
from benchmarks.world import Stage, World, load, world

_PEOPLE = 20
_REQUESTS_A_SECOND = 100
_SETTLED = 3.0
"""Seconds after which nothing is left to be done for earlier requests."""


async def measure(folder: Path, profile: Profile) -> Outcome:
    """Count both in turns."""
    library = compiled(folder)
    ours, theirs = folder / "ours", folder / "theirs"
    count = int(profile.seconds * _REQUESTS_A_SECOND)
    issued, called = [], []
    async with world(folder / "world", under=_counting(library, ours)) as scene:
        await _of_a_credential(scene, ours, count)
        for _ in range(profile.rounds):
            issued.append(await _of_a_credential(scene, ours, count))
            called.append(await _of_a_call(scene, _counting(library, theirs), theirs, profile.seconds))
    say(f"{median(issued):,.0f} allocations a credential, {median(called):,.0f} a direct call")
    return Outcome([], figures={"allocations ssh": median(ratios(issued, called))})


async def _of_a_credential(scene: World, file: Path, count: int) -> float:
    before, started = allocations_in(file), perf_counter()
    await asyncio.sleep(_SETTLED)
    idle = (allocations_in(file) - before) / (perf_counter() - started)
    before, started = allocations_in(file), perf_counter()
    loaded = await scene.load("closed", requests=scene.requests(people=_PEOPLE), connections=1, count=count)
    await asyncio.sleep(_SETTLED)
    spent = allocations_in(file) - before - idle * (perf_counter() - started)
    return spent / loaded.only().statuses["201"]


async def _of_a_call(scene: Stage, under: tuple[str | Path, ...], file: Path, seconds: float) -> float:
    options = {"connections": 1, "seconds": seconds, "instance": "web-1"}
    called = await load("direct", scene.double, options, meter=partial(allocations_in, file), under=under)
    return called.only().spent / called.answered


def _counting(library: Path, file: Path) -> tuple[str | Path, ...]:
    return sys.executable, "-m", "benchmarks.counted", library, file
