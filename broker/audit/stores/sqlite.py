"""The embedded store: one SQLite file, one process, one writing connection in one thread.

Durable means: write-ahead log with `synchronous=FULL`, both read back. One connection is also what keeps older SQLite
versions safe: before 3.51.3 two connections that write or checkpoint may lose commits (the WAL-reset race), so every
other connection to this file is read-only and never checkpoints; see `sqlite_reader`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from broker.audit.leaves import search_columns
from broker.audit.projections import VIEWS, Apply, Change, Insert, changes, together
from broker.audit.schema import SCHEMA, VERSION, difference
from broker.audit.stores import (
    Batch,
    Head,
    NotWritten,
    Record,
    StoredCheckpoint,
    StoredRecord,
    StoreError,
    Views,
    Write,
)
from broker.audit.stores.files import FileIdentity, ProcessLock, check_existing, make_new, sync_folder
from broker.audit.stores.migrations import wrong_version

_FULL = 2
_PART = 1 << 20
_BUSY_TIMEOUT = 2.0
_CHUNKS = (64, 16, 4, 1)

# What SQLite raises before it syncs anything. Everything else, an I/O error above all, leaves the commit unknown.
_CLEAN = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_TOOBIG,
}


class SqliteStore:
    """A log in the file `path`.

    Args:
        path: The file.
        max_pages: Bounds it, for tests of a full disk.
        wal_alarm: A write-ahead log of more bytes than this is a burden; it is cut back to a quarter of that when it
            can be, for by itself its file would stay as long as it ever was.
    """

    shared = False

    def __init__(self, path: Path, *, max_pages: int | None = None, wal_alarm: int = 256 * 2**20) -> None:
        self._path = path
        self._max_pages = max_pages
        self._wal_alarm = wal_alarm
        self._lock = ProcessLock(path)
        self._opened: tuple[sqlite3.Connection, FileIdentity] | None = None

    def create(self, first: StoredCheckpoint) -> None:
        """Make the file with its tables, an empty tree and the first checkpoint."""
        make_new(self._path)
        try:
            with translated():
                self._fill(first)
            sync_folder(self._path.parent)
        except OSError as problem:
            raise StoreError(f"the folder of the audit log cannot be synced: {problem}") from problem

    def _fill(self, first: StoredCheckpoint) -> None:
        connection = self._connect()
        try:
            connection.executescript(f"BEGIN;{SCHEMA}PRAGMA user_version={VERSION};")
            connection.execute("INSERT INTO head VALUES(1, 0, ?)", (first.root,))
            connection.execute("INSERT INTO checkpoints VALUES(?, ?, ?, ?)", first)
            connection.execute("COMMIT")
        finally:
            connection.close()

    def open(self) -> None:
        """Open the file, after checks of files, version and durability, and take its lock."""
        check_existing(self._path)
        self._lock.acquire()
        try:
            with translated():
                self._opened = self._prepare(self._connect())
        except StoreError:
            self.close()
            raise

    def _connect(self) -> sqlite3.Connection:
        uri = f"{self._path.absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_TIMEOUT)
        try:
            make_durable(connection)
            connection.execute(f"PRAGMA journal_size_limit={self._wal_alarm // 4:d}")
            if self._max_pages:
                connection.execute(f"PRAGMA max_page_count={self._max_pages:d}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> tuple[sqlite3.Connection, FileIdentity]:
        try:
            _check_schema(connection)
            _settle(connection, self._path.with_name(f"{self._path.name}-wal"))
            return connection, FileIdentity(self._path, self._path.with_name(self._path.name + "-wal"))
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """Close the connection, then free the lock."""
        if self._opened:
            with suppress(sqlite3.Error):  # by itself SQLite does this for the last connection only
                self._opened[0].execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            with suppress(sqlite3.Error):
                self._opened[0].close()
            self._opened = None
        self._lock.release()

    @property
    def _connection(self) -> sqlite3.Connection:
        if not self._opened:
            raise StoreError("the audit log is not open")
        return self._opened[0]

    def check(self) -> None:
        """Notice that the database or its write-ahead log was removed, renamed or replaced."""
        if self._opened:
            self._opened[1].check()

    def burden(self) -> str:
        """Tell of a write-ahead log that grows because somebody reads an old state and goes on reading."""
        with suppress(OSError):
            size = self._path.with_name(self._path.name + "-wal").stat().st_size
            if size > self._wal_alarm:
                return f"The write-ahead log has {size // 2**20} MiB: some program keeps an old state of the log open."
        return ""

    def head(self) -> Head:
        """Answer the stored head."""
        with translated():
            row = self._connection.execute("SELECT size, root FROM head").fetchone()
        if row is None:
            raise StoreError("the audit log has no head")
        return Head(*row)

    def append(self, write: Write) -> None:
        """Commit a batch: events, nodes, head and views together."""
        self._commit(lambda connection: _append(connection, write(self.head())))
        self.check()  # what was written into a file that is there no more was not written

    def _commit(self, change: Callable[[sqlite3.Connection], None]) -> None:
        connection = self._connection
        with translated():
            try:
                connection.execute("BEGIN IMMEDIATE")
                change(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def hashes(self, level: int, first: int, count: int) -> Sequence[bytes]:
        """Answer neighbouring hashes of one kept level."""
        with translated():
            return read_hashes(self._connection, level, first, count)

    def records(self, first: int, end: int) -> Iterator[StoredRecord]:
        """Answer a range of records."""
        with translated():
            cursor = self._connection.execute(
                "SELECT idx, leaf_hash, leaf FROM events WHERE idx >= ? AND idx < ? ORDER BY idx", (first, end)
            )
            yield from map(StoredRecord._make, cursor)

    def oldest(self) -> int:
        """Answer the index of the oldest event with a body."""
        with translated():
            return read_oldest(self._connection)

    def newest_checkpoint(self) -> StoredCheckpoint | None:
        """Answer the checkpoint of the greatest size."""
        with translated():
            return read_newest_checkpoint(self._connection)

    def add_checkpoint(self, checkpoint: StoredCheckpoint) -> None:
        """Commit a checkpoint."""
        self._run("INSERT INTO checkpoints VALUES(?, ?, ?, ?)", checkpoint)

    def newest(self, event: str, end: int) -> int | None:
        """Answer where the newest event of a kind lies below `end`, as its index has it."""
        query = "SELECT max(idx) FROM events INDEXED BY events_by_event WHERE event = ? AND idx < ?"
        with translated():
            (index,) = self._connection.execute(query, (event, end)).fetchone()
        return None if index is None else int(index)

    def open_requests(self) -> Sequence[int]:
        """Answer the indices of requests that were neither answered nor refused."""
        with translated():
            return [index for (index,) in self._connection.execute("SELECT idx FROM open_requests ORDER BY idx")]

    def open_among(self, request_ids: Sequence[str]) -> frozenset[str]:
        """Answer which of these are open."""
        places = ", ".join("?" * len(request_ids))
        query = f"SELECT request_id FROM open_requests WHERE request_id IN ({places})"  # noqa: S608 -- values are bound
        with translated():
            return frozenset(request_id for (request_id,) in self._connection.execute(query, request_ids))

    def thread_ends(self, threads: Sequence[str]) -> Mapping[str, int]:
        """Answer the newest events of threads."""
        places = ", ".join("?" * len(threads))
        query = f"SELECT thread, last_idx FROM threads WHERE thread IN ({places})"  # noqa: S608 -- values are bound
        with translated():
            return dict(self._connection.execute(query, threads))

    def claim(self, follower: str, owner: str, now: int, until: int) -> int | None:
        """Claim a follower. Only an earlier process can have left another owner here, and this one has the lock."""
        del now
        with translated():
            row = self._connection.execute(
                "SELECT position, owner FROM followers WHERE name = ?", (follower,)
            ).fetchone()
        if row is None or row[1] != owner:
            position = row[0] if row else 0
            self._run("INSERT OR REPLACE INTO followers VALUES(?, ?, ?, ?)", (follower, position, owner, until))
            return position
        return int(row[0])

    def advance(self, follower: str, owner: str, position: int) -> None:
        """Move a follower on."""
        self._run("UPDATE followers SET position = ? WHERE name = ? AND owner = ?", (position, follower, owner))

    def _run(self, statement: str, values: Sequence[object]) -> None:
        self._commit(lambda connection: connection.execute(statement, values).close())


class translated:  # noqa: N801 -- used like a function, as the standard library's `suppress` is
    """Turns SQLite's errors into those of a store."""

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sqlite3.Error):
            raise _translate(error) from error


