"""A long day, and little memory. Left out unless asked for: `make test-long`.

The day is scaled: in two and a half minutes there is the work of a quiet one, with everything that comes round by the
minute at least twice.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pytest
from aiohttp import ClientError, ClientSession, TCPConnector

from tests.end_to_end.places import LINUX, WINDOWS, Place, Running, a_place, eventually
from tests.real.memory import Memory

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

MIB = 1 << 20
INSTANCES = [{**LINUX, "name": f"web-{number}"} for number in range(10)] + [{**WINDOWS, "name": "win-1"}]
A_DAY = 150.0
EACH = 0.05
CALLERS = 512
ROOM = 400 * MIB


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with a_place(tmp_path, INSTANCES) as place:
        place.environment |= {
            "BROKER__LIMITS__PER_CALLER_PER_MINUTE": "100000",
            "BROKER__LIMITS__ISSUES_PER_CALLER_PER_MINUTE": "0",
            "BROKER__LIMITS__INSTANCES_PER_CALLER_PER_HOUR": "0",
            "BROKER__LIMITS__CONNECTIONS_PER_PEER": "4096",
        }
        yield place


class Taken(NamedTuple):
    """What a process has taken of its machine."""

    memory: int
    files: int
    threads: int
    write_ahead_log: int

    @classmethod
    def by(cls, service: Running, place: Place) -> Taken:
        """Look."""
        process = Path(f"/proc/{service.process.pid}")
        status = process.joinpath("status").read_text()
        words = dict(line.split(":", 1) for line in status.splitlines())
        files = len(list(process.joinpath("fd").iterdir()))
        log = place.folder / "state" / "audit.db-wal"
        return cls(int(words["VmRSS"].split()[0]) * 1024, files, int(words["Threads"]), log.stat().st_size)


async def work(service: Running, seconds: float) -> set[int]:
    """Do what is done in a day, one after the other; answer the statuses."""
    loop, heard = asyncio.get_running_loop(), set()
    end = loop.time() + seconds
    for instance in cycle(each["name"] for each in [*INSTANCES, {"name": "nowhere-1"}]):
        heard.add((await service.issue(str(instance)))[0])
        if instance == "nowhere-1":
            heard.add((await service.ask("/v1/instances", token=f"forged.{uuid4().hex}.token"))[0])
            for path in ("/v1/instances", "/v1/leases", "/metrics", f"/v1/nowhere/{uuid4()}"):
                heard.add((await service.ask(path))[0])
        if loop.time() > end:
            return heard
        await asyncio.sleep(EACH)
    raise AssertionError


async def test_a_long_day_leaves_nothing_behind(place: Place) -> None:
    async with place.serving() as service:
        heard = await work(service, A_DAY / 3)
        before = Taken.by(service, place)
        heard |= await work(service, A_DAY * 2 / 3)
        after = Taken.by(service, place)
        assert heard == {200, 201, 401, 403, 404}
        assert after.memory - before.memory < 16 * MIB, (before, after)
        assert after.files - before.files <= 4, (before, after)
        assert after.threads - before.threads <= 4, (before, after)
        assert after.write_ahead_log < 32 * MIB, (before, after)
        assert await service.stop() == 0
    assert (await place.verify("--require-sealed")).code == 0


@pytest.fixture
def memory() -> Iterator[Memory]:
    with Memory() as memory:
        yield memory


async def storm(place: Place, service: Running, rounds: int) -> set[int]:
    """Let many ask at once, again and again; answer the statuses, 0 for none."""
    heard: set[int] = set()

    async def many(session: ClientSession) -> None:
        caller = Running(service.process, service.url, session, place.token)
        for number in range(rounds):
            status = 0
            with suppress(ClientError, TimeoutError):
                status = (await caller.ask("/v1/credentials", {"instance": f"web-{number % 10}", "reason": "x" * 200}))[
                    0
                ]
            heard.add(status)

    async with ClientSession(connector=TCPConnector(ssl=place.client_context(), limit=0)) as session:
        await asyncio.gather(*(many(session) for _ in range(CALLERS)))
    return heard


async def gets_in(service: Running) -> bool:
    """Tell whether somebody is served again: what is at its limits after a storm lets nobody in for a moment."""
    return (await service.issue("web-1"))[0] == 201


@pytest.mark.real("memory cgroup")
async def test_with_little_memory_a_storm_is_turned_away_and_nothing_dies(place: Place, memory: Memory) -> None:
    memory.limit(ROOM)
    async with place.serving(*memory.inside) as service:
        assert await storm(place, service, 5) <= {201, 503}
        await eventually(lambda: gets_in(service))
        assert await service.stop() == 0
    assert memory.kills == 0
    assert (await place.verify("--require-sealed")).code == 0


@pytest.mark.real("memory cgroup")
async def test_killed_for_its_memory_it_goes_on_in_the_same_log(place: Place, memory: Memory) -> None:
    async with place.serving(*memory.inside) as service:
        assert (await service.issue("web-1"))[0] == 201
        memory.limit(memory.used + MIB)
        heard = await storm(place, service, 5)
        assert 0 in heard
        assert await asyncio.wait_for(service.process.wait(), 30) == -signal.SIGKILL
    assert memory.kills
    async with place.serving() as service:
        await eventually(lambda: gets_in(service))
        assert await service.stop() == 0
    assert (await place.verify("--require-sealed")).code == 0
    events = [event["event"] for event in await place.events()]
    assert events.count("credential.requested") == sum(
        events.count(end) for end in ("credential.issued", "credential.failed")
    )
