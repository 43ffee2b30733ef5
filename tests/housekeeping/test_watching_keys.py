"""The service takes over what operators change in custody, without being asked for a password."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from broker.housekeeping import ended, watch_keys
from broker.model import utc_now
from broker.unsealing.custody import Custody
from broker.unsealing.masterkeys import LocalMasterKey
from tests.doubles.unsealing import TEAM_KEY, held


@pytest.fixture
def master() -> LocalMasterKey:
    return LocalMasterKey(os.urandom(32))


@pytest.fixture
async def custody(tmp_path: Path, master: LocalMasterKey) -> Custody:
    return await Custody.open(tmp_path / "keys", master)


@pytest.fixture
async def elsewhere(tmp_path: Path, master: LocalMasterKey) -> Custody:
    """Answer the same custody, as an operator's command opens it."""
    return await Custody.open(tmp_path / "keys", master)


@pytest.fixture
async def watched(custody: Custody) -> AsyncIterator[Custody]:
    task = asyncio.create_task(watch_keys(custody, every=0.01))
    yield custody
    await ended(task)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is awaited happens on disk
            await asyncio.sleep(0.005)


async def test_a_key_that_is_added_and_one_that_is_removed_count_soon(watched: Custody, elsewhere: Custody) -> None:
    await elsewhere.add(held())
    await until(lambda: watched.get(TEAM_KEY) == held())
    await elsewhere.remove(TEAM_KEY)
    await until(lambda: watched.get(TEAM_KEY) is None)


async def test_trouble_is_said_when_it_begins_and_when_it_ends(
    watched: Custody, elsewhere: Custody, tmp_path: Path
) -> None:
    await elsewhere.add(held())
    await until(lambda: watched.get(TEAM_KEY) is not None)
    with capture_logs() as said:
        (tmp_path / "keys").chmod(0o755)
        await until(lambda: bool(watched.problems))
        await asyncio.sleep(0.05)
        (tmp_path / "keys").chmod(0o700)
        await until(lambda: not watched.problems)
        await asyncio.sleep(0.05)
    assert [len(entry["problems"]) for entry in said] == [1, 0]


class UnluckyCustody(Custody):
    """Fails in a way that nobody foresaw, once."""

    failed = False

    async def refresh(self, patience: float | None = 3.0) -> None:
        if not self.failed:
            self.failed = True
            raise RuntimeError
        await super().refresh(patience)


async def test_a_failure_that_nobody_foresaw_is_said_and_does_not_end_the_watch(
    tmp_path: Path, master: LocalMasterKey, elsewhere: Custody
) -> None:
    custody = UnluckyCustody(tmp_path / "keys", master, utc_now)
    await elsewhere.add(held())
    with capture_logs() as said:
        task = asyncio.create_task(watch_keys(custody, every=0.01))
        await until(lambda: custody.get(TEAM_KEY) is not None)
        await ended(task)
    assert [entry["error"] for entry in said] == ["RuntimeError"]