def _translate(error: sqlite3.Error) -> StoreError:
    code = getattr(error, "sqlite_errorcode", None)
    message = f"SQLite: {error} ({getattr(error, 'sqlite_errorname', 'no code')})"
    return NotWritten(message) if isinstance(code, int) and code & 0xFF in _CLEAN else StoreError(message)


def make_durable(connection: sqlite3.Connection) -> None:
    """Ask for durable commits, and believe only what is read back."""
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.execute("PRAGMA mmap_size=0")
    (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    connection.execute(f"PRAGMA synchronous={_FULL}")
    (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
    if (mode, synchronous) != ("wal", _FULL):
        raise StoreError(f"SQLite does not keep commits durable here: journal {mode}, synchronous {synchronous}")


def _check_schema(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != VERSION:
        raise StoreError(wrong_version(version))
    if odd := difference(connection):
        raise StoreError(f"{odd} in the database of the audit log: verify it before you go on")


def _settle(connection: sqlite3.Connection, write_ahead_log: Path) -> None:
    """Move what a crash left in the write-ahead log into the file itself, synced.

    After a failed sync the pages of that log may be in memory only and yet look written; copying them makes the
    system write them again. While somebody reads an older state (a long verification, a backup) they cannot be moved,
    so each is written again where it is: the same bytes, so that no reader sees a difference.
    """
    _, frames, moved = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if frames != moved:
        _write_again(write_ahead_log)


def _write_again(path: Path) -> None:
    try:
        with path.open("r+b", buffering=0) as file:
            while part := file.read(_PART):
                file.seek(-len(part), os.SEEK_CUR)
                file.write(part)
            os.fsync(file.fileno())
    except OSError as problem:
        raise StoreError(f"what the last run left cannot be settled: {problem.strerror}") from problem


def read_hashes(connection: sqlite3.Connection, level: int, first: int, count: int) -> list[bytes]:
    """Read neighbouring hashes of one kept level; StoreError when one is missing."""
    query = "SELECT hash FROM nodes WHERE level = ? AND idx >= ? AND idx < ? ORDER BY idx"
    rows = []
    if not level:
        events = "SELECT leaf_hash FROM events WHERE idx >= ? AND idx < ? ORDER BY idx"
        rows = connection.execute(events, (first, first + count)).fetchall()
    if len(rows) < count:  # level 0 is there for events that were pruned, which are older than all others
        rows = connection.execute(query, (level, first, first + count)).fetchall() + rows
    if len(rows) != count:
        raise StoreError(f"hashes are missing at level {level} from {first}")
    return [row[0] for row in rows]


def read_oldest(connection: sqlite3.Connection) -> int:
    """Read the index of the oldest event that has its body."""
    query = "SELECT coalesce((SELECT min(idx) FROM events), size) FROM head"
    (index,) = connection.execute(query).fetchone()
    return int(index)


def read_newest_checkpoint(connection: sqlite3.Connection) -> StoredCheckpoint | None:
    """Read the checkpoint of the greatest size."""
    row = connection.execute("SELECT size, root, time, note FROM checkpoints ORDER BY size DESC LIMIT 1").fetchone()
    return row and StoredCheckpoint(*row)


def read_view(connection: sqlite3.Connection, name: str) -> list[tuple[object, ...]]:
    """Read all rows of a view, by key."""
    columns = VIEWS[name]
    query = f"SELECT {', '.join(columns)} FROM {name} ORDER BY {columns[0]}"  # noqa: S608 -- our own names
    return connection.execute(query).fetchall()


def write_views(connection: sqlite3.Connection, views: Views) -> None:
    """Replace all rows of every view."""
    for name in VIEWS:
        connection.execute(f"DELETE FROM {name}")  # noqa: S608 -- our own name
        _insert(connection, name, views[name])


def _row(record: Record) -> tuple[object, ...]:
    return record.idx, record.leaf_hash, record.leaf, *search_columns(record.members)


def _insert(connection: sqlite3.Connection, table: str, rows: Sequence[Sequence[object]], otherwise: str = "") -> None:
    """Insert in few statements: each one hands the interpreter lock away and must wait to get it back."""
    if not rows:
        return
    waiting = iter(rows)
    left = len(rows)
    place = f"({', '.join('?' * len(rows[0]))})"
    for chunk in _CHUNKS:
        while left >= chunk:
            values = [value for row in islice(waiting, chunk) for value in row]
            statement = f"INSERT INTO {table} VALUES {', '.join([place] * chunk)} {otherwise}"  # noqa: S608 -- our own names
            connection.execute(statement, values)
            left -= chunk


def _append(connection: sqlite3.Connection, batch: Batch) -> None:
    connection.execute("UPDATE head SET size = ?, root = ?", batch.after)
    _insert(connection, "events", [_row(record) for record in batch.records])
    _insert(connection, "nodes", batch.nodes)
    if batch.pruned:
        _prune(connection, batch.pruned)
    if batch.views is not None:
        write_views(connection, batch.views)
    apply(connection, (change for record in batch.records for change in changes(record.idx, record.members)))


def apply(connection: sqlite3.Connection, changed: Iterable[Change]) -> None:
    """Bring changes into the views."""
    for _, group in together(changed):
        _apply(connection, group)


def _prune(connection: sqlite3.Connection, end: int) -> None:
    """Keep the leaf hashes, and overwrite the bodies: what may not be kept shall not linger in free pages."""
    connection.execute("PRAGMA secure_delete=ON")
    connection.execute("INSERT INTO nodes SELECT 0, idx, leaf_hash FROM events WHERE idx < ?", (end,))
    connection.execute("DELETE FROM events WHERE idx < ?", (end,))
    connection.execute("DELETE FROM checkpoints WHERE size < ?", (end,))  # later ones cover the same; see `retention`


def _apply(connection: sqlite3.Connection, group: Sequence[Change]) -> None:
    """Bring one group of changes into its view."""
    if isinstance(group[0], Insert):
        rows = [change.row for change in group if isinstance(change, Insert)]
        _insert(connection, group[0].view, rows, "ON CONFLICT DO NOTHING")
    for change in group:
        if isinstance(change, Apply):
            connection.execute(change.statement, change.values)
