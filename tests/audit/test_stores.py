"""What every store must do, and what is special about SQLite's."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from broker.audit.checkpoints import Signer
from broker.audit.events import document, encode
from broker.audit.leaves import parse
from broker.audit.merkle import EMPTY_ROOT, CompactRange, leaf_hash
from broker.audit.schema import VERSION
from broker.audit.stores import Batch, Head, HeadMoved, Node, NotWritten, Record, Store, StoredCheckpoint, StoreError
from broker.audit.stores.address import Address
from broker.audit.stores.files import filesystem_of
from broker.audit.stores.postgresql import PostgresqlStore
from broker.audit.stores.sqlite import SqliteStore, make_durable
from broker.audit.stores.sqlite_reader import SqliteReader
from tests.audit.conftest import write_log
from tests.doubles.audit import an_event

FIRST = StoredCheckpoint(0, EMPTY_ROOT, 0, "note")


def put(store: Store, batch: Batch) -> None:
    """Append a batch, whatever the head is."""
    store.append(lambda _: batch)


def a_batch(tree: CompactRange, *events: str, request_id: str = "request-0") -> Batch:
    """Make a batch that continues a tree, and grow the tree by it."""
    records: list[Record] = []
    completed: list[tuple[int, int, bytes]] = []
    for event in events:
        leaf = encode(document(an_event(event, request_id=request_id)), tree.size, "2026-01-31T09:30:00.000Z")
        records.append(Record(tree.size, leaf_hash(leaf), leaf, parse(leaf)))
        tree.append(leaf_hash(leaf), completed)
    return Batch(Head(tree.size, tree.root()), records, [Node(*node) for node in completed])


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real("postgresql"))])
def make_store(request: pytest.FixtureRequest, database: Path) -> Callable[[], Store]:
    """Answer what makes another handle on the same store."""
    if request.param == "sqlite":
        return lambda: SqliteStore(database)
    address = Address.parse(request.getfixturevalue("postgresql"))
    return lambda: PostgresqlStore(address)


class TestEveryStore:
    """The contract of `Store`."""

    @pytest.fixture
    def store(self, make_store: Callable[[], Store]) -> Store:
        store = make_store()
        store.create(FIRST)
        store.open()
        return store

    @pytest.fixture(autouse=True)
    def _close(self, store: Store) -> object:
        yield
        store.close()

    def test_a_new_store_is_empty_and_has_its_first_checkpoint(self, store: Store) -> None:
        assert store.head() == Head(0, EMPTY_ROOT)
        assert store.newest_checkpoint() == FIRST

    def test_what_is_appended_is_there_after_opening_it_again(
        self, store: Store, make_store: Callable[[], Store]
    ) -> None:
        batch = a_batch(CompactRange(), *["e"] * 300)
        put(store, batch)
        store.close()
        again = make_store()
        again.open()
        assert again.head() == batch.after
        assert [tuple(record) for record in again.records(0, 300)] == [record[:3] for record in batch.records]
        assert [record.idx for record in again.records(10, 13)] == [10, 11, 12]
        assert again.hashes(0, 5, 2) == [batch.records[5].leaf_hash, batch.records[6].leaf_hash]
        assert again.hashes(8, 0, 1) == [batch.nodes[0].hash]
        again.close()

    def test_what_is_written_is_told_the_head_and_may_refuse_it(self, store: Store) -> None:
        tree = CompactRange()
        put(store, a_batch(tree, "e"))
        told: list[Head] = []

        def refuse(head: Head) -> Batch:
            told.append(head)
            raise HeadMoved("not mine")

        with pytest.raises(HeadMoved, match="not mine"):
            store.append(refuse)
        assert told == [store.head()] == [Head(1, tree.root())]
        put(store, a_batch(tree, "e"))
        assert store.head().size == 2

    def test_hashes_that_are_not_there_are_an_error(self, store: Store) -> None:
        with pytest.raises(StoreError):
            store.hashes(0, 0, 1)
        with pytest.raises(StoreError):
            store.hashes(8, 0, 1)

    def test_a_request_is_open_until_it_is_issued_or_failed(self, store: Store) -> None:
        tree = CompactRange()
        put(store, a_batch(tree, "credential.requested", request_id="a"))
        put(store, a_batch(tree, "credential.requested", "credential.denied", request_id="b"))
        assert store.open_requests() == [0, 1]
        put(store, a_batch(tree, "credential.issued", request_id="a"))
        assert store.open_requests() == [1]
        put(store, a_batch(tree, "credential.failed", request_id="b"))
        assert store.open_requests() == []

    def test_a_request_is_closed_only_by_what_comes_after_it(self, store: Store) -> None:
        put(store, a_batch(CompactRange(), "e", "credential.issued", "credential.requested"))
        assert store.open_requests() == [2]

    def test_the_newest_event_of_a_name_is_found_below_an_index(self, store: Store) -> None:
        put(store, a_batch(CompactRange(), "a", "b", "a", "b"))
        assert [store.newest("a", end) for end in (0, 1, 2, 3, 9)] == [None, 0, 0, 2, 2]
        assert store.newest("c", 9) is None

    def test_the_newest_checkpoint_is_that_of_the_greatest_size(self, store: Store) -> None:
        store.add_checkpoint(StoredCheckpoint(5, EMPTY_ROOT, 1, "five"))
        store.add_checkpoint(StoredCheckpoint(3, EMPTY_ROOT, 2, "three"))
        newest = store.newest_checkpoint()
        assert newest is not None
        assert newest.note == "five"

    def test_of_some_requests_those_that_are_open_are_told(self, store: Store) -> None:
        tree = CompactRange()
        put(store, a_batch(tree, "credential.requested", request_id="a"))
        put(store, a_batch(tree, "credential.requested", "credential.failed", request_id="b"))
        assert store.open_among(["a", "b", "c"]) == {"a"}
        assert store.open_among([]) == frozenset()

    def test_a_follower_begins_at_nothing_and_stays_where_it_came(
        self, store: Store, make_store: Callable[[], Store]
    ) -> None:
        assert store.claim("anchor:vault", "me", 0, 1000) == 0
        store.advance("anchor:vault", "me", 7)
        assert store.claim("anchor:vault", "me", 500, 1500) == 7
        assert store.claim("another", "me", 0, 1000) == 0
        store.close()
        again = make_store()
        again.open()
        assert again.claim("anchor:vault", "the next process", 1500, 2500) == 7
        again.close()

    def test_it_is_made_only_once(self, store: Store, make_store: Callable[[], Store]) -> None:
        with pytest.raises(StoreError, match="already"):
            make_store().create(FIRST)
        assert store.head().size == 0

    def test_a_second_process_is_turned_away_or_appends_to_the_same_log(
        self, store: Store, make_store: Callable[[], Store]
    ) -> None:
        other = make_store()
        if not store.shared:
            with pytest.raises(StoreError, match="another broker"):
                other.open()
            return
        other.open()
        tree = CompactRange()
        put(store, a_batch(tree, "e"))
        put(other, a_batch(tree, "e"))
        put(store, a_batch(tree, "e"))
        assert store.head() == other.head() == Head(3, tree.root())
        other.close()

    def test_pruned_events_leave_their_hashes(self, store: Store) -> None:
        tree = CompactRange()
        put(store, first := a_batch(tree, *["e"] * 5))
        put(store, replace(a_batch(tree, "audit.pruned"), pruned=4))
        assert store.oldest() == 4
        assert [record.idx for record in store.records(0, 6)] == [4, 5]
        assert list(store.hashes(0, 0, 5)) == [record.leaf_hash for record in first.records]


def test_a_missing_log_is_not_made_by_opening_it(database: Path) -> None:
    with pytest.raises(StoreError, match="broker init"):
        SqliteStore(database).open()
    assert not database.exists()


def test_file_and_folder_are_closed_to_others(database: Path) -> None:
    previous = os.umask(0)
    try:
        store = SqliteStore(database)
        store.create(FIRST)
        store.open()
        assert {path.stat().st_mode & 0o777 for path in database.parent.iterdir()} == {0o600}
        assert database.parent.stat().st_mode & 0o777 == 0o700
        store.close()
        database.chmod(0o644)
        store.open()
        assert database.stat().st_mode & 0o777 == 0o600
        store.close()
    finally:
        os.umask(previous)


def test_a_folder_that_others_may_write_to_is_refused(database: Path) -> None:
    SqliteStore(database).create(FIRST)
    database.parent.chmod(0o777)
    with pytest.raises(StoreError, match="others may write"):
        SqliteStore(database).open()


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_a_link_in_place_of_the_log_is_refused(database: Path, link: Callable[[Path, Path], None]) -> None:
    SqliteStore(database).create(FIRST)
    link(database.with_name("link.db"), database)
    with pytest.raises(StoreError, match="link"):
        SqliteStore(database.with_name("link.db")).open()


def change(database: Path, statement: str) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute(statement)


@pytest.mark.parametrize("version", [0, 1, 99])
def test_a_log_of_another_schema_version_is_refused(database: Path, version: int) -> None:
    SqliteStore(database).create(FIRST)
    change(database, f"PRAGMA user_version={version}")
    with pytest.raises(StoreError, match=f"version {version}"):
        SqliteStore(database).open()
    change(database, f"PRAGMA user_version={VERSION}")
    store = SqliteStore(database)
    store.open()
    store.close()


def test_what_is_no_database_is_refused(database: Path) -> None:
    database.parent.mkdir(mode=0o700)
    database.write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreError):
        SqliteStore(database).open()


def test_a_database_that_cannot_keep_commits_durable_is_refused() -> None:
    with closing(sqlite3.connect(":memory:")) as connection, pytest.raises(StoreError, match="journal memory"):
        make_durable(connection)


def test_a_full_store_is_a_clean_failure(database: Path) -> None:
    SqliteStore(database).create(FIRST)
    store = SqliteStore(database, max_pages=40)
    store.open()
    tree = CompactRange()
    put(store, a_batch(tree, "e"))
    with pytest.raises(NotWritten, match="FULL"):
        put(store, a_batch(tree, *["e"] * 500))
    assert store.head().size == 1
    store.close()


@pytest.mark.parametrize("what", ["audit.db", "audit.db-wal"])
def test_a_file_that_is_removed_or_replaced_while_open_is_noticed(database: Path, what: str) -> None:
    SqliteStore(database).create(FIRST)
    store = SqliteStore(database)
    store.open()
    store.check()
    path = database.with_name(what)
    path.rename(path.with_name("moved"))
    with pytest.raises(StoreError, match="removed or replaced"):
        store.check()
    path.touch()
    with pytest.raises(StoreError, match="removed or replaced"):
        store.check()
    store.close()


def test_a_reader_cannot_write(database: Path, signer: Signer) -> None:
    write_log(database, signer, [an_event()])
    reader = SqliteReader(database)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._connection.execute("DELETE FROM events")  # noqa: SLF001 -- the door has no way to try
    reader.close()


def test_the_file_system_of_a_path_is_that_of_its_nearest_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n23 22 0:40 / {tmp_path} rw shared:1 - nfs4 server:/x rw\n")
    assert filesystem_of(tmp_path / "audit.db", mounts) == "nfs4"
    assert filesystem_of(Path("/elsewhere"), mounts) == "ext4"
    assert filesystem_of(Path("/elsewhere"), tmp_path / "missing") == ""
