"""Reading a SQLite log beside its writer: a connection that cannot write and never checkpoints.

That is not only caution. SQLite before 3.51.3 may lose commits when two connections write or checkpoint the same
write-ahead log; a read-only connection does neither, so the one writer stays the only one.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from broker.audit.leaves import parse, search_columns
from broker.audit.stores import (
    Filters,
    Found,
    Head,
    Position,
    StoredCheckpoint,
    StoredHostKeys,
    StoredLease,
    StoredRecord,
    StoredThread,
    StoreError,
    Tally,
    TooSlow,
)
from broker.audit.stores.fitting import fits
from broker.audit.stores.sqlite import read_hashes, read_newest_checkpoint, read_oldest, read_view, translated

_FIELDS = "time, idx, account, leaf_hash, leaf"
_STEPS_BETWEEN_LOOKS = 10_000
_AT_ONCE = 500
_TOO_SLOW = "the search took too long; narrow its time or name an actor or instance"


def side_file(database: Path) -> Path:
    """Answer where the index of words of a log lies, if it has one (see `sqlite_texts`)."""
    return database.with_name(database.name + "-texts")


class SqliteReader:
    """Reads the log in the file `path`; a search is given up after `patience` seconds. For one thread."""

    def __init__(self, path: Path, *, patience: float = 2.0) -> None:
        with translated():
            uri = f"{path.absolute().as_uri()}?mode=ro"
            self._connection = sqlite3.connect(uri, uri=True, isolation_level=None)
            self._connection.execute("PRAGMA query_only=ON")
            self._connection.execute("PRAGMA trusted_schema=OFF")
        self._patience = patience
        self._texts = side_file(path)
        self._attached = 0
        """The file that is attached, by its number; 0 for none."""

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def head(self) -> Head:
        """Answer the stored head."""
        with translated():
            row = self._connection.execute("SELECT size, root FROM head").fetchone()
        if row is None:
            raise StoreError("the audit log has no head")
        return Head(*row)

    def newest_checkpoint(self) -> StoredCheckpoint | None:
        """Answer the checkpoint of the greatest size."""
        with translated():
            return read_newest_checkpoint(self._connection)

    def hashes(self, level: int, first: int, count: int) -> Sequence[bytes]:
        """Answer neighbouring hashes of one kept level."""
        with translated():
            return read_hashes(self._connection, level, first, count)

    def find(self, index: int) -> Found | None:
        """Answer one event."""
        with translated():
            row = self._connection.execute(f"SELECT {_FIELDS} FROM events WHERE idx = ?", (index,)).fetchone()  # noqa: S608 -- our own constant
        return row and _found(row)

    def oldest(self) -> int:
        """Answer the index of the oldest event with a body."""
        with translated():
            return read_oldest(self._connection)

    def records(self, first: int, end: int) -> Sequence[StoredRecord]:
        """Answer a range of records."""
        query = "SELECT idx, leaf_hash, leaf FROM events WHERE idx >= ? AND idx < ? ORDER BY idx"
        with translated():
            return [StoredRecord(*row) for row in self._connection.execute(query, (first, end))]

    def checkpoints(self, after: int, limit: int) -> Sequence[StoredCheckpoint]:
        """Answer checkpoints by size."""
        query = "SELECT size, root, time, note FROM checkpoints WHERE size > ? ORDER BY size LIMIT ?"
        with translated():
            return [StoredCheckpoint(*row) for row in self._connection.execute(query, (after, limit))]

    def leases(
        self, now: int, *, accounts: frozenset[str] | None, actor: str | None, instance: str | None
    ) -> Sequence[StoredLease]:
        """Answer what is out, by its end."""
        query = "SELECT * FROM leases WHERE expires_at > ? ORDER BY expires_at, lease_id"
        with translated():
            found = [StoredLease(*row) for row in self._connection.execute(query, (now,))]
        return [
            lease
            for lease in found
            if (accounts is None or lease.account in accounts)
            and actor in {None, lease.actor}
            and instance in {None, lease.instance}
        ]

    def host_keys(self, instance: str) -> StoredHostKeys | None:
        """Answer what one instance is held to."""
        with translated():
            row = self._connection.execute("SELECT * FROM host_keys WHERE instance = ?", (instance,)).fetchone()
        return row and host_keys_of(row)

    def all_host_keys(self) -> Sequence[StoredHostKeys]:
        """Answer what every instance is held to."""
        with translated():
            return [host_keys_of(row) for row in self._connection.execute("SELECT * FROM host_keys ORDER BY instance")]

    def thread(self, thread: str) -> StoredThread | None:
        """Answer one thread."""
        with translated():
            row = self._connection.execute("SELECT * FROM threads WHERE thread = ?", (thread,)).fetchone()
        return row and StoredThread(*row)

    def threads(self, kind: str, *, event: str | None = None, actor: str | None = None) -> Sequence[StoredThread]:
        """Answer threads, the oldest first."""
        wanted = {"kind": kind, "event": event, "actor": actor}
        terms = {name: value for name, value in wanted.items() if value is not None}
        where = " AND ".join(f"{name} = :{name}" for name in terms)
        query = f"SELECT * FROM threads WHERE {where} ORDER BY idx"  # noqa: S608 -- our own names
        with translated():
            return [StoredThread(*row) for row in self._connection.execute(query, terms)]

    def asked_since(self, actor: str, event: str, since: int, after: int) -> Sequence[tuple[int, int, str, str]]:
        """Answer what one actor asked for lately."""
        query = (
            "SELECT idx, time, instance, request_id FROM events INDEXED BY events_by_actor"
            " WHERE actor = ? AND time >= ? AND event = ? AND idx > ? ORDER BY idx"
        )
        with translated():
            return self._connection.execute(query, (actor, since, event, after)).fetchall()

    def tally(self, events: Sequence[str], since: int, until: int) -> Sequence[Tally]:
        """Count events, along the index of names."""
        names = {f"event{number}": event for number, event in enumerate(events)}
        query = (
            "SELECT account, event, actor, instance, count(*) FROM events INDEXED BY events_by_event"  # noqa: S608 -- values are bound
            f" WHERE event IN ({', '.join(f':{name}' for name in names)}) AND time >= :since AND time < :until"
            " GROUP BY account, event, actor, instance"
        )
        return [Tally(*row) for row in self._patiently(query, {**names, "since": since, "until": until})]

    def followers(self) -> Mapping[str, int]:
        """Answer how far each follower has come."""
        with translated():
            return dict(self._connection.execute("SELECT name, position FROM followers"))

    def view(self, name: str) -> Sequence[tuple[object, ...]]:
        """Answer a view."""
        with translated():
            return read_view(self._connection, name)

    def search(self, filters: Filters, limit: int, after: Position | None) -> Sequence[Found]:
        """Answer events by (time, index), newest first, by keyset; with words, by index."""
        if not filters.text:
            return self._ask(*query_of(filters, limit, after))
        before = self.head().size if after is None else after.idx
        reach = self._reach()
        found = self._look_through(filters, limit, reach, before)
        if len(found) == limit or not reach:
            return found
        try:
            return found + self._ask(*_indexed(filters, limit - len(found), min(before, reach)))
        except TooSlow:
            raise
        except StoreError:  # a damaged index, or a SQLite without FTS5: the events themselves have it all
            return self._look_through(filters, limit, 0, before)

    def _reach(self) -> int:
        """Answer up to which event the index of words goes, 0 when there is none."""
        try:
            self._attach()
            size, leaf_hash = self._connection.execute("SELECT size, leaf_hash FROM texts.reach").fetchone()
            newest = self.records(size - 1, size) if size else ()
        except (
            sqlite3.Error,
            OSError,
            StoreError,
        ):  # not there, or damaged: all is looked through meanwhile
            return 0
        return int(size) if [record.leaf_hash for record in newest] == [leaf_hash] else 0

    def _attach(self) -> None:
        """Open the index of words; anew when it was made anew."""
        file = self._texts.stat().st_ino
        if self._attached == file:
            return
        if self._attached:
            self._connection.execute("DETACH DATABASE texts")
            self._attached = 0
        self._connection.execute("ATTACH DATABASE ? AS texts", (f"{self._texts.absolute().as_uri()}?mode=ro",))
        self._attached = file

    def _look_through(self, filters: Filters, limit: int, first: int, end: int) -> list[Found]:
        """Answer events from `first` up to `end` that fit, newest first: what the index does not hold yet."""
        found: list[Found] = []
        deadline = monotonic() + self._patience
        while end > first and len(found) < limit:
            start = max(first, end - _AT_ONCE)
            for record in reversed(self.records(start, end)):
                members = parse(record.leaf)
                columns = search_columns(members)
                if fits(filters, columns, members):
                    found.append(Found(columns.time, columns.account, record))
            end = start
            if monotonic() > deadline:
                raise TooSlow(_TOO_SLOW)
        return found[:limit]

    def _ask(self, query: str, values: Mapping[str, object]) -> list[Found]:
        return [_found(row) for row in self._patiently(query, values)]

    def _patiently(self, query: str, values: Mapping[str, object]) -> list[Any]:
        deadline = monotonic() + self._patience
        self._connection.set_progress_handler(lambda: monotonic() > deadline, _STEPS_BETWEEN_LOOKS)
        try:
            with translated():
                return self._connection.execute(query, values).fetchall()
        except StoreError as problem:
            if monotonic() > deadline:
                raise TooSlow(_TOO_SLOW) from problem
            raise
        finally:
            self._connection.set_progress_handler(None, 0)


def host_keys_of(row: tuple[str, int, str, int | None, str | None]) -> StoredHostKeys:
    """Read a row of the view of host keys; any store keeps the lists as JSON."""
    instance, index, pinned, offered_index, offered = row
    return StoredHostKeys(instance, index, tuple(json.loads(pinned)), offered_index, tuple(json.loads(offered or "[]")))


def _found(row: tuple[int, int, str, bytes, bytes]) -> Found:
    time, index, account, leaf_hash, leaf = row
    return Found(time, account, StoredRecord(index, leaf_hash, leaf))


def query_of(filters: Filters, limit: int, after: Position | None) -> tuple[str, dict[str, object]]:
    """Write one indexed walk, or one for each account that the reader may see, merged."""
    terms, values = _terms(filters, after)
    values["limit"] = limit
    if filters.accounts is None:
        return _walk(terms), values
    if not filters.accounts:
        return _walk([*terms, "FALSE"]), values
    if filters.actor or filters.instance or filters.request_id:  # their indexes are better than that of an account
        return _walk([*terms, _of_accounts(filters.accounts, values)]), values
    walks = []
    for number, account in enumerate(sorted(filters.accounts)):
        values[f"account{number}"] = account
        walks.append(f"SELECT * FROM ({_walk([*terms, f'account = :account{number}'])})")  # noqa: S608 -- values are bound
    return f"{' UNION ALL '.join(walks)} ORDER BY time DESC, idx DESC LIMIT :limit", values


def _indexed(filters: Filters, limit: int, before: int) -> tuple[str, dict[str, object]]:
    """Write a walk along the index of words, from an event downwards."""
    terms, values = _terms(filters, None)
    if filters.accounts is not None:
        terms.append(_of_accounts(filters.accounts, values))
    match = " AND ".join(f'"{word}"' for word in filters.text)
    where = " AND ".join(["words MATCH :match", "words.rowid < :before", *terms])
    query = f"SELECT {_FIELDS} FROM texts.words JOIN events ON events.idx = words.rowid WHERE {where}"  # noqa: S608 -- values are bound
    return f"{query} ORDER BY words.rowid DESC LIMIT :limit", {
        **values,
        "match": match,
        "before": before,
        "limit": limit,
    }


def _of_accounts(accounts: frozenset[str], values: dict[str, object]) -> str:
    """Write which accounts a walk along another index may show; the plus keeps the index of accounts out of it."""
    names = {f"account{number}": account for number, account in enumerate(sorted(accounts))}
    values |= names
    return f"+account IN ({', '.join(f':{name}' for name in names)})"


def _walk(terms: Sequence[str]) -> str:
    where = f"WHERE {' AND '.join(terms)}" if terms else ""
    return f"SELECT {_FIELDS} FROM events {where} ORDER BY time DESC, idx DESC LIMIT :limit"  # noqa: S608 -- values are bound


def _terms(filters: Filters, after: Position | None) -> tuple[list[str], dict[str, object]]:
    wanted: dict[str, object] = {
        name: value
        for name in ("actor", "instance", "event", "outcome", "request_id")
        if (value := getattr(filters, name)) is not None
    }
    terms = [f"{name} = :{name}" for name in wanted]
    if filters.protocol is not None:
        terms.append("instr(leaf, :member) > 0")
        wanted["member"] = filters.member
    if filters.since is not None:
        terms.append("time >= :since")
        wanted["since"] = filters.since
    until = filters.until
    if after is not None:  # where the last page ended bounds the walk; `until` alone would have it begin anew each time
        until = after.time + 1 if until is None else min(until, after.time + 1)
    if until is not None:
        terms.append("time < :until")
        wanted["until"] = until
    if after is not None:
        terms.append("(time, idx) < (:after_time, :after_index)")
        wanted |= {"after_time": after.time, "after_index": after.idx}
    return terms, wanted
