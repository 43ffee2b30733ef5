"""G14: what still gets a credential when twice as many ask as can be served, and what a forged token costs."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from benchmarks.goals import Outcome, Row, ratios
from benchmarks.profiles import Profile
from benchmarks.world import Loaded, World, world

_CONNECTIONS = 768
"""More than the broker admits at once: whoever asks waits there, not at our side."""


async def measure(folder: Path, profile: Profile) -> Outcome:
    """Measure the peak, most of it, twice of it, and forgers, in turns."""
    async with world(folder) as scene:
        rounds = [await _round(scene, profile.seconds) for _ in range(profile.rounds)]
    peak, busy, over, after, forged = zip(*rounds, strict=True)
    goodput = ratios([each.rate for each in over], [each.rate for each in peak])
    slower = ratios([each.p99 for each in over], [each.p99 for each in busy])
    recovered = ratios([each.rate for each in after], [each.rate for each in peak])
    costs = ratios([each.spent / each.answered for each in forged], [each.spent / each.good for each in peak])
    refused = [median(1 - each.good / each.answered for each in loads) for loads in (over, busy)]
    note = f"peak {median(each.rate for each in peak):.0f}/s; {refused[0]:.0%} turned away, at 80 % {refused[1]:.1%}"
    times = f"{median(each.p99 for each in over):.0f} ms against {median(each.p99 for each in busy):.0f} ms at 80 %"
    cpu = f"{median(each.spent / each.answered for each in forged) * 1000:.2f} ms CPU"
    return Outcome(
        [
            Row("G14 goodput", goodput, 0.9, more_is_better=True, note=note),
            Row("G14 p99", slower, 2, more_is_better=False, note=times),
            Row("G14 after it", recovered, 0.9, more_is_better=True, note="32 at once, right after"),
            Row("G14 forged token", costs, 0.35, more_is_better=False, note=cpu),
        ]
    )


async def _round(scene: World, seconds: float) -> tuple[Loaded, Loaded, Loaded, Loaded, Loaded]:
    peak = (await scene.load("closed", seconds=seconds)).served()
    busy = (await scene.load("open", seconds=seconds, rate=0.8 * peak.rate, connections=128)).served()
    over = (await scene.load("open", seconds=seconds, rate=2 * peak.rate, connections=_CONNECTIONS)).served()
    after = (await scene.load("closed", seconds=seconds)).served()
    forged = await scene.load("closed", seconds=seconds, requests=scene.requests(forged=True), good=401)
    return peak, busy, over, after, forged.only(401)
