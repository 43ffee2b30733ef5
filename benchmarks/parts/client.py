"""G12: wall time of `broker get` against `aws lightsail get-instance-access-details`."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks.goals import Outcome, Row, ratios
from benchmarks.profiles import Profile
from benchmarks.world import Stage, world

_PROGRAMS = Path(sys.executable).parent
_MORE_ROUNDS = 3


async def measure(folder: Path, profile: Profile) -> Outcome:
    """Run both in turns; the first of each only warms the disk's cache."""
    async with world(folder) as scene:
        environment = {"BROKER_URL": scene.url, "BROKER_CA_FILE": str(scene.ca), "BROKER_TOKEN": scene.tokens()[0]}
        get = [str(_PROGRAMS / "broker"), "get", "web-1"]
        rounds = range(profile.rounds + _MORE_ROUNDS)
        pairs = [(await wall(get, environment), await wall(aws(scene))) for _ in rounds][1:]
    ours, theirs = zip(*pairs, strict=True)
    note = f"{median(ours) * 1000:.0f} ms against {median(theirs) * 1000:.0f} ms"
    return Outcome([Row("G12 broker get", ratios(ours, theirs), 0.2, more_is_better=False, note=note)])


def aws(scene: Stage) -> list[str]:
    """Answer the command of AWS that does the same, but for policies and log."""
    words = ["lightsail", "get-instance-access-details", "--instance-name", "web-1", "--protocol", "ssh"]
    return [str(_PROGRAMS / "aws"), *words, "--region", "eu-west-1", "--endpoint-url", scene.double]


async def wall(words: Sequence[str], environment: Mapping[str, str] | None = None) -> float:
    """Answer the seconds that a command takes."""
    started = perf_counter()
    process = await asyncio.create_subprocess_exec(
        *words, env={**os.environ, **(environment or {})}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    assert await process.wait() == 0, words
    return perf_counter() - started
