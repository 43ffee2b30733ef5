"""Bringing the tables of an older log up to date, in one transaction: all of it, or none.

The views follow from the events, so they are filled by replaying them; nothing else is ever changed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from broker.audit.events import decode
from broker.audit.projections import VIEWS, Change, changes
from broker.audit.schema import VERSION, difference
from broker.audit.stores import StoreError
from broker.audit.stores.files import ProcessLock, check_existing
from broker.audit.stores.migrations.scripts import script
from broker.audit.stores.sqlite import apply, make_durable, translated

if TYPE_CHECKING:
    from broker.audit.stores.postgresql_session import Connection

_AT_ONCE: Final = 1000


def upgrade_file(path: Path) -> int:
    """Upgrade a SQLite log under its lock; answer the version that it had.

    Raises:
        InUse: when a broker has it.
        StoreError: when it cannot be upgraded; then it is as it was.
    """
    check_existing(path)
    lock = ProcessLock(path)
    lock.acquire()
    try:
        with translated(), closing(sqlite3.connect(path, isolation_level=None)) as connection:
            make_durable(connection)
            return _upgrade_tables(connection)
    finally:
        lock.release()


def _upgrade_tables(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if not _is_older(version):
        return int(version)
    connection.executescript(f"BEGIN IMMEDIATE; {script('sqlite', version)}")
    for name in VIEWS:
        connection.execute(f"DELETE FROM {name}")  # noqa: S608 -- our own name
    events = connection.execute("SELECT idx, leaf FROM events ORDER BY idx")
    while some := events.fetchmany(_AT_ONCE):
        apply(connection, _changes(some))
    if odd := difference(connection):
        raise StoreError(f"{odd}: these are not the tables that a broker made; nothing was changed")
    connection.execute(f"PRAGMA user_version={VERSION}")
    connection.execute("COMMIT")
    return int(version)


async def upgrade(connection: Connection) -> int:
    """Upgrade the tables of a PostgreSQL log, inside a transaction; answer the version that they had."""
    from broker.audit.stores.postgresql_rows import read_version  # noqa: PLC0415 -- not everybody has its driver
    from broker.audit.stores.postgresql_writing import apply as apply_there  # noqa: PLC0415 -- as above

    found = await read_version(connection)
    version = int(found) if found.isdecimal() else 0
    if not _is_older(version):
        return version
    await connection.execute("SET LOCAL statement_timeout = 0")
    await connection.execute("LOCK TABLE head IN ACCESS EXCLUSIVE MODE")
    await connection.execute(script("postgresql", version))
    for name in VIEWS:
        await connection.execute(f"DELETE FROM {name}")  # noqa: S608 -- our own name
    rows = await connection.cursor("SELECT idx, leaf FROM events ORDER BY idx")
    while some := await rows.fetch(_AT_ONCE):
        await apply_there(connection, _changes((row["idx"], row["leaf"]) for row in some))
    return version


def _changes(events: Iterable[tuple[int, bytes]]) -> Iterator[Change]:
    for index, leaf in events:
        try:
            yield from changes(index, decode(leaf))
        except ValueError as problem:
            raise StoreError(f"event {index} cannot be read: {problem}; nothing was changed") from problem


def _is_older(version: int) -> bool:
    """Tell whether there is something to do.

    Raises:
        StoreError: it is not ours to do.
    """
    if version > VERSION:
        raise StoreError(f"the audit log has schema version {version}, this broker knows {VERSION}: run a newer one")
    if version < 1:
        raise StoreError("there is no audit log here; `broker init` makes one")
    return version < VERSION
