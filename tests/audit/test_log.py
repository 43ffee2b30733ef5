from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.audit.checkpoints import Signer
from broker.audit.events import document
from broker.audit.evidence import open_database
from broker.audit.leaves import parse
from broker.audit.ledger import Ledger
from broker.audit.log import AuditLog, Pace, create
from broker.audit.merkle import CompactRange, leaf_hash
from broker.audit.runs import MAX_UNSEALED
from broker.audit.stores import NotWritten, StoreError
from broker.audit.stores.sqlite import SqliteStore
from broker.errors import AuditUnavailable
from broker.model import Event
from tests.audit.conftest import ORIGIN, verified
from tests.doubles.audit import NOW, FaultyStore, ManualClock, an_event

QUICK = Pace(watch_interval=0.01)


@pytest.fixture
def store(database: Path, signer: Signer) -> FaultyStore:
    create(SqliteStore(database), signer, ManualClock())
    return FaultyStore(database)


@pytest.fixture
async def log(store: FaultyStore, signer: Signer) -> AsyncIterator[AuditLog]:
    log = await AuditLog.open(store, signer, clock=ManualClock(), version="1.2.3")
    yield log
    store.gate.set()
    await log.close()


def events(database: Path) -> list[dict[str, object]]:
    with open_database(database) as opened:
        return [parse(row.leaf) for row in opened.rows()]


def names(database: Path) -> list[object]:
    return [event["event"] for event in events(database)]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 -- what is awaited happens in another thread, or on disk
            await asyncio.sleep(0.005)


@asynccontextmanager
async def held(store: FaultyStore) -> AsyncIterator[None]:
    """Hold the writer up inside a commit, so that what comes now waits for the next."""
    store.gate.clear()
    try:
        yield
    finally:
        store.gate.set()


async def test_a_receipt_names_place_hash_and_time(log: AuditLog, database: Path) -> None:
    receipt = await log.append(an_event())
    with open_database(database) as opened:
        row = list(opened.rows())[receipt.index]
    assert receipt.leaf_hash == row.leaf_hash == leaf_hash(row.leaf)
    assert receipt.time == NOW
    assert parse(row.leaf)["time"] == "2026-01-31T09:30:00.000Z"


async def test_start_and_stop_are_events(store: FaultyStore, signer: Signer, database: Path) -> None:
    log = await AuditLog.open(store, signer, version="1.2.3")
    await log.close()
    assert names(database) == ["service.started", "service.stopped"]
    assert events(database)[0]["details"] == {"version": "1.2.3", "clean_stop": True}


async def test_a_stop_that_was_not_orderly_shows_at_the_next_start(
    log: AuditLog, database: Path, tmp_path: Path, signer: Signer
) -> None:
    await log.append(an_event())
    crashed = copy_as_if_the_machine_stopped(database, tmp_path)
    again = await AuditLog.open(SqliteStore(crashed), signer)
    await again.close()
    assert events(crashed)[2]["details"] == {"version": "", "clean_stop": False}


def copy_as_if_the_machine_stopped(database: Path, tmp_path: Path) -> Path:
    """Copy database and write-ahead log without closing them."""
    folder = tmp_path / "crashed"
    folder.mkdir(mode=0o700)
    for name in ("audit.db", "audit.db-wal"):
        (folder / name).write_bytes(database.with_name(name).read_bytes())
    return folder / "audit.db"


async def test_waiters_share_commits_and_keep_their_order(log: AuditLog, store: FaultyStore, database: Path) -> None:
    async with held(store):
        tasks = [asyncio.create_task(log.append(an_event(number=number))) for number in range(65)]
        await asyncio.sleep(0.05)
    receipts = await asyncio.gather(*tasks)
    assert [receipt.index for receipt in receipts] == list(range(1, 66))
    assert [event["request_id"] for event in events(database)[1:]] == [f"request-{number}" for number in range(65)]
    assert len(store.batches) <= 3


async def test_a_batch_is_bounded(store: FaultyStore, signer: Signer) -> None:
    log = await AuditLog.open(store, signer, pace=Pace(batch_limit=10))
    async with held(store):
        tasks = [asyncio.create_task(log.append(an_event())) for _ in range(35)]
        await asyncio.sleep(0.02)
    await asyncio.gather(*tasks)
    assert max(store.batches) == 10
    await log.close()


