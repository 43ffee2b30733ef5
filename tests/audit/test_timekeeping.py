"""A clock that is set back: the order of events holds, the log says so, and the health does until it has caught up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from broker.audit.checkpoints import Signer
from broker.audit.log import AuditLog, Pace, create
from broker.audit.stores.sqlite import SqliteStore
from broker.audit.timekeeping import Timekeeper
from tests.audit.conftest import verified
from tests.audit.test_log import events, until
from tests.doubles.audit import NOW, ManualClock, an_event

QUICK = Pace(watch_interval=0.01)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def log(database: Path, signer: Signer, clock: ManualClock) -> AsyncIterator[AuditLog]:
    create(SqliteStore(database), signer, clock)
    log = await AuditLog.open(SqliteStore(database), signer, clock=clock, pace=QUICK)
    yield log
    await log.close()


def marked(database: Path) -> list[int]:
    return [number for number, event in enumerate(events(database)) if event.get("clock") == "set_back"]


async def test_the_first_event_after_it_was_set_back_is_marked_and_events_go_on(
    log: AuditLog, clock: ManualClock, database: Path, signer: Signer
) -> None:
    await log.append(an_event())
    clock.now -= timedelta(hours=1)
    receipts = [await log.append(an_event(number=number)) for number in range(1, 4)]
    assert [receipt.index for receipt in receipts] == [2, 3, 4]
    assert marked(database) == [2]
    assert log.health().detail == "The clock was set back: it is 3600 seconds behind the newest event."
    assert not log.health().ready
    await log.checkpoint()
    assert verified(database, signer.verifier).findings == ()


async def test_it_is_well_again_when_it_has_caught_up(log: AuditLog, clock: ManualClock, database: Path) -> None:
    clock.now -= timedelta(minutes=5)
    await until(lambda: not log.health().ready)
    clock.now += timedelta(minutes=4, seconds=30)
    await until(lambda: "30 seconds" in log.health().detail)
    clock.now += timedelta(seconds=30)
    await until(lambda: log.health().ready)
    await log.append(an_event())
    assert marked(database) == []


async def test_it_is_marked_again_when_it_is_set_back_again(log: AuditLog, clock: ManualClock, database: Path) -> None:
    for _ in range(2):
        clock.now -= timedelta(minutes=5)
        await log.append(an_event())
        clock.now += timedelta(minutes=5)
        await log.append(an_event())
    assert marked(database) == [1, 3]


async def test_a_small_correction_is_none(log: AuditLog, clock: ManualClock, database: Path) -> None:
    clock.now -= timedelta(seconds=60)
    await log.append(an_event())
    assert log.health().ready
    assert marked(database) == []


async def test_a_clock_that_was_set_back_while_nothing_ran_is_noticed_at_the_start(
    log: AuditLog, clock: ManualClock, database: Path, signer: Signer
) -> None:
    await log.close()
    earlier = ManualClock(NOW - timedelta(days=1))
    again = await AuditLog.open(SqliteStore(database), signer, clock=earlier)
    assert not again.health().ready
    await again.close()
    assert [events(database)[index]["event"] for index in marked(database)] == ["service.started"]
    assert clock.now == NOW


def test_an_event_that_was_not_written_does_not_take_the_mark_with_it() -> None:
    clock = ManualClock()
    keeper = Timekeeper(clock)
    keeper.written(keeper.now(), [{}])
    clock.now -= timedelta(hours=1)
    time = keeper.now()
    keeper.written(time, keeper.marked([{"event": "lost"}, {"event": "kept"}])[1:])
    assert [members.get("clock") for members in keeper.marked([{}, {}])] == ["set_back", None]
