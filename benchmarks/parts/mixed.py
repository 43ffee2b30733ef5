"""G13: SSH beside passwords that are opened with keys of 4096 bits, against SSH alone: its p99.

The rates are shares of what the broker can do: a quarter of that for SSH, a tenth for RDP.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from statistics import median

from benchmarks.goals import Outcome, Row, ratios
from benchmarks.profiles import Profile
from benchmarks.world import Loaded, World, load, world

_BITS = 4096
_SSH, _RDP = 0.25, 0.1


async def measure(folder: Path, profile: Profile) -> Outcome:
    """Measure alone and beside in turns."""
    alone, beside = [], []
    async with world(folder, key_bits=_BITS) as scene:
        peak = await scene.peak(profile.seconds)
        for _ in range(profile.rounds):
            alone.append(await _p99(scene, peak, profile.seconds * 2))
            beside.append(await _p99(scene, peak, profile.seconds * 2, rdp=True))
    note = (
        f"p99 {median(beside):.1f} ms against {median(alone):.1f} ms; SSH {peak * _SSH:.0f}/s, RDP {peak * _RDP:.0f}/s"
    )
    return Outcome([Row("G13 beside RDP", ratios(beside, alone), 1.15, more_is_better=False, note=note)])


async def _p99(scene: World, peak: float, seconds: float, *, rdp: bool = False) -> float:
    before = scene.events()
    async with asyncio.TaskGroup() as group:
        loads = [group.create_task(_load(scene, "web-1", "ssh", peak * _SSH, seconds))]
        if rdp:
            loads.append(group.create_task(_load(scene, "win-1", "rdp", peak * _RDP, seconds + 1)))
    added, (ssh, *_) = scene.events() - before, [each.result() for each in loads]
    issued = sum(each.result().statuses["201"] for each in loads)
    assert added["credential.requested"] == added["credential.issued"] == issued, (added, issued)
    return ssh.p99


async def _load(scene: World, instance: str, protocol: str, rate: float, seconds: float) -> Loaded:
    options = {"requests": scene.requests(instance, protocol), "ca": scene.ca, "rate": rate, "seconds": seconds}
    loaded = await load("open", scene.url, options)
    return loaded.only()
