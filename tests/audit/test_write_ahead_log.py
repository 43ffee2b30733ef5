"""A reader that holds an old state: the write-ahead log grows, the store tells, and cuts it back when it can."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from broker.audit.checkpoints import Signer
from broker.audit.events import document
from broker.audit.ledger import Ledger
from broker.audit.log import AuditLog, Pace
from broker.audit.stores.sqlite import SqliteStore
from tests.audit.test_log import until
from tests.doubles.audit import ManualClock, an_event

ALARM = 8 * 2**20


@pytest.fixture
def ledger(database: Path, signer: Signer) -> Iterator[Ledger]:
    store = SqliteStore(database, wal_alarm=ALARM)
    Ledger(store, signer, ManualClock()).create()
    ledger = Ledger(store, signer, ManualClock())
    ledger.open()
    yield ledger
    ledger.close()


def write_until(ledger: Ledger, database: Path, size: int) -> None:
    wal = database.with_name("audit.db-wal")
    while wal.stat().st_size < size:
        ledger.write([document(an_event(number=number)) for number in range(256)])


def test_it_grows_while_an_old_state_is_read_and_is_cut_back_afterwards(ledger: Ledger, database: Path) -> None:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        before = reader.execute("SELECT count(*) FROM events").fetchone()
        write_until(ledger, database, ALARM + 2**20)
        ledger.tend()
        assert ledger.burden == "The write-ahead log has 9 MiB: some program keeps an old state of the log open."
        assert reader.execute("SELECT count(*) FROM events").fetchone() == before
        reader.execute("COMMIT")
    for _ in range(3):
        ledger.write([document(an_event(number=number)) for number in range(256)])
    ledger.tend()
    assert ledger.burden == ""


async def test_the_health_tells_and_stays_ready(ledger: Ledger, database: Path, signer: Signer) -> None:
    ledger.close()
    log = await AuditLog.open(SqliteStore(database, wal_alarm=1), signer, pace=Pace(watch_interval=0.01))
    await until(lambda: "The write-ahead log has" in log.health().detail)
    assert log.health().ready
    await log.close()


def test_a_start_waits_for_no_reader_and_loses_nothing(ledger: Ledger, database: Path, signer: Signer) -> None:
    wal = database.with_name("audit.db-wal")
    ledger.write([document(an_event(number=number)) for number in range(64)])
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        before = reader.execute("SELECT count(*) FROM events").fetchone()
        write_until(ledger, database, 2 * 2**20)
        ledger.tend(seal=True)
        size = ledger.size
        ledger.close()
        left = wal.read_bytes()
        assert len(left) > 2**20  # the reader keeps it from being moved
        again = Ledger(SqliteStore(database), signer, ManualClock())
        again.open()
        assert (again.size, wal.read_bytes()[: len(left)]) == (size, left)
        again.write([document(an_event(number=number)) for number in range(64)])
        assert reader.execute("SELECT count(*) FROM events").fetchone() == before
        again.close()
