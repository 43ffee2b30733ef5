"""The reader of PostgreSQL answers what that of SQLite does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.audit.checkpoints import Signer
from broker.audit.events import document
from broker.audit.ledger import Ledger
from broker.audit.log import create
from broker.audit.projections import VIEWS
from broker.audit.stores import Filters, Found, Position, Reader, StoreError, TooSlow, opening
from broker.audit.stores.address import Address
from broker.audit.stores.postgresql_reader import PostgresqlReader
from broker.model import Caller, Event, InstanceRef, Protocol
from tests.doubles.audit import NOW, ManualClock, an_event
from tests.real.postgresql import run

pytestmark = pytest.mark.real("postgresql")

LONG = "\u20ac" * 900
BOB = Caller(issuer="corp", subject=f"bob{LONG}", kind="user", token_expires_at=NOW)
ALMOST_BOB = replace(BOB, subject=f"bob{LONG}x")
LATER = NOW.replace(year=2027)


def some_events() -> list[Event]:
    """Make events of two accounts, by people whose long names begin alike, leases, host keys, and one of no account."""
    events = [
        an_event(
            "credential.denied" if number % 7 == 0 else "credential.issued",
            number,
            account="lab" if number % 2 else "main",
            actor=(BOB, ALMOST_BOB)[number % 2],
            instance=InstanceRef("lab" if number % 2 else "main", "eu-west-1", f"web-{number % 3}"),
            outcome="denied" if number % 7 == 0 else "success",
            protocol=Protocol.SSH if number % 4 else Protocol.RDP,
            lease_id=f"lease-{number}",
            expires_at=LATER if number % 5 else NOW,
            details={"host_keys": (f"ssh-ed25519 {number:064x}",)},
        )
        for number in range(60)
    ]
    more = an_event("credential.requested", request_id="open")
    requested = [an_event("credential.requested", number) for number in range(60)]
    locks = [
        an_event(f"lock.{what}", actor=actor, details={"thread": "t1", "message": "\u20ac"})
        for what, actor in (("created", BOB), ("removed", ALMOST_BOB))
    ]
    return [*requested, *events, more, *locks, Event(event="policies.loaded", outcome="success")]


@pytest.fixture
def readers(postgresql: str, database: Path, signer: Signer) -> Iterator[tuple[Reader, Reader]]:
    """Answer readers of the same log, once in SQLite and once in PostgreSQL."""
    for place in (f"sqlite:///{database}", postgresql):
        clock = ManualClock(step=timedelta(milliseconds=7))
        create(opening.store(place), signer, clock)
        ledger = Ledger(opening.store(place), signer, clock)
        ledger.open()
        for event in some_events():
            ledger.write([document(event)])
        ledger.tend(seal=True)
        ledger.close()
    with closing(opening.reader(database)) as one, closing(opening.reader(postgresql)) as other:
        yield one, other


def pages(reader: Reader, filters: Filters, limit: int) -> list[Found]:
    found: list[Found] = []
    after: Position | None = None
    while page := reader.search(filters, limit, after):
        found += page
        after = Position(page[-1].time, page[-1].record.idx)
    return found


FILTERS = st.builds(
    Filters,
    accounts=st.sampled_from([None, frozenset(), frozenset({"main"}), frozenset({"main", "lab"}), frozenset({""})]),
    actor=st.sampled_from([None, f"corp/{BOB.subject}", f"corp/{ALMOST_BOB.subject}", "' OR 1=1 --"]),
    instance=st.sampled_from([None, "main/eu-west-1/web-1", "nowhere"]),
    event=st.sampled_from([None, "credential.issued", "policies.loaded"]),
    outcome=st.sampled_from([None, "denied"]),
    protocol=st.sampled_from([None, "ssh", "rdp"]),
    request_id=st.sampled_from([None, "request-12"]),
    since=st.sampled_from([None, int(NOW.timestamp() * 1000) + 200]),
    until=st.sampled_from([None, int(NOW.timestamp() * 1000) + 300]),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(filters=FILTERS, limit=st.sampled_from([1, 7, 100]))
def test_searches_find_the_same(readers: tuple[Reader, Reader], filters: Filters, limit: int) -> None:
    one, other = readers
    assert pages(other, filters, limit) == pages(one, filters, limit)


def test_everything_else_is_the_same_too(readers: tuple[Reader, Reader]) -> None:
    one, other = readers
    assert other.head() == one.head()
    size = one.head().size
    assert other.oldest() == one.oldest() == 0
    assert list(other.records(5, size + 5)) == list(one.records(5, size + 5))
    assert [other.find(index) for index in (0, size - 1, size)] == [one.find(index) for index in (0, size - 1, size)]
    assert list(other.hashes(0, 3, 9)) == list(one.hashes(0, 3, 9))
    assert [each[:2] for each in other.checkpoints(0, 9)] == [each[:2] for each in one.checkpoints(0, 9)]
    for name in VIEWS:
        assert list(other.view(name)) == list(one.view(name))
        assert one.view(name)
    assert list(other.threads("lock", event="lock.removed")) == list(one.threads("lock", event="lock.removed"))
    assert [each.thread for each in one.threads("lock", actor=f"corp/{BOB.subject}")] == ["t1"]
    assert list(other.threads("lock", actor=f"corp/{BOB.subject}")) == list(one.threads("lock"))
    assert other.thread("t1") == one.thread("t1") is not None
    assert (other.thread("t2"), list(other.threads("request"))) == (None, [])
    asked = f"corp/{BOB.subject}", "credential.issued", 0, -1
    assert list(other.asked_since(*asked)) == list(one.asked_since(*asked)) != []
    counted = (("credential.issued", "credential.requested"), 0, 1 << 53)
    assert sorted(other.tally(*counted)) == sorted(one.tally(*counted)) != []
    assert list(other.tally(*counted[:2], 0)) == list(one.tally(*counted[:2], 0)) == []
    newest = one.asked_since(*asked)[-1][0]
    assert list(other.asked_since(*asked[:3], newest)) == list(one.asked_since(*asked[:3], newest)) == []
    assert other.followers() == one.followers()
    assert other.host_keys("main/eu-west-1/web-0") == one.host_keys("main/eu-west-1/web-0") is not None
    assert list(other.all_host_keys()) == list(one.all_host_keys())
    now = int(NOW.timestamp() * 1000)
    for accounts, actor in (
        (None, None),
        (frozenset({"lab"}), None),
        (None, f"corp/{BOB.subject}"),
        (frozenset(), None),
    ):
        mine = one.leases(now, accounts=accounts, actor=actor, instance=None)
        assert list(other.leases(now, accounts=accounts, actor=actor, instance=None)) == list(mine)


def test_a_search_that_takes_too_long_is_given_up(readers: tuple[Reader, Reader], postgresql: str) -> None:
    assert readers
    with closing(PostgresqlReader(Address.parse(postgresql), patience=0.3)) as reader:
        run(
            postgresql,
            "ALTER TABLE events RENAME TO kept",
            "CREATE VIEW events AS SELECT kept.* FROM kept, pg_sleep(1)",
        )
        with pytest.raises(TooSlow, match="took too long"):
            reader.search(Filters(), 10, None)
        run(postgresql, "DROP VIEW events", "ALTER TABLE kept RENAME TO events")
        assert reader.search(Filters(), 1, None)


def test_a_reader_cannot_write(readers: tuple[Reader, Reader]) -> None:
    _, other = readers
    assert isinstance(other, PostgresqlReader)
    with pytest.raises(StoreError, match="25006"):
        other._ask(lambda connection: connection.execute("DELETE FROM events"))  # noqa: SLF001 -- the door has no way to try


def test_a_reader_survives_a_lost_connection(readers: tuple[Reader, Reader], postgresql: str) -> None:
    _, other = readers
    query = "SELECT count(pg_terminate_backend(pid, 2000)) FROM pg_stat_activity"
    run(postgresql, f"{query} WHERE datname = current_database() AND pid <> pg_backend_pid()")
    assert other.head().size == 124


def test_a_database_without_a_log_is_not_read(postgresql: str) -> None:
    with pytest.raises(StoreError, match="broker init"):
        opening.reader(postgresql)
