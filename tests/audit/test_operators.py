"""What operators do is in the log, whether or not the service runs, and says who it was."""

import os
import pwd
from pathlib import Path

import pytest

from broker.audit.checkpoints import Signer
from broker.audit.evidence import open_database
from broker.audit.leaves import parse
from broker.audit.log import AuditLog, create
from broker.audit.operators import LEFT_TO_THE_SERVICE, operator, operator_log
from broker.audit.spool import Spool
from broker.audit.stores.sqlite import SqliteStore
from broker.errors import AuditInUse, AuditUnavailable
from broker.model import Event
from tests.audit.conftest import verified
from tests.doubles.audit import ManualClock, an_event

ADDED = Event(event="keys.added", outcome="success", details={"fingerprint": "ab"})


@pytest.fixture
def store(database: Path, signer: Signer) -> SqliteStore:
    create(SqliteStore(database), signer, ManualClock())
    return SqliteStore(database)


def events(database: Path) -> list[dict[str, object]]:
    with open_database(database) as opened:
        return [parse(row.leaf) for row in opened.rows()]


def names(database: Path) -> list[object]:
    return [event["event"] for event in events(database)]


def move_away(database: Path) -> None:
    database.rename(database.with_name("moved"))


def copy_as_if_the_machine_stopped(database: Path, crashed: Path) -> None:
    """Copy database and write-ahead log without closing them."""
    for suffix in ("", "-wal"):
        Path(f"{crashed}{suffix}").write_bytes(Path(f"{database}{suffix}").read_bytes())


async def test_without_a_service_a_command_writes_the_log_itself_and_no_start_or_stop(
    store: SqliteStore, signer: Signer, database: Path
) -> None:
    said: list[str] = []
    async with operator_log(store, signer, Spool(database), say=said.append) as append:
        await append(ADDED)
    [event] = events(database)
    assert event["details"] == {"fingerprint": "ab", **operator()}
    assert said == []
    assert verified(database, signer.verifier).exit_code(require_sealed=True) == 0


async def test_beside_a_service_the_event_waits_in_the_spool_and_people_are_told_once(
    store: SqliteStore, signer: Signer, database: Path
) -> None:
    said: list[str] = []
    spool = Spool(database)
    service = await AuditLog.open(store, signer)
    async with operator_log(SqliteStore(database), signer, spool, say=said.append) as append:
        await append(ADDED)
        await append(ADDED)
    assert said == [LEFT_TO_THE_SERVICE]
    await spool.collect(service.append)
    await service.close()
    assert names(database) == ["service.started", "keys.added", "keys.added", "service.stopped"]
    assert operator().items() <= events(database)[1]["details"].items()  # type: ignore[attr-defined]  # a table


async def test_a_command_that_gets_the_log_records_what_others_left(
    store: SqliteStore, signer: Signer, database: Path
) -> None:
    spool = Spool(database)
    await spool.append(ADDED)
    async with operator_log(store, signer, Spool(database), say=print) as append:
        await append(Event(event="keys.removed", outcome="success"))
        await spool.append(Event(event="keys.rewrapped", outcome="success"))
    assert names(database) == ["keys.added", "keys.removed", "keys.rewrapped"]


async def test_a_second_process_is_told_apart_from_other_trouble(
    store: SqliteStore, signer: Signer, database: Path
) -> None:
    service = await AuditLog.open(store, signer)
    with pytest.raises(AuditInUse):
        await AuditLog.open(SqliteStore(database), signer)
    await service.close()
    move_away(database)
    with pytest.raises(AuditUnavailable) as caught:
        async with operator_log(SqliteStore(database), signer, Spool(database), say=print):
            pytest.fail("a log that is gone is not replaced by the spool")
    assert not isinstance(caught.value, AuditInUse)


async def test_commands_between_stop_and_start_do_not_hide_that_the_stop_was_orderly(
    store: SqliteStore, signer: Signer, database: Path
) -> None:
    service = await AuditLog.open(store, signer)
    await service.close()
    for _ in range(3):
        async with operator_log(SqliteStore(database), signer, Spool(database), say=print) as append:
            await append(ADDED)
    service = await AuditLog.open(SqliteStore(database), signer)
    await service.append(an_event())
    await service.close()
    started = [event for event in events(database) if event["event"] == "service.started"]
    assert [event["details"] for event in started] == [{"version": "", "clean_stop": True}] * 2


async def test_a_command_closes_the_requests_that_a_crash_left_open(
    store: SqliteStore, signer: Signer, database: Path, tmp_path: Path
) -> None:
    service = await AuditLog.open(store, signer)
    await service.append(an_event("credential.requested"))
    crashed = tmp_path / "crashed" / "audit.db"
    crashed.parent.mkdir(mode=0o700)
    copy_as_if_the_machine_stopped(database, crashed)
    await service.close()
    async with operator_log(SqliteStore(crashed), signer, Spool(crashed), say=print) as append:
        await append(ADDED)
    assert names(crashed) == ["service.started", "credential.requested", "credential.failed", "keys.added"]
    again = await AuditLog.open(SqliteStore(crashed), signer)
    await again.close()
    assert events(crashed)[4]["details"] == {"version": "", "clean_stop": False}


def test_who_it_was_is_what_the_system_knows_and_not_what_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody-else")
    assert operator()["os_user"] == pwd.getpwuid(os.getuid()).pw_name