async def test_one_bad_event_fails_alone(log: AuditLog, database: Path) -> None:
    bad = an_event(details={"bad": 1.5})
    outcomes = await asyncio.gather(
        *(log.append(bad if number == 30 else an_event(number=number)) for number in range(64)), return_exceptions=True
    )
    assert isinstance(outcomes.pop(30), AuditUnavailable)
    assert [getattr(outcome, "index", None) for outcome in outcomes] == list(range(1, 64))
    assert len(events(database)) == 64
    assert log.health().ready


@pytest.mark.parametrize("nasty", ["\x00", "\ud800", "x" * 100_000, "'; DROP TABLE events; --", "\u202e\r\n"])
async def test_nothing_that_a_caller_sends_makes_an_append_fail(log: AuditLog, nasty: str) -> None:
    await log.append(an_event(reason=nasty, ticket=nasty, target=nasty, request_id=nasty, event="credential.requested"))
    await log.append(an_event(reason=nasty, request_id=nasty, event="credential.issued"))
    assert log.health().ready


async def test_a_waiter_that_is_cancelled_takes_nothing_back(log: AuditLog, store: FaultyStore, database: Path) -> None:
    async with held(store):
        tasks = [asyncio.create_task(log.append(an_event(number=number))) for number in range(5)]
        await asyncio.sleep(0.02)
        tasks[0].cancel()
        tasks[2].cancel()
        await asyncio.sleep(0.02)
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome).__name__ for outcome in done] == ["CancelledError", "Receipt", "CancelledError"] + [
        "Receipt"
    ] * 2
    assert len(events(database)) == 6


async def test_a_full_queue_is_refused_at_once_and_drains(store: FaultyStore, signer: Signer) -> None:
    log = await AuditLog.open(store, signer, pace=Pace(queue_limit=20))
    async with held(store):
        tasks = [asyncio.create_task(log.append(an_event())) for _ in range(20)]
        await asyncio.sleep(0.02)
        with pytest.raises(AuditUnavailable) as refusal:
            await log.append(an_event())
        assert refusal.value.retry_after == 1
    await asyncio.gather(*tasks)
    await log.append(an_event())
    await log.close()


async def test_a_clean_failure_fails_its_batch_and_heals(log: AuditLog, store: FaultyStore, database: Path) -> None:
    store.fail_before = NotWritten("disk full")
    with pytest.raises(AuditUnavailable) as refusal:
        await log.append(an_event())
    assert refusal.value.retry_after == 1
    assert not log.health().ready
    store.fail_before = None
    receipt = await log.append(an_event())
    assert receipt.index == 1
    assert log.health().ready
    assert len(events(database)) == 2


async def test_a_clean_failure_heals_without_anybody_writing(
    store: FaultyStore, signer: Signer, database: Path
) -> None:
    log = await AuditLog.open(store, signer, pace=QUICK)
    store.fail_before = NotWritten("disk full")
    with pytest.raises(AuditUnavailable):
        await log.append(an_event())
    await asyncio.sleep(0.05)
    assert not log.health().ready
    store.fail_before = None
    await until(lambda: log.health().ready)
    assert len(events(database)) == 1
    await log.close()


async def test_an_unknown_failure_poisons_until_the_log_is_opened_again(
    log: AuditLog, store: FaultyStore, signer: Signer, database: Path
) -> None:
    store.fail_after = StoreError("EIO at the sync")
    with pytest.raises(AuditUnavailable):
        await log.append(an_event())
    store.fail_after = None
    for _ in range(3):
        with pytest.raises(AuditUnavailable, match="until the broker is restarted"):
            await log.append(an_event())
    with pytest.raises(AuditUnavailable):
        await log.checkpoint()
    assert not log.health().ready
    await log.close()
    again = await AuditLog.open(SqliteStore(database), signer)
    assert (await again.append(an_event())).index == 3  # the start, the unknown one that was written, the start
    await again.close()
    assert verified(database, signer.verifier).exit_code(require_sealed=True) == 0


