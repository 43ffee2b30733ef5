"""Scale: one, two, four and eight replicas on one PostgreSQL: logs that only append, then services that issue.

The head of the log is one row that each commit locks, so commits queue there whoever makes them. All replicas share
the processors of this machine: what services bring together tells what sharing costs, not what more machines bring.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, quantiles
from typing import Self

import asyncpg

from benchmarks.appending import DENIED
from benchmarks.database import binaries, postgresql
from benchmarks.goals import Outcome, Row
from benchmarks.parts.latency import sync_milliseconds
from benchmarks.plots import Plot
from benchmarks.profiles import Profile
from benchmarks.progress import say
from benchmarks.world import Loaded, Stage, load, serve, stage

WAITERS = 64
"""At once, over all replicas together."""
CONNECTIONS = 32
"""Likewise, of those who ask services."""
_LOOK_SECONDS = 0.02
_WAITING = """\
SELECT count(*) FILTER (WHERE wait_event_type = 'Lock') AS waiting,
count(*) FILTER (WHERE wait_event = 'WALSync') AS syncing
FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()"""


@dataclass(frozen=True, slots=True)
class Appended:
    """What so many logs wrote together; times are in milliseconds."""

    rate: float
    p50: float
    p99: float
    alone_p50: float
    """With one waiter for each log."""
    waiting: float
    """How many commits wait for the head, on average."""
    syncing: float
    """How often one is in a sync of the disk."""
    written: float
    """Bytes of write-ahead log for each event."""


async def measure(folder: Path, profile: Profile) -> Outcome:
    """Measure every number of replicas once, from few to many."""
    if binaries() is None:
        say("  left out: there is no PostgreSQL (initdb, postgres) on this machine")
        return Outcome([])
    most = profile.replicas[-1]
    async with postgresql() as database, stage(folder, database=database) as scene:
        sync = sync_milliseconds(scene.folder)
        appended = {count: await _append(scene, database, count, profile.seconds) for count in profile.replicas}
        for count, each in appended.items():
            say(f"  {count} logs: {each}")
        issued = await _issue(scene, database, profile)
        for count, loads in issued.items():
            say(f"  {count} services: {_rate(loads):.0f}/s, p99 {max(each.p99 for each in loads):.0f} ms")
    one, many = appended[1], appended[most]
    note = f"{many.rate:,.0f}/s against {one.rate:,.0f}/s, {WAITERS} waiters; {many.waiting:.1f} wait for the head"
    told = f"{many.p99:.0f} ms against {one.p99:.0f} ms; alone {one.alone_p50:.1f} ms, F {sync:.2f} ms"
    served = f"{_rate(issued[most]):.0f}/s against {_rate(issued[1]):.0f}/s on the same processors"
    return Outcome(
        [
            Row(f"scale {most} logs, appends", [many.rate / one.rate], 0.7, more_is_better=True, note=note),
            Row(f"scale {most} logs, p99", [many.p99 / one.p99], 8, more_is_better=False, note=told),
            Row(
                f"scale {most} services",
                [_rate(issued[most]) / _rate(issued[1])],
                0.7,
                more_is_better=True,
                note=served,
            ),
        ],
        [
            Plot(
                name="appends-by-replicas",
                title="Appending to one PostgreSQL, by the number of replicas",
                across="replicas",
                up="milliseconds",
                lines={
                    f"{WAITERS} wait, p99": [(count, each.p99) for count, each in appended.items()],
                    f"{WAITERS} wait, median": [(count, each.p50) for count, each in appended.items()],
                    "one waits in each, median": [(count, each.alone_p50) for count, each in appended.items()],
                },
            )
        ],
    )


async def _append(scene: Stage, database: str, replicas: int, seconds: float) -> Appended:
    alone = await _times(scene, database, replicas, 1, seconds / 3)
    watching = asyncio.create_task(_waiting(database))
    before = await _written(database)
    times = await _times(scene, database, replicas, WAITERS // replicas, seconds)
    written = await _written(database) - before
    watching.cancel()
    looks = await watching
    cuts = quantiles(times, n=100)
    return Appended(
        rate=len(times) / seconds,
        p50=cuts[49],
        p99=cuts[98],
        alone_p50=quantiles(alone, n=2)[0],
        waiting=mean(waiting for waiting, _ in looks),
        syncing=mean(syncing for _, syncing in looks),
        written=written / len(times),
    )


async def _times(scene: Stage, database: str, replicas: int, waiters: int, seconds: float) -> list[float]:
    """Let so many logs append at once; answer the time of every event. Each must be in the database."""
    before = (await _events(database))[DENIED]
    words = [database, scene.folder / "state" / "audit.key", "bench.example/audit", waiters, seconds]
    async with AsyncExitStack() as stack:
        logs = [await stack.enter_async_context(_Log(words)) for _ in range(replicas)]
        for each in logs:
            each.go_on()
        times = [time for each in logs for time in json.loads(await each.line())]
        assert (await _events(database))[DENIED] - before == len(times)
        for each in logs:
            each.go_on()
    return times


class _Log:
    """A process of `benchmarks.appending`."""

    def __init__(self, words: Sequence[object]) -> None:
        self._words = [sys.executable, "-m", "benchmarks.appending", *map(str, words)]

    async def __aenter__(self) -> Self:
        pipe = subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(*self._words, stdin=pipe, stdout=pipe, limit=1 << 26)
        assert await self.line() == b"open\n"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert await self._process.wait() == 0, self._words

    async def line(self) -> bytes:
        assert self._process.stdout is not None
        return await self._process.stdout.readline()

    def go_on(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")


async def _waiting(database: str) -> list[tuple[int, int]]:
    """Look again and again how many wait for the head and how many for the disk, until it is cancelled."""
    looks: list[tuple[int, int]] = []
    connection = await asyncpg.connect(database)
    with suppress(asyncio.CancelledError):
        while True:
            found = await connection.fetch(_WAITING)
            looks.append((found[0]["waiting"], found[0]["syncing"]))
            await asyncio.sleep(_LOOK_SECONDS)
    connection.terminate()
    return looks


async def _issue(scene: Stage, database: str, profile: Profile) -> dict[int, list[Loaded]]:
    """Load the first of the services, the first two, and so on. Every credential must have its two records."""
    found: dict[int, list[Loaded]] = {}
    async with AsyncExitStack() as stack:
        running = [
            await stack.enter_async_context(serve(scene.folder, name=f"broker-{number}"))
            for number in range(profile.replicas[-1])
        ]
        for count in profile.replicas:
            before = await _events(database)
            options = {"requests": scene.requests(), "ca": scene.ca, "seconds": profile.seconds}
            options["connections"] = CONNECTIONS // count
            loads = await asyncio.gather(*(load("closed", url, options) for url, _ in running[:count]))
            added = await _events(database) - before
            good = sum(each.only().statuses["201"] for each in loads)
            assert added["credential.requested"] == added["credential.issued"] == good, (added, loads)
            found[count] = loads
    return found


def _rate(loads: Sequence[Loaded]) -> float:
    return sum(each.rate for each in loads)


async def _written(database: str) -> int:
    """Answer how much write-ahead log there was ever."""
    connection = await asyncpg.connect(database)
    try:
        return int(await connection.fetchval("SELECT pg_current_wal_lsn() - '0/0'"))
    finally:
        await connection.close()


async def _events(database: str) -> Counter[str]:
    connection = await asyncpg.connect(database)
    try:
        rows = await connection.fetch("SELECT event, count(*) AS events FROM events GROUP BY event")
        return Counter({row["event"]: row["events"] for row in rows})
    finally:
        await connection.close()
