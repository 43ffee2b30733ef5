"""An index of words beside a SQLite log, in a file of its own: derived, disposable, and made anew when it does not fit.

So the log's file holds nothing that cannot be verified, and appending does nothing for searches of words. One writing
connection, in one thread; readers attach the file and look through the few newest events themselves.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from broker.audit.leaves import parse
from broker.audit.stores import StoredRecord
from broker.audit.stores.sqlite_reader import SqliteReader, side_file
from broker.audit.texts import words_of

AT_ONCE: Final = 1000
"""So many events are taken in by one transaction."""
_TABLES = """
CREATE VIRTUAL TABLE words USING fts5(text, content='', columnsize=0, detail=none, tokenize=ascii);
CREATE TABLE reach(oldest INTEGER NOT NULL, size INTEGER NOT NULL, leaf_hash BLOB NOT NULL) STRICT;
INSERT INTO reach VALUES(0, 0, x'');
PRAGMA user_version=1;
"""


class TextIndex:
    """Takes in what is new in a log. Belongs to the thread that made it."""

    def __init__(self, database: Path) -> None:
        self._path = side_file(database)
        self._reader = SqliteReader(database)
        self._connection = self._open()

    def _open(self) -> sqlite3.Connection:
        with suppress(sqlite3.Error):
            connection = self._connect()
            if self._is_of_this_log(connection):
                return connection
            connection.close()
        for name in (self._path.name, f"{self._path.name}-wal", f"{self._path.name}-shm"):
            self._path.with_name(name).unlink(missing_ok=True)
        self._path.touch(0o600, exist_ok=False)
        connection = self._connect()
        connection.executescript(_TABLES)
        return connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection

    def _is_of_this_log(self, connection: sqlite3.Connection) -> bool:
        """Tell whether what was taken in is what lies in the log: it has the same last event, and none was pruned."""
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version != 1 or connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            return False
        oldest, size, leaf_hash = connection.execute("SELECT oldest, size, leaf_hash FROM reach").fetchone()
        if not size:
            return True
        newest = [record.leaf_hash for record in self._reader.records(size - 1, size)]
        return bool(oldest == self._reader.oldest() and newest == [leaf_hash])

    def update(self) -> int:
        """Take in the next events; answer how many, 0 when there are none."""
        (size,) = self._connection.execute("SELECT size FROM reach").fetchone()
        start = size or self._reader.oldest()
        records = self._reader.records(start, start + AT_ONCE)
        if records:
            self._take_in(records)
        return len(records)

    def _take_in(self, records: Sequence[StoredRecord]) -> None:
        rows = [(record.idx, words_of(parse(record.leaf))) for record in records]
        reach = (self._reader.oldest(), records[-1].idx + 1, records[-1].leaf_hash)
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._connection.executemany("INSERT INTO words(rowid, text) VALUES(?, ?)", rows)
            self._connection.execute("UPDATE reach SET oldest = ?, size = ?, leaf_hash = ?", reach)
            self._connection.execute("COMMIT")
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Let go of both files."""
        self._connection.close()
        self._reader.close()