async def test_a_clean_failure_that_was_written_after_all_poisons(log: AuditLog, store: FaultyStore) -> None:
    store.fail_after = NotWritten("it says")
    with pytest.raises(AuditUnavailable, match="written after all"):
        await log.append(an_event())
    assert not log.health().ready


async def test_a_disk_that_hangs_shows_in_the_health(log: AuditLog, store: FaultyStore) -> None:
    async with held(store):
        task = asyncio.create_task(log.append(an_event()))
        await asyncio.sleep(0.02)
        log._busy_since -= 10  # noqa: SLF001 -- ten seconds go by
        assert log.health().detail == "The disk does not answer."
    await task
    await until(lambda: log.health().ready)


async def test_a_database_that_is_replaced_while_open_closes_the_log(
    store: FaultyStore, signer: Signer, database: Path
) -> None:
    log = await AuditLog.open(store, signer, pace=QUICK)
    await asyncio.to_thread(database.rename, database.with_name("stolen.db"))
    await until(lambda: not log.health().ready)
    with pytest.raises(AuditUnavailable):
        await log.append(an_event())
    await log.close()


async def test_requests_that_a_crash_left_open_are_closed_at_the_next_start(
    log: AuditLog, database: Path, tmp_path: Path, signer: Signer
) -> None:
    for number in range(3):
        await log.append(an_event("credential.requested", number))
    await log.append(an_event("credential.issued", 1))
    crashed = copy_as_if_the_machine_stopped(database, tmp_path)
    again = await AuditLog.open(SqliteStore(crashed), signer)
    closing_events = events(crashed)[5:7]
    assert [(event["event"], event["outcome"], event["error"]) for event in closing_events] == [
        ("credential.failed", "unknown", "outcome_unknown")
    ] * 2
    assert [event["request_id"] for event in closing_events] == ["request-0", "request-2"]
    assert [event["index"] for event in closing_events] == [5, 6]
    await again.close()
    third = await AuditLog.open(SqliteStore(crashed), signer)
    await third.close()
    assert names(crashed).count("credential.failed") == 2


async def left_open(log: AuditLog, database: Path, tmp_path: Path) -> Path:
    """Let a run die of which request-0 (event 1) is open and request-1 (event 2) was issued; event 4 is unsealed."""
    for event, number in (("requested", 0), ("requested", 1), ("issued", 1)):
        await log.append(an_event(f"credential.{event}", number))
    await log.checkpoint()
    await log.append(an_event())
    return copy_as_if_the_machine_stopped(database, tmp_path)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        pytest.param("INSERT INTO open_requests VALUES(2, 'request-1')", "open requests", id="one that was issued"),
        pytest.param("INSERT INTO open_requests VALUES(3, 'request-1')", "open requests", id="what is no request"),
        pytest.param("INSERT INTO open_requests VALUES(0, 'x')", "open requests", id="what the run did not write"),
        pytest.param("INSERT INTO open_requests VALUES(-1, 'x')", "open requests", id="what never was"),
        pytest.param("INSERT INTO open_requests VALUES(99, 'x')", "open requests", id="what is still to come"),
        pytest.param("DELETE FROM open_requests", "open requests", id="none left"),
        pytest.param("DROP TABLE open_requests", "'open_requests' is missing", id="no table"),
        pytest.param("UPDATE events SET event = 'service.started' WHERE idx = 3", "for a start", id="a later start"),
        pytest.param(
            "UPDATE events SET leaf = CAST(replace(leaf, 'credential.issued', 'credential.issues') AS BLOB)",
            "event 3 is not what was written",
            id="the answer is gone",
        ),
    ],
)
async def test_open_requests_that_are_not_those_of_the_events_stop_the_start(
    log: AuditLog, database: Path, tmp_path: Path, signer: Signer, statement: str, message: str
) -> None:
    crashed = await left_open(log, database, tmp_path)
    with closing(sqlite3.connect(crashed, isolation_level=None)) as connection:
        connection.execute(statement)
        before = connection.execute("SELECT count(*) FROM events").fetchone()
    assert message in await refused(crashed, signer)
    with closing(sqlite3.connect(crashed)) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == before


