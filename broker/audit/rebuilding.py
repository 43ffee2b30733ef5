"""The views of a log, made again from its events alone, and held against those that are stored.

Events that were pruned cannot be replayed: what rests on one of them alone is taken from the stored views, and counted.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from broker.audit.leaves import parse
from broker.audit.projections import VIEWS, changes
from broker.audit.schema import SCHEMA
from broker.audit.stores import Reader, StoredRecord, StoreError, Views
from broker.audit.stores.sqlite import apply, read_view, write_views
from broker.errors import AuditUnavailable

_AT_ONCE: Final = 1000
_TRIES: Final = 100
_Row = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What `size` events give, and what is stored. `kept` is how many rows of each view rest on pruned events."""

    size: int
    views: Views
    stored: Views
    kept: Mapping[str, int]

    @property
    def differences(self) -> Sequence[str]:
        """Every row that differs, as a sentence that begins with its view."""
        return [line for name in VIEWS for line in _differences(name, self.stored[name], self.views[name])]


def rebuild(reader: Reader) -> Rebuilt:
    """Replay the log, in bounded memory, up to a head at which the stored views were seen too.

    A service may go on writing: what it adds is replayed until both are of one head.

    Raises:
        StoreError: when the log cannot be read, or lacks events.
        AuditUnavailable: when it grows faster than it can be read.
    """
    oldest = size = reader.oldest()
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(SCHEMA)
        write_views(connection, _resting_below(oldest, _stored(reader)))
        for _ in range(_TRIES):
            head = reader.head().size
            _replay(connection, reader.records, size, head)
            size, stored = head, _stored(reader)
            if reader.head().size == head:  # a log only grows, so it had this size all the while
                views = {name: read_view(connection, name) for name in VIEWS}
                kept = {name: len(rows) for name, rows in _resting_below(oldest, views).items()}
                return Rebuilt(size, views, stored, kept)
    raise AuditUnavailable("the log grows faster than it can be read; stop the service for this")


def _replay(
    connection: sqlite3.Connection, read: Callable[[int, int], Sequence[StoredRecord]], first: int, end: int
) -> None:
    """Apply the events one by one: only what has one time may be put together."""
    connection.execute("BEGIN")
    for start in range(first, end, _AT_ONCE):
        stop = min(start + _AT_ONCE, end)
        records = read(start, stop)
        if [record.idx for record in records] != list(range(start, stop)):
            raise StoreError(f"not all of the events {start} to {stop - 1} are there: verify the log")
        for record in records:
            apply(connection, changes(record.idx, _members(record)))
    connection.execute("COMMIT")


def _members(record: StoredRecord) -> Mapping[str, object]:
    try:
        return parse(record.leaf)
    except ValueError as problem:
        raise StoreError(f"event {record.idx} cannot be read: verify the log") from problem


def _stored(reader: Reader) -> Views:
    return {name: reader.view(name) for name in VIEWS}


def _resting_below(oldest: int, views: Views) -> Views:
    """Answer the rows that no event tells any more, without what a later one has put into them."""
    return {name: [*_rows_below(oldest, VIEWS[name], rows)] for name, rows in views.items()}


def _rows_below(oldest: int, columns: Sequence[str], rows: Sequence[_Row]) -> Iterator[_Row]:
    for row in rows:
        members = dict(zip(columns, row, strict=True))
        if not _is_below(oldest, members["idx"]):
            continue
        if "offered_idx" in members and not _is_below(oldest, members["offered_idx"]):
            members |= {"offered_idx": None, "offered": None}
        if "facts" in members:
            members |= _told_below(oldest, str(members["facts"]))
        yield tuple(members.values())


def _told_below(oldest: int, facts: str) -> Mapping[str, object]:
    """Answer what a thread was before the events that can be replayed."""
    lines = [line for line in facts.splitlines(keepends=True) if _is_below(oldest, json.loads(line)["index"])]
    newest = json.loads(lines[-1])
    return {"last_idx": newest["index"], "event": newest["event"], "facts": "".join(lines)}


def _is_below(oldest: int, index: object) -> bool:
    return isinstance(index, int) and index < oldest


def _differences(name: str, stored: Sequence[_Row], rebuilt: Sequence[_Row]) -> Iterator[str]:
    ours, theirs = ({row[0]: row for row in rows} for rows in (rebuilt, stored))
    for key in sorted({*ours, *theirs}, key=str):
        if key not in theirs:
            yield f"{name}: {key} is missing"
        elif key not in ours:
            yield f"{name}: {key} is there, and by the events it is not"
        elif ours[key] != theirs[key]:
            pairs = zip(VIEWS[name], theirs[key], ours[key], strict=True)
            wrong = [f"{column} is {there!r}, not {here!r}" for column, there, here in pairs if there != here]
            yield f"{name}: {key}: {', '.join(wrong)}"
