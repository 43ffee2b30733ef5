"""A PostgreSQL log as a file: everything of one moment, in the tables of SQLite, for whoever reads it offline.

So there is one verifier and one export for both. What only the database itself could hide is refused before.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from broker.audit.schema import SCHEMA, VERSION
from broker.audit.stores import StoreError
from broker.audit.stores.address import Address
from broker.audit.stores.migrations import HEAD, wrong_version
from broker.audit.stores.postgresql_rows import read_oddity, read_version
from broker.audit.stores.postgresql_session import Connection, Session

_AT_ONCE = 2000
_CONNECT = 5.0
_TABLES = {
    "events": "idx, leaf_hash, leaf, time, event, outcome, actor, instance, account, request_id",
    "nodes": "level, idx, hash",
    "head": "one, size, root",
    "checkpoints": "size, root, time, note",
    "open_requests": "idx, request_id",
    "leases": "lease_id, idx, expires_at, actor, instance, account",
    "host_keys": "instance, idx, pinned, offered_idx, offered",
    "followers": "name, position, owner, until",
}


def snapshot(address: Address, path: Path, *, seconds: float = 86_400.0) -> None:
    """Copy the log as it is now into a new file; others go on appending meanwhile.

    Raises:
        StoreError: it cannot be read, or its tables are not as the broker makes them.
    """
    session = Session(address, connect=_CONNECT)
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as copy:
            copy.executescript(f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; BEGIN; {SCHEMA}")
            session.begin(lambda connection: _copy(connection, copy), seconds)
            copy.execute(f"PRAGMA user_version={VERSION}")
            copy.execute("COMMIT")
    except sqlite3.Error as problem:
        raise StoreError(f"the copy of the audit log cannot be written to {path}: {problem}") from problem
    finally:
        session.close()


async def _copy(connection: Connection, copy: sqlite3.Connection) -> None:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        if (version := await read_version(connection)) != HEAD:
            raise StoreError(wrong_version(int(version or 0)))
        if odd := await read_oddity(connection, list(_TABLES)):
            raise StoreError(odd)
        for table, columns in _TABLES.items():
            places = ", ".join("?" * len(columns.split(", ")))
            rows = await connection.cursor(f"SELECT {columns} FROM {table}")  # noqa: S608 -- our own names
            while some := await rows.fetch(_AT_ONCE):
                copy.executemany(f"INSERT INTO {table} VALUES({places})", map(tuple, some))
