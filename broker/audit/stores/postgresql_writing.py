"""What an append does in PostgreSQL, inside the transaction that locked the head: in as few statements as can be.

Every other broker waits meanwhile, so each round to the server counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count

from broker.audit.leaves import search_columns
from broker.audit.projections import VIEWS, Apply, Change, Insert, changes, together
from broker.audit.stores import Batch, Head, Record, Views
from broker.audit.stores.postgresql_session import Connection
from broker.audit.texts import words_of

_APPEND = """
WITH moved AS (
    UPDATE head SET size = $1, root = $2 WHERE size = $3 AND root = $4 AND epoch = $5 RETURNING 1
), kept AS (
    INSERT INTO nodes SELECT * FROM unnest($6::integer[], $7::bigint[], $8::bytea[])
), written AS (
    INSERT INTO events
    SELECT idx, leaf_hash, leaf, time, event, outcome, actor, instance, account, request_id,
        to_tsvector('simple', words)
    FROM unnest($9::bigint[], $10::bytea[], $11::bytea[], $12::bigint[], $13::text[], $14::text[], $15::text[],
        $16::text[], $17::text[], $18::text[], $19::text[])
        AS new(idx, leaf_hash, leaf, time, event, outcome, actor, instance, account, request_id, words)
)
SELECT count(*) FROM moved
"""


async def append(connection: Connection, head: Head, epoch: str, batch: Batch) -> bool:
    """Put a batch after a locked head; False when the head was not that one."""
    columns = _columns([_row(record) for record in batch.records], 11)
    moved = await connection.fetchval(_APPEND, *batch.after, *head, epoch, *_columns(batch.nodes, 3), *columns)
    if batch.views is not None:
        await _write_views(connection, batch.views)
    changed = (change for record in batch.records for change in changes(record.idx, record.members))
    await apply(connection, changed)
    return bool(moved)


async def prune(connection: Connection, end: int) -> None:
    """Keep the leaf hashes of the oldest events, and take their bodies away."""
    await connection.execute("INSERT INTO nodes SELECT 0, idx, leaf_hash FROM events WHERE idx < $1", end)
    await connection.execute("DELETE FROM events WHERE idx < $1", end)
    await connection.execute("DELETE FROM checkpoints WHERE size < $1", end)


async def _write_views(connection: Connection, views: Views) -> None:
    """Replace all rows of every view."""
    for name in VIEWS:
        await connection.execute(f"DELETE FROM {name}")  # noqa: S608 -- our own name
        await connection.executemany(_insert_into(name), views[name])


async def apply(connection: Connection, changed: Iterable[Change]) -> None:
    """Bring changes into the views."""
    for _, group in together(changed):
        await connection.executemany(_statement(group[0]), [_values(change) for change in group])


def _row(record: Record) -> tuple[object, ...]:
    return record.idx, record.leaf_hash, record.leaf, *search_columns(record.members), words_of(record.members)


def _columns(rows: Sequence[Sequence[object]], width: int) -> list[list[object]]:
    return [[row[column] for row in rows] for column in range(width)]


def _statement(change: Change) -> str:
    if isinstance(change, Insert):
        return f"{_insert_into(change.view)} ON CONFLICT DO NOTHING"
    return numbered(change.statement)


def _insert_into(view: str) -> str:
    places = ", ".join(f"${number}" for number in range(1, len(VIEWS[view]) + 1))
    return f"INSERT INTO {view} VALUES({places})"


def _values(change: Change) -> tuple[object, ...]:
    return change.values if isinstance(change, Apply) else change.row


def numbered(statement: str) -> str:
    """Write each `?` as PostgreSQL does: $1, $2 and so on."""
    numbers = count(1)
    return "".join(f"${next(numbers)}" if character == "?" else character for character in statement)
