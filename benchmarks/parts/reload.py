"""G6: what a reload of 10,000 policies once a second does to a broker at half load: its longest stop, and its p99."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import ssl
import urllib.request
from contextlib import suppress
from pathlib import Path
from statistics import median

from benchmarks.goals import Outcome, Row, ratios
from benchmarks.profiles import Profile
from benchmarks.world import Loaded, World, world

_LAG = re.compile(r"^broker_event_loop_lag_seconds (\S+)$", re.MULTILINE)
_LEAST_SECONDS = 5.0


async def measure(folder: Path, profile: Profile) -> Outcome:
    """Measure with and without reloads in turns."""
    seconds = max(profile.seconds, _LEAST_SECONDS)
    without, reloading, stops = [], [], []
    async with world(folder, policy_count=profile.policies) as scene:
        rate = await scene.peak(profile.seconds) / 2
        for _ in range(profile.rounds):
            without.append((await _load(scene, rate, seconds)).p99)
            await _lag(scene)  # the metric tells of the time since it was last read
            reloading.append((await _while_reloading(scene, rate, seconds)).p99)
            stops.append(await _lag(scene) * 1000)
        reloads = scene.events()["policies.loaded"] - 1
    assert reloads >= profile.rounds, reloads
    note = f"{reloads} reloads of {profile.policies:,} policies in {seconds * profile.rounds:.0f} s at {rate:.0f}/s"
    told = f"p99 {median(reloading):.0f} ms against {median(without):.0f} ms"
    return Outcome(
        [
            Row("G6 longest stop", stops, 20, more_is_better=False, note=note, unit="ms"),
            Row("G6 p99", ratios(reloading, without), 1.5, more_is_better=False, note=told),
        ]
    )


async def _load(scene: World, rate: float, seconds: float) -> Loaded:
    return (await scene.load("open", rate=rate, seconds=seconds, connections=64)).only()


async def _while_reloading(scene: World, rate: float, seconds: float) -> Loaded:
    reloads = asyncio.create_task(_reload_each_second(scene))
    try:
        return await _load(scene, rate, seconds)
    finally:
        reloads.cancel()
        with suppress(asyncio.CancelledError):
            await reloads


async def _reload_each_second(scene: World) -> None:
    changing = scene.folder / "policies" / "0000.cedar"
    text = changing.read_text()
    for number in range(1_000_000):
        changing.write_text(f"// {number}\n{text}")
        os.kill(scene.broker, signal.SIGHUP)
        await asyncio.sleep(1)


async def _lag(scene: World) -> float:
    """Answer the longest stop of the event loop, in seconds, as the broker tells it."""
    context = ssl.create_default_context(cafile=str(scene.ca))

    def read() -> str:
        with urllib.request.urlopen(f"{scene.url}/metrics", context=context) as answer:  # noqa: S310 -- the broker's URL
            return str(answer.read().decode())

    found = _LAG.search(await asyncio.to_thread(read))
    assert found is not None
    return float(found[1])
