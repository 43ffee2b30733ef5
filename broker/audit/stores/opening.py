"""The store and the reader of a log, by the setting that says where it is. PostgreSQL's are loaded when asked for."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from broker.audit.stores import Reader, Store, StoreError
from broker.audit.stores.address import Address, sqlite_path
from broker.audit.stores.sqlite import SqliteStore
from broker.audit.stores.sqlite_reader import SqliteReader

if TYPE_CHECKING:
    from broker.audit.stores.postgresql_shared import Shared


def store(database: str) -> Store:
    """Answer the writing side of a log.

    Raises:
        StoreError: the URL cannot be, or what its database needs is not installed.
    """
    path = sqlite_path(database)
    if path is not None:
        return SqliteStore(path)
    _require_driver()
    from broker.audit.stores.postgresql import PostgresqlStore  # noqa: PLC0415 -- not everybody has its driver

    return PostgresqlStore(_address(database))


def reader(database: str | Path, *, patience: float = 2.0) -> Reader:
    """Open the reading side of a log; a search is given up after `patience` seconds.

    Raises:
        StoreError: it cannot be read.
    """
    path = database if isinstance(database, Path) else sqlite_path(database)
    if path is not None:
        return SqliteReader(path, patience=patience)
    _require_driver()
    from broker.audit.stores.postgresql_reader import PostgresqlReader  # noqa: PLC0415 -- as above

    return PostgresqlReader(_address(str(database)), patience=patience)


def shared(database: str, of_one: int) -> AbstractAsyncContextManager[Shared]:
    """Open what all brokers of a PostgreSQL database remember together; see `postgresql_shared`.

    Raises:
        StoreError: what it needs is not installed.
    """
    _require_driver()
    from broker.audit.stores.postgresql_shared import opened  # noqa: PLC0415 -- as above

    return opened(_address(database), of_one)


def exists(database: str) -> bool:
    """Tell whether there is a log.

    Raises:
        StoreError: nobody can tell now.
    """
    path = sqlite_path(database)
    if path is not None:
        return path.exists()
    _require_driver()
    from broker.audit.stores.postgresql import exists as exists_there  # noqa: PLC0415 -- as above

    return exists_there(_address(database))


def migrate(database: str) -> int:
    """Bring the tables of an older log up to date, while nobody else has it; answer the version that they had.

    Raises:
        StoreError: it is in use, of a newer version, not what the broker made, or cannot be written.
    """
    path = sqlite_path(database)
    if path is not None:
        from broker.audit.stores.migrations.upgrading import upgrade_file  # noqa: PLC0415 -- loads Alembic

        return upgrade_file(path)
    _require_driver()
    from broker.audit.stores.postgresql import PostgresqlStore  # noqa: PLC0415 -- as above

    return PostgresqlStore(_address(database)).migrate()


def snapshot(database: str, path: Path) -> None:
    """Copy a log of PostgreSQL, as it is now, into a new file.

    Raises:
        StoreError: it cannot be read or written.
    """
    _require_driver()
    from broker.audit.stores.postgresql_snapshot import snapshot as copy  # noqa: PLC0415 -- as above

    copy(_address(database), path)


def name_of(database: str) -> str:
    """Say to people where a log is kept."""
    path = sqlite_path(database)
    return str(_address(database) if path is None else path)


def _address(database: str) -> Address:
    try:
        return Address.parse(database)
    except ValueError as problem:
        raise StoreError(f"the audit log: {problem}") from problem


def _require_driver() -> None:
    try:
        import asyncpg  # noqa: F401, PLC0415 -- whoever keeps the log in SQLite need not have it
    except ImportError as problem:
        raise StoreError("PostgreSQL needs asyncpg: pip install 'lightsail-credential-broker[postgresql]'") from problem