async def test_an_answer_that_was_changed_with_its_hash_is_found_below_the_nodes_of_the_tree(
    log: AuditLog, database: Path, tmp_path: Path, signer: Signer
) -> None:
    await log.append(an_event("credential.requested", 1))
    await log.append(an_event("credential.issued", 1))
    await asyncio.gather(*(log.append(an_event()) for _ in range(300)))
    await log.checkpoint()
    crashed = copy_as_if_the_machine_stopped(database, tmp_path)
    with closing(sqlite3.connect(crashed, isolation_level=None)) as connection:
        connection.create_function("sha_leaf", 1, leaf_hash)
        connection.execute("UPDATE events SET leaf = CAST(replace(leaf, 'issued', 'issues') AS BLOB) WHERE idx = 2")
        connection.execute("UPDATE events SET leaf_hash = sha_leaf(leaf) WHERE idx = 2")
        connection.execute("INSERT INTO open_requests VALUES(1, 'request-1')")
    assert "not those that the newest checkpoint sealed" in await refused(crashed, signer)


# -- checkpoints


def sealed_sizes(database: Path) -> list[int]:
    with open_database(database) as opened:
        return [note.size for note in opened.notes()]


async def test_what_is_new_is_sealed_after_a_while_and_at_the_stop(
    store: FaultyStore, signer: Signer, database: Path
) -> None:
    log = await AuditLog.open(store, signer, pace=Pace(watch_interval=0.01, checkpoint_interval=0.02))
    await until(lambda: sealed_sizes(database) == [0, 1])
    await asyncio.sleep(0.1)
    assert sealed_sizes(database) == [0, 1]  # nothing new, nothing signed
    await log.append(an_event())
    await until(lambda: sealed_sizes(database) == [0, 1, 2])
    await log.close()
    assert sealed_sizes(database) == [0, 1, 2, 3]


async def test_many_events_are_sealed_before_their_time(store: FaultyStore, signer: Signer, database: Path) -> None:
    log = await AuditLog.open(store, signer, pace=Pace(watch_interval=0.01, checkpoint_events=10))
    await asyncio.gather(*(log.append(an_event()) for _ in range(20)))
    await until(lambda: sealed_sizes(database) == [0, 1, 21])
    await log.close()


async def test_the_log_is_sealed_as_soon_as_it_is_open(log: AuditLog, database: Path) -> None:
    assert log.health().ready
    assert sealed_sizes(database) == [0, 1]


async def test_a_checkpoint_can_be_asked_for(log: AuditLog, signer: Signer) -> None:
    await log.append(an_event())
    note = await log.checkpoint()
    assert signer.verifier.open(note).size == 2
    assert await log.checkpoint() == note


@pytest.mark.parametrize("column", ["leaf = CAST(replace(leaf, 'alice', 'mallo') AS BLOB)", "leaf_hash = zeroblob(32)"])
async def test_a_record_that_was_changed_behind_the_logs_back_is_never_sealed(
    log: AuditLog, database: Path, column: str
) -> None:
    await log.append(an_event())
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute(f"UPDATE events SET {column} WHERE idx = 1")  # noqa: S608 -- this is tampering
    with pytest.raises(AuditUnavailable, match="event 1"):
        await log.checkpoint()
    assert not log.health().ready
    assert sealed_sizes(database) == [0, 1]


async def test_long_logs_are_read_back_in_steps_and_verify(store: FaultyStore, signer: Signer, database: Path) -> None:
    log = await AuditLog.open(store, signer)
    for _ in range(3):
        await asyncio.gather(*(log.append(an_event()) for _ in range(900)))
    await log.close()
    report = verified(database, signer.verifier)
    assert (report.findings, report.size, report.unsealed) == ((), 2702, 0)
    again = await AuditLog.open(SqliteStore(database), signer)
    await again.close()


async def test_a_clock_that_is_set_back_leaves_the_log_verifiable(
    store: FaultyStore, signer: Signer, database: Path
) -> None:
    clock = ManualClock()
    log = await AuditLog.open(store, signer, clock=clock)
    clock.now -= timedelta(hours=1)
    await log.append(an_event())
    await log.close()
    assert verified(database, signer.verifier).exit_code(require_sealed=True) == 0
    assert str(events(database)[1]["time"]) < str(events(database)[0]["time"])


# -- opening


