"""What the offline verifier reads: a database file or an export, as one stream of rows. Believes nothing.

Uses the standard library alone, and none of the code that writes the log.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import sqlite3
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from broker.audit.leaves import parse
from broker.audit.schema import VERSION, difference

KEY_ROTATED = "audit.key_rotated"
_COLUMNS = "idx, leaf_hash, leaf, time, event, outcome, actor, instance, account, request_id"
_CACHE = -65_536  # KiB
_LOWEST = -(2**63)
_MAX_LINE = 8 * 1024 * 1024
_UNREADABLE = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN}


class CannotVerify(Exception):
    """The evidence cannot be read, or nothing pins it: neither good nor bad."""


class Damaged(Exception):
    """The container of the evidence is broken; `kind` is the class of the finding."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)  # both, so that it comes whole out of another process
        self.kind = kind
        self._message = message

    def __str__(self) -> str:
        """Answer what is wrong."""
        return self._message


class Row(NamedTuple):
    """One record as found. `copy` are its search columns; `flaw` is the class of what is wrong with the row itself.

    `bodiless` is a record that was pruned: only its hash is there.
    """

    idx: int
    leaf_hash: bytes
    leaf: bytes
    copy: tuple[object, ...] | None = None
    flaw: str = ""
    message: str = ""
    bodiless: bool = False


class StoredNote(NamedTuple):
    """One checkpoint as found, with the size and root beside it."""

    size: int
    root: bytes
    note: str


class Database:
    """A database file inside one read transaction: a snapshot, even while a broker writes."""

    def __init__(self, connection: sqlite3.Connection, size_on_disk: int) -> None:
        self._connection = connection
        self._size_on_disk = size_on_disk

    def check_container(self) -> None:
        """Refuse tables, indexes, triggers or views that the broker does not make, and bytes after the last page.

        Raises:
            CannotVerify: when a newer broker made the tables.
            Damaged: with what is wrong.
        """
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise CannotVerify(f"the log has schema version {version}, this program knows {VERSION}")
        if 0 < version < VERSION:
            raise CannotVerify(f"the log has schema version {version}: `broker audit migrate` brings it up to date")
        if version != VERSION:
            raise Damaged("schema", f"the log has schema version {version}, and never had one below {VERSION}")
        if odd := difference(self._connection):
            raise Damaged("schema", f"{odd}: these are not the tables of an audit log")
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        (page_size,) = self._connection.execute("PRAGMA page_size").fetchone()
        if self._size_on_disk > pages * page_size:
            raise Damaged("trailing_bytes", "there are bytes after the last page of the database")

    def check_indexes(self) -> None:
        """Raise Damaged with SQLite's first complaint about tables and indexes."""
        self._connection.execute(f"PRAGMA cache_size={_CACHE}")
        (answer,) = self._connection.execute("PRAGMA integrity_check(1)").fetchone()
        if answer != "ok":
            raise Damaged("store_damaged", f"SQLite says: {answer}")

    def rows(self, first: int = 0) -> Iterator[Row]:
        """Answer every record from `first` on in the order of its index; of those that were pruned, the hashes."""
        bound = (first or _LOWEST,)
        pruned = "SELECT idx, hash FROM nodes WHERE level = 0 AND idx >= ? ORDER BY idx"
        for index, hashed in self._connection.execute(pruned, bound):
            if isinstance(hashed, bytes):
                yield Row(index, hashed, b"", bodiless=True)
            else:
                yield Row(index, b"", b"", None, "malformed", "the hash of a pruned record is not stored as bytes")
        bodies = f"SELECT {_COLUMNS} FROM events WHERE idx >= ? ORDER BY idx"  # noqa: S608 -- our own names
        for row in self._connection.execute(bodies, bound):
            if isinstance(row[1], bytes) and isinstance(row[2], bytes):
                yield Row(row[0], row[1], row[2], row[3:])
            else:
                yield Row(row[0], b"", b"", None, "malformed", "the record is not stored as bytes")

    def records(self, first: int, end: int) -> Iterator[tuple[Any, ...]]:
        """Answer a range of the records that have a body, as they are stored; fails on text that is not UTF-8."""
        query = f"SELECT {_COLUMNS} FROM events WHERE idx >= ? AND idx < ? ORDER BY idx"  # noqa: S608 -- our own names
        self._connection.text_factory = str
        return self._connection.execute(query, (first, end))

    def nodes(self, level: int, first: int, end: int) -> list[object]:
        """Answer a range of the stored nodes of a level."""
        query = "SELECT hash FROM nodes WHERE level = ? AND idx >= ? AND idx < ? ORDER BY idx"
        return [hashed for (hashed,) in self._connection.execute(query, (level, first, end))]

    def sizes(self, first: int, end: int) -> list[int]:
        """Answer the sizes of the checkpoints over more than `first` and at most `end` records."""
        query = "SELECT size FROM checkpoints WHERE size > ? AND size <= ?"
        return [size for (size,) in self._connection.execute(query, (first, end))]

    def bodies(self) -> range:
        """Answer where the records lie that have a body and a checkpoint; empty when others were lost, not pruned."""
        query = "SELECT (SELECT min(idx) FROM events), (SELECT max(size) FROM checkpoints), count(*) FROM nodes"
        oldest, sealed, pruned = self._connection.execute(f"{query} WHERE level = 0").fetchone()
        return range(oldest, sealed) if oldest == pruned and type(sealed) is int else range(0)

    def notes(self) -> Iterator[StoredNote]:
        """Answer every checkpoint by size."""
        return map(StoredNote._make, self._connection.execute("SELECT size, root, note FROM checkpoints ORDER BY size"))

    def head(self) -> tuple[object, object] | None:
        """Answer the stored head: size and root."""
        row: tuple[object, object] | None = self._connection.execute("SELECT size, root FROM head").fetchone()
        return row

    def node(self, level: int, index: int) -> object:
        """Answer a stored node of the tree, None when it is missing."""
        query = "SELECT hash FROM nodes WHERE level = ? AND idx = ?"
        row = self._connection.execute(query, (level, index)).fetchone()
        return row and row[0]

    def open_requests(self) -> list[tuple[object, object]]:
        """Answer the stored view of requests without an answer: index and request id, by index."""
        return self._connection.execute("SELECT idx, request_id FROM open_requests ORDER BY idx").fetchall()

    def count_nodes(self) -> int:
        """Answer how many nodes are stored above the leaves."""
        (count,) = self._connection.execute("SELECT count(*) FROM nodes WHERE level > 0").fetchone()
        return int(count)

    def rotations(self) -> Iterator[Row]:
        """Answer the events that change the signing key, as searches find them."""
        query = "SELECT idx, leaf_hash, leaf FROM events WHERE event = ? ORDER BY idx"
        for index, hashed, leaf in self._connection.execute(query, (KEY_ROTATED,)):
            yield Row(index, hashed, leaf if isinstance(leaf, bytes) else b"")


