"""The service collects what operators left: at start, while it runs, at its end, and through trouble."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from broker.audit.spool import Spool
from broker.errors import AuditUnavailable
from broker.housekeeping import collecting
from broker.model import Event, Receipt
from tests.doubles.audit import NOW

ADDED = Event(event="keys.added", outcome="success")


class Log:
    """Keeps what is recorded, unless it is broken; takes as long as it is held up."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.broken = False
        self.tried = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def append(self, event: Event) -> Receipt:
        self.tried += 1
        await self.gate.wait()
        if self.broken:
            raise AuditUnavailable("the disk is full")
        self.events.append(event)
        return Receipt(len(self.events), b"", NOW)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "audit.db")


@pytest.fixture
def log() -> Log:
    return Log()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is awaited happens on disk
            await asyncio.sleep(0.005)


async def test_what_waits_at_the_start_is_recorded_first(spool: Spool, log: Log) -> None:
    await spool.append(ADDED)
    async with collecting(spool, log, every=60):
        await until(lambda: len(log.events) == 1)


async def test_what_comes_later_is_recorded_while_the_service_runs(spool: Spool, log: Log) -> None:
    async with collecting(spool, log, every=0.01):
        assert log.events == []
        await spool.append(ADDED)
        await until(lambda: len(log.events) == 1)


async def test_what_came_last_is_recorded_before_the_service_is_gone(spool: Spool, log: Log) -> None:
    async with collecting(spool, log, every=60):
        await asyncio.sleep(0.05)
        await spool.append(ADDED)
    assert len(log.events) == 1


async def test_a_stop_in_the_middle_records_nothing_twice(spool: Spool, log: Log) -> None:
    await spool.append(ADDED)
    log.gate.clear()

    async def stop() -> None:
        async with collecting(spool, log, every=60):
            await until(lambda: log.tried == 1)

    stopping = asyncio.create_task(stop())
    await asyncio.sleep(0.05)
    assert not stopping.done()
    log.gate.set()
    await stopping
    assert len(log.events) == 1


async def test_a_log_that_cannot_be_written_is_said_once_and_tried_again(spool: Spool, log: Log) -> None:
    log.broken = True
    await spool.append(ADDED)
    with capture_logs() as said:
        async with collecting(spool, log, every=0.01):
            await until(lambda: log.tried > 3)
            log.broken = False
            await until(lambda: len(log.events) == 1)
    errors = [entry["detail"] for entry in said if entry["log_level"] == "error"]
    assert errors == ["the disk is full"]


async def test_a_spool_that_is_not_ours_does_not_stop_the_service(spool: Spool, log: Log, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    spool.folder.symlink_to(tmp_path / "elsewhere")
    with capture_logs() as said:
        async with collecting(spool, log, every=0.01):
            await asyncio.sleep(0.1)
    assert [entry["log_level"] for entry in said] == ["error"]