async def refused(database: Path, signer: Signer) -> str:
    with pytest.raises(AuditUnavailable) as refusal:
        await AuditLog.open(SqliteStore(database), signer)
    return str(refusal.value)


async def test_a_missing_log_stops_the_start(database: Path, signer: Signer) -> None:
    assert "broker init" in await refused(database, signer)


async def test_a_log_is_made_only_once(store: FaultyStore, signer: Signer, database: Path) -> None:
    with pytest.raises(AuditUnavailable, match="already"):
        create(store, signer)
    assert "already" not in str(database)


async def test_a_second_broker_on_the_same_log_is_turned_away(log: AuditLog, database: Path, signer: Signer) -> None:
    assert "another broker process" in await refused(database, signer)
    assert (await log.append(an_event())).index == 1


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE head SET root = zeroblob(32)", "disagrees with its own head"),
        ("UPDATE head SET size = 0", "disagrees with its own head"),
        ("DELETE FROM events WHERE idx = 5", "missing"),
        ("UPDATE events SET leaf_hash = zeroblob(32) WHERE idx = 5", "disagrees with its own head"),
        ("DELETE FROM checkpoints", "no checkpoint"),
        ("UPDATE checkpoints SET note = note || 'x'", "not of this log and key"),
        ("DELETE FROM head", "no head"),
    ],
)
async def test_a_log_that_disagrees_with_itself_stops_the_start(
    store: FaultyStore, signer: Signer, database: Path, statement: str, message: str
) -> None:
    log = await AuditLog.open(store, signer)
    await asyncio.gather(*(log.append(an_event()) for _ in range(10)))
    await log.close()
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute(statement)
    assert message in await refused(database, signer)


async def test_a_log_that_was_rewritten_under_its_checkpoint_stops_the_start(
    store: FaultyStore, signer: Signer, database: Path
) -> None:
    log = await AuditLog.open(store, signer)
    await log.close()
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("UPDATE events SET leaf_hash = zeroblob(32) WHERE idx = 0")
        tree = CompactRange()
        for (hashed,) in connection.execute("SELECT leaf_hash FROM events ORDER BY idx"):
            tree.append(hashed)
        connection.execute("UPDATE head SET root = ?", (tree.root(),))
    assert "not the one that its newest checkpoint sealed" in await refused(database, signer)


async def test_an_edit_in_the_unsealed_tail_stops_the_start(
    log: AuditLog, database: Path, tmp_path: Path, signer: Signer
) -> None:
    await log.append(an_event())
    crashed = copy_as_if_the_machine_stopped(database, tmp_path)
    with closing(sqlite3.connect(crashed, isolation_level=None)) as connection:
        connection.execute("UPDATE events SET leaf = CAST(replace(leaf, 'alice', 'mallo') AS BLOB)")
    assert "event 1 is not what was written" in await refused(crashed, signer)


def cut_checkpoints(database: Path, above: int) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("DELETE FROM checkpoints WHERE size > ?", (above,))


@pytest.mark.parametrize("above", [0, 1, 3])
async def test_a_log_whose_newest_checkpoints_were_removed_stops_the_start(
    store: FaultyStore, signer: Signer, database: Path, above: int
) -> None:
    for _ in range(2):
        log = await AuditLog.open(store, signer)
        await log.append(an_event())
        await log.close()
    assert sealed_sizes(database) == [0, 1, 3, 4, 6]
    cut_checkpoints(database, above)
    assert "no broker leaves its audit log as this one is" in await refused(database, signer)
    assert classes_of(database, signer) == ["unsealed"]


async def test_a_log_rewritten_as_if_no_service_had_run_stops_the_start(
    store: FaultyStore, signer: Signer, database: Path
) -> None:
    ledger = Ledger(store, signer, ManualClock())
    ledger.open()
    ledger.write([document(an_event())])
    ledger.close()
    assert "when no service was running" in await refused(database, signer)
    assert classes_of(database, signer) == ["unsealed"]


def classes_of(database: Path, signer: Signer) -> list[str]:
    return [finding.kind for finding in verified(database, signer.verifier).findings]