def check_indexes(path: Path) -> None:
    """Let SQLite compare its indexes with the tables: a search must not overlook what is there. Takes long.

    Raises:
        CannotVerify: when the file cannot be read.
        Damaged: with SQLite's first complaint.
    """
    with open_database(path) as database:
        database.check_indexes()


@contextmanager
def open_database(path: Path) -> Generator[Database]:
    """Open a database for reading only.

    Raises:
        CannotVerify: when it is not there or may not be read.
        Damaged: when it is no sound SQLite file.
    """
    try:
        size_on_disk = path.stat().st_size  # before the snapshot: the file only grows
        connection = _connect(path)
    except (OSError, sqlite3.OperationalError) as problem:
        raise CannotVerify(f"{path} cannot be read: {sentence(problem)}") from problem
    try:
        yield Database(connection, size_on_disk)
    except sqlite3.OperationalError as problem:
        if getattr(problem, "sqlite_errorcode", 0) & 0xFF in _UNREADABLE:
            raise CannotVerify(f"{path} cannot be read: {problem}") from problem
        raise Damaged("store_damaged", f"SQLite says: {problem}") from problem
    except (sqlite3.DatabaseError, UnicodeError, OverflowError) as problem:
        raise Damaged("store_damaged", f"SQLite says: {problem}") from problem
    finally:
        connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    """Connect and begin to read. On a disk that takes no side files, a log without pending changes is immutable."""
    log = path.with_name(path.name + "-wal")
    pending = log.exists() and log.stat().st_size > 0
    still = not pending and not os.access(path.parent, os.W_OK)
    uri = f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if still else ''}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None)
    connection.text_factory = lambda text: text.decode(
        errors="surrogateescape"
    )  # bad text differs, it does not stop us
    try:
        connection.execute("PRAGMA query_only=ON")
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.execute("PRAGMA cell_size_check=ON")
        connection.execute("BEGIN")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def export_rows(file: BinaryIO) -> Iterator[Row]:
    """Answer every line of an export. A line that is none of ours is answered with its flaw, and ends the stream."""
    expected = 0
    while line := file.readline(_MAX_LINE):
        try:
            row = _line(line)
        except ValueError as problem:
            flaw = "malformed" if expected == 0 or file.read(1) else "trailing_bytes"
            yield Row(expected, b"", b"", None, flaw, f"the line cannot be read: {sentence(problem)}")
            return
        yield row
        expected = row.idx + 1


def export_rotations(file: BinaryIO) -> Iterator[Row]:
    """Answer the lines of an export that change the signing key, and nothing of the others."""
    named = f'"{KEY_ROTATED}"'.encode()
    while line := file.readline(_MAX_LINE):
        if named in line:
            with suppress(ValueError):  # the replay tells
                row = _line(line)
                if parse(row.leaf).get("event") == KEY_ROTATED:
                    yield row


def export_line(index: int, leaf_hash: bytes, leaf: bytes) -> bytes:
    """Write one record as a line of an export. The event stands in it as the very bytes of the leaf."""
    encoded, hashed = base64.b64encode(leaf), base64.b64encode(leaf_hash)
    return b'{"event":%b,"index":%d,"leaf":"%b","leaf_hash":"%b"}\n' % (leaf, index, encoded, hashed)


def sentence(problem: Exception) -> str:
    """Say what is wrong in words: what Python says of texts and files is for programmers."""
    if isinstance(problem, json.JSONDecodeError | UnicodeError):
        return "it is not JSON"
    if isinstance(problem, OSError):
        return str(problem.strerror)
    return str(problem)


def _line(line: bytes) -> Row:
    members = parse(line)
    index, leaf, leaf_hash = members.get("index"), _base64(members.get("leaf")), _base64(members.get("leaf_hash"))
    if type(index) is not int or len(members) != 4:  # noqa: PLR2004 -- index, leaf_hash, leaf, event
        raise ValueError("not a line of an export")
    if line == export_line(index, leaf_hash, leaf) or _same(members.get("event"), leaf):
        return Row(index, leaf_hash, leaf)
    return Row(index, leaf_hash, leaf, None, "copy", "the event that is shown is not the record")


def _base64(text: object) -> bytes:
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except binascii.Error:
        raise ValueError("not base64") from None


def _same(event: object, leaf: bytes) -> bool:
    """Compare as text: to Python 1, 1.0 and true are equal."""
    try:
        return json.dumps(event, sort_keys=True) == json.dumps(parse(leaf), sort_keys=True)
    except ValueError:
        return False
