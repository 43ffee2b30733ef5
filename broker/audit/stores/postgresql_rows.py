"""What the writing and the reading side ask PostgreSQL alike. Each function takes a connection inside a transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from broker.audit.projections import VIEWS
from broker.audit.stores import Head, StoredCheckpoint, StoredRecord, StoreError
from broker.audit.stores.postgresql_session import Connection

TABLES = ("events", "nodes", "head", "checkpoints", *VIEWS, "followers")
_ODD = """
SELECT format('the trigger %I', tgname) FROM pg_trigger WHERE NOT tgisinternal AND tgrelid::regclass::text = ANY($1)
UNION ALL
SELECT format('the rule %I', rulename) FROM pg_rewrite WHERE ev_class::regclass::text = ANY($1)
UNION ALL
SELECT format('%I, which is no table,', relname) FROM pg_class WHERE oid::regclass::text = ANY($1) AND relkind <> 'r'
UNION ALL
SELECT format('the row security of %I', relname) FROM pg_class WHERE oid::regclass::text = ANY($1) AND relrowsecurity
LIMIT 1
"""
_DURABLE = {"synchronous_commit": ("on", "remote_apply"), "fsync": ("on",), "full_page_writes": ("on",)}


class Locked(NamedTuple):
    """The head as it was locked, and the revision of the tables. `weakness` says why a commit would not last."""

    head: Head
    epoch: str
    version: str
    weakness: str


async def lock_head(connection: Connection) -> Locked:
    """Lock the head until this transaction ends, and read on what it rests."""
    settings = "".join(f", current_setting('{name}')" for name in _DURABLE)
    version = "(SELECT max(version_num) FROM alembic_version)"
    row = await connection.fetchrow(f"SELECT size, root, epoch, {version}{settings} FROM head FOR UPDATE")  # noqa: S608 -- our own names
    if row is None:
        raise StoreError("the audit log has no head")
    size, root, epoch, found, *values = row
    weak = [f"{name} is {value}" for name, value in zip(_DURABLE, values, strict=True) if value not in _DURABLE[name]]
    return Locked(Head(size, root), epoch, str(found), ", ".join(weak))


async def read_head(connection: Connection) -> tuple[Head, str]:
    """Read the head, and the log's incarnation."""
    row = await connection.fetchrow("SELECT size, root, epoch FROM head")
    if row is None:
        raise StoreError("the audit log has no head")
    return Head(row["size"], row["root"]), row["epoch"]


async def read_hashes(connection: Connection, level: int, first: int, count: int) -> list[bytes]:
    """Read neighbouring hashes of one kept level; StoreError when one is missing."""
    nodes = "SELECT idx, hash FROM nodes WHERE level = $1 AND idx >= $2 AND idx < $3"
    events = " UNION ALL SELECT idx, leaf_hash FROM events WHERE $1 = 0 AND idx >= $2 AND idx < $3"
    query = f"{nodes}{'' if level else events} ORDER BY idx"
    rows = await connection.fetch(query, level, first, first + count)
    if len(rows) != count:
        raise StoreError(f"hashes are missing at level {level} from {first}")
    return [row[1] for row in rows]


async def read_records(connection: Connection, first: int, end: int) -> list[StoredRecord]:
    """Read the records of a range, as many of them as are there."""
    query = "SELECT idx, leaf_hash, leaf FROM events WHERE idx >= $1 AND idx < $2 ORDER BY idx"
    return [StoredRecord(*row) for row in await connection.fetch(query, first, end)]


async def read_oldest(connection: Connection) -> int:
    """Read the index of the oldest event that has its body."""
    return int(await connection.fetchval("SELECT coalesce((SELECT min(idx) FROM events), size) FROM head"))


async def read_newest_checkpoint(connection: Connection) -> StoredCheckpoint | None:
    """Read the checkpoint of the greatest size."""
    found = await read_checkpoints(connection, "ORDER BY size DESC LIMIT 1")
    return found[0] if found else None


async def read_checkpoints(connection: Connection, rest: str, *values: object) -> Sequence[StoredCheckpoint]:
    """Read checkpoints; `rest` is how the query goes on."""
    rows = await connection.fetch(f"SELECT size, root, time, note FROM checkpoints {rest}", *values)  # noqa: S608 -- our own text
    return [StoredCheckpoint(*row) for row in rows]


async def read_oddity(connection: Connection, tables: Sequence[str]) -> str:
    """Say what on these tables changes what is written or read; empty when nothing does."""
    odd = await connection.fetchval(_ODD, list(tables))
    return f"{odd} does not belong into the database of an audit log: verify it before you go on" if odd else ""


async def read_version(connection: Connection) -> str:
    """Read the revision of the tables; empty when there is no log at all."""
    if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
        return ""
    return str(await connection.fetchval("SELECT max(version_num) FROM alembic_version") or "")
