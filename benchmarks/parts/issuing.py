"""G1 and G2: credentials of the broker against direct calls of one shared client, 32 at a time."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from benchmarks.goals import Outcome, Row, ratios
from benchmarks.profiles import Profile
from benchmarks.world import World, direct, world

WHAT = {"ssh": ("web-1", 0.8, 1.4), "rdp": ("win-1", 0.7, 2.0)}
"""Of each protocol: the instance, which throughput is wanted at least, and which CPU cost at most."""


async def measure(folder: Path, profile: Profile) -> Outcome:
    """Measure both protocols."""
    async with world(folder) as scene:
        outcomes = [await _of(scene, protocol, profile) for protocol in WHAT]
    figures = {name: figure for outcome in outcomes for name, figure in outcome.figures.items()}
    return Outcome([row for outcome in outcomes for row in outcome.rows], figures=figures)


async def _of(scene: World, protocol: str, profile: Profile) -> Outcome:
    instance, at_least, at_most = WHAT[protocol]
    requests = scene.requests(instance, protocol)
    ours, theirs = [], []
    for _ in range(profile.rounds):
        theirs.append(await direct(scene, instance, protocol, seconds=profile.seconds))
        ours.append((await scene.load("closed", requests=requests, seconds=profile.seconds)).only())
    rates = [each.rate for each in ours], [each.rate for each in theirs]
    costs = [each.spent / each.good for each in ours], [each.own_cpu / each.good for each in theirs]
    cpu = ratios(*costs)
    return Outcome(
        [
            Row(
                f"G1 {protocol}",
                ratios(*rates),
                at_least,
                more_is_better=True,
                note=f"{median(rates[0]):.0f}/s against {median(rates[1]):.0f}/s",
            ),
            Row(
                f"G2 {protocol}",
                cpu,
                at_most,
                more_is_better=False,
                note=f"{median(costs[0]) * 1000:.2f} ms CPU a credential, {median(costs[1]) * 1000:.2f} ms a call",
            ),
        ],
        figures={f"cpu {protocol}": median(cpu)},
    )