async def test_what_a_dead_process_left_is_sealed_before_anything_new_is_written(
    log: AuditLog, database: Path, tmp_path: Path, signer: Signer
) -> None:
    await log.append(an_event("credential.requested"))
    crashed = copy_as_if_the_machine_stopped(database, tmp_path)
    store = FaultyStore(crashed)
    store.fail_before = StoreError("the disk is gone")
    with pytest.raises(AuditUnavailable, match="the disk is gone"):
        await AuditLog.open(store, signer)
    assert sealed_sizes(crashed) == [0, 1, 2]


async def test_an_operator_who_died_stops_nobody(store: FaultyStore, signer: Signer, database: Path) -> None:
    for _ in range(2):
        ledger = Ledger(store, signer, ManualClock())
        ledger.open()
        ledger.write([document(Event(event="keys.added", outcome="success"))])
        ledger.close()
        assert classes_of(database, signer) == []
    log = await AuditLog.open(store, signer)
    await log.close()
    assert sealed_sizes(database) == [0, 1, 2, 3, 4]


@pytest.fixture
def long_run(store: FaultyStore, signer: Signer, database: Path) -> Path:
    """Answer a log of which the last run has more events than may lie unsealed, and its first request is open."""
    ledger = Ledger(store, signer, ManualClock())
    ledger.open()
    ledger.write([document(Event(event="service.started", outcome="success"))])
    ledger.tend(seal=True)
    ledger.write([document(an_event("credential.requested", number)) for number in range(2)])
    ledger.write([document(an_event("credential.issued", 0))])
    batch = [document(Event(event="e", outcome="success"))] * (MAX_UNSEALED // 4)
    for _ in range(4):
        ledger.write(batch)
    assert ledger.unsealed == len(batch)
    ledger.close()
    return database


def test_a_long_run_is_sealed_in_time_and_its_first_request_closed_at_the_next_start(
    long_run: Path, signer: Signer
) -> None:
    assert len(sealed_sizes(long_run)) == 3
    ledger = Ledger(SqliteStore(long_run), signer, ManualClock())
    ledger.open()
    ledger.tend(seal=True)
    ledger.close()
    closing_event = events(long_run)[-1]
    assert (closing_event["event"], closing_event["request_id"]) == ("credential.failed", "request-1")
    assert classes_of(long_run, signer) == []


async def test_a_request_answered_at_the_begin_of_a_long_run_cannot_be_opened_again(
    long_run: Path, signer: Signer
) -> None:
    with closing(sqlite3.connect(long_run, isolation_level=None)) as connection:
        connection.execute("INSERT INTO open_requests VALUES(1, 'request-0')")
    assert "open requests" in await refused(long_run, signer)


async def test_the_wrong_signing_key_stops_the_start(store: FaultyStore, database: Path) -> None:
    assert store.batches == []
    assert "not of this log and key" in await refused(database, Signer(ORIGIN, Ed25519PrivateKey.generate()))


async def test_a_closed_log_takes_nothing(store: FaultyStore, signer: Signer) -> None:
    log = await AuditLog.open(store, signer)
    await log.close()
    await log.close()
    for attempt in (log.append(Event(event="e", outcome="success")), log.checkpoint()):
        with pytest.raises(AuditUnavailable, match="closed"):
            await attempt
    assert log.health().detail == "The log is closed."


async def test_what_waits_when_the_log_is_closed_is_written_first(
    store: FaultyStore, signer: Signer, database: Path
) -> None:
    log = await AuditLog.open(store, signer)
    async with held(store):
        tasks = [asyncio.create_task(log.append(an_event())) for _ in range(5)]
        await asyncio.sleep(0.02)
        stopping = asyncio.create_task(log.close())
        await asyncio.sleep(0.02)
    await stopping
    assert [receipt.index for receipt in await asyncio.gather(*tasks)] == [1, 2, 3, 4, 5]
    assert names(database)[-1] == "service.stopped"


def test_more_events_at_once_than_may_be_unsealed_are_written(database: Path, signer: Signer) -> None:
    store = SqliteStore(database)
    create(store, signer)
    ledger = Ledger(store, signer, ManualClock())
    ledger.open()
    ledger.write([document(an_event())] * (MAX_UNSEALED + 1))
    assert ledger.size == MAX_UNSEALED + 1
    ledger.close()
