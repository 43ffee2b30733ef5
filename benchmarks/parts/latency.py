"""G3: what the broker adds to a call of 30 ms, in units of what no such service can save.

Open-loop loads through one generator: the bare call, an HTTPS echo, and the broker, at half of what the broker can do.
Added is the difference of the quantiles of broker and bare call; the unit is the echo plus two syncs of the disk.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.goals import Outcome, Row
from benchmarks.plots import Plot
from benchmarks.world import Loaded, World, helper, load, world

if TYPE_CHECKING:
    from benchmarks.profiles import Profile

UPSTREAM = 0.03
CONNECTIONS = 64
LOADS = (0.1, 0.25, 0.75, 0.9)
_RECORD = b"x" * 359
_SYNCS = 200


async def measure(folder: Path, profile: Profile) -> Outcome:
    """Measure at half load, then once at the other loads for the picture."""
    async with world(folder, delay=UPSTREAM) as scene:
        with helper("benchmarks.echo", str(folder)) as echo:
            peak = await scene.peak(profile.seconds, CONNECTIONS)
            rounds = [await _round(scene, echo, peak / 2, profile.seconds) for _ in range(profile.rounds)]
            others = {share: await _pair(scene, echo, peak * share, profile.seconds) for share in LOADS}
    halves = [(echoed, issued) for _, echoed, _, issued in rounds]
    note = f"{peak / 2:.0f}/s; F {median(sync for sync, *_ in rounds):.2f} ms"
    return Outcome(
        [_row("p50", 3.5, rounds, note), _row("p99", 2.5, rounds, note)],
        [_plot({**others, 0.5: halves[0]}, peak)],
    )


async def _round(scene: World, echo: str, rate: float, seconds: float) -> tuple[float, Loaded, Loaded, Loaded]:
    sync = sync_milliseconds(scene.folder)
    call = await _open(scene.double, rate, seconds, requests=_bare_call(scene), good=200)
    return sync, await _echo(scene, echo, rate, seconds), call, await _broker(scene, rate, seconds * 2)


async def _pair(scene: World, echo: str, rate: float, seconds: float) -> tuple[Loaded, Loaded]:
    return await _echo(scene, echo, rate, seconds), await _broker(scene, rate, seconds)


async def _echo(scene: World, echo: str, rate: float, seconds: float) -> Loaded:
    return await _open(echo, rate, seconds, requests=scene.requests(), ca=scene.ca)


async def _broker(scene: World, rate: float, seconds: float) -> Loaded:
    return (await scene.load("open", rate=rate, seconds=seconds, connections=CONNECTIONS)).only()


async def _open(url: str, rate: float, seconds: float, *, good: int = 201, **options: object) -> Loaded:
    words = {"rate": rate, "seconds": seconds, "good": good, "connections": CONNECTIONS, **options}
    return (await load("open", url, words)).only(good)


def _bare_call(scene: World) -> Path:
    """Write the call that the broker makes of Lightsail, unsigned: the double replays what it has learnt."""
    body = json.dumps({"instanceName": "web-1", "protocol": "ssh"}).encode()
    path = scene.folder / "bare-call"
    path.write_bytes(
        b"POST / HTTP/1.1\r\nHost: lightsail\r\nX-Amz-Target: Lightsail_20161128.GetInstanceAccessDetails\r\n"
        b"Content-Type: application/x-amz-json-1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    return path


def sync_milliseconds(folder: Path) -> float:
    """Answer F: how long fdatasync takes in a folder after a record was appended, the median of many."""
    times = []
    with (folder / "synced").open("wb", buffering=0) as file:
        for _ in range(_SYNCS):
            file.write(_RECORD)
            started = perf_counter()
            os.fdatasync(file.fileno())
            times.append(perf_counter() - started)
    return median(times) * 1000


def _row(quantile: str, target: float, rounds: list[tuple[float, Loaded, Loaded, Loaded]], note: str) -> Row:
    parts = [(sync, *(getattr(each, quantile) for each in loads)) for sync, *loads in rounds]
    values = [(issued - call) / (echoed + 2 * sync) for sync, echoed, call, issued in parts]
    added = median(issued - call for _, _, call, issued in parts)
    told = f"{added:.1f} ms added, echo {median(echoed for _, echoed, _, _ in parts):.1f} ms; {note}"
    return Row(f"G3 {quantile}", values, target, more_is_better=False, note=told)


def _plot(loads: dict[float, tuple[Loaded, Loaded]], peak: float) -> Plot:
    shares = sorted(loads)
    return Plot(
        name="latency-by-load",
        title=f"Latency by load, with a Lightsail that takes {UPSTREAM * 1000:.0f} ms",
        across=f"load, % of the {peak:.0f} credentials a second that come out at most",
        up="milliseconds",
        lines={
            "broker, p99": [(share * 100, loads[share][1].p99) for share in shares],
            "broker, median": [(share * 100, loads[share][1].p50) for share in shares],
            "HTTPS echo, p99": [(share * 100, loads[share][0].p99) for share in shares],
            "HTTPS echo, median": [(share * 100, loads[share][0].p50) for share in shares],
        },
    )
