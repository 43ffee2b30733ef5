from __future__ import annotations

import asyncio
import json
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from broker.audit.keyfiles import load_signer
from broker.audit.log import AuditLog
from broker.audit.stores.sqlite import SqliteStore
from broker.audit.stores.sqlite_reader import SqliteReader
from broker.errors import AuditInUse
from tests.audit.commands import Desk, a_desk
from tests.audit.conftest import ORIGIN
from tests.doubles.audit import NOW, ManualClock, an_event

OLD = 30


async def _open(desk: Desk) -> AuditLog:
    signer = load_signer(desk.config.parent / "state" / "audit.key", ORIGIN)
    return await AuditLog.open(SqliteStore(desk.database), signer, clock=ManualClock(NOW + timedelta(days=1)))


async def _run_once(desk: Desk) -> None:
    log = await _open(desk)
    await log.close()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Answer a log of old events and a run of the service that has stopped."""
    desk = a_desk(tmp_path, [an_event(number=number) for number in range(OLD)])
    asyncio.run(_run_once(desk))
    return desk


@pytest.fixture
def archive(desk: Desk, capsys: pytest.CaptureFixture[str]) -> Path:
    path = desk.config.parent / "old.jsonl"
    assert desk.audit("archive", "--before", "1h", "--output", path) == 0
    assert f"{OLD} events written" in capsys.readouterr().err
    return path


def oldest(desk: Desk) -> int:
    with closing(SqliteReader(desk.database)) as reader:
        return reader.oldest()


def test_an_archive_is_an_export_and_leaves_the_log_as_it_is(desk: Desk, archive: Path) -> None:
    assert [json.loads(line)["index"] for line in archive.read_text().splitlines()] == list(range(OLD))
    assert archive.stat().st_mode & 0o777 == 0o600
    assert oldest(desk) == 0


def test_archived_bodies_leave_the_log_and_an_event_says_who_took_them(desk: Desk, archive: Path) -> None:
    assert desk.audit("prune", "--archive", archive) == 0
    assert oldest(desk) == OLD
    with closing(SqliteReader(desk.database)) as reader:
        [record] = reader.records(reader.head().size - 1, reader.head().size)
    event = json.loads(record.leaf)
    assert event["event"] == "audit.pruned"
    assert (event["details"]["first"], event["details"]["end"]) == (0, OLD)
    assert event["details"]["os_user"]


def test_nothing_is_overwritten_and_nothing_young_is_archived(
    desk: Desk, archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = archive.read_bytes()
    assert desk.audit("archive", "--before", "1h", "--output", archive) == 2
    assert archive.read_bytes() == before
    other = archive.with_name("none.jsonl")
    assert desk.audit("archive", "--before", "2020-01-01", "--output", other) == 1
    assert "no event is old enough" in capsys.readouterr().err
    assert not other.exists()


def test_a_log_without_its_settings_is_not_pruned(desk: Desk, archive: Path) -> None:
    assert desk.audit("prune", "--archive", archive, "--database", desk.database) == 2
    assert oldest(desk) == 0


async def test_the_log_of_a_running_service_is_not_pruned(desk: Desk, archive: Path) -> None:
    log = await _open(desk)
    with pytest.raises(AuditInUse):
        await asyncio.to_thread(desk.audit, "prune", "--archive", archive)
    await log.close()
    assert oldest(desk) == 0
