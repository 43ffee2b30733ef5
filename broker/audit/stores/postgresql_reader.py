"""Reading a PostgreSQL log: each question in a read-only transaction of its own, on one snapshot, and not for ever."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from broker.audit.projections import VIEWS
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
from broker.audit.stores.address import Address
from broker.audit.stores.migrations import HEAD, wrong_version
from broker.audit.stores.postgresql_rows import (
    read_checkpoints,
    read_hashes,
    read_head,
    read_newest_checkpoint,
    read_oldest,
    read_records,
    read_version,
)
from broker.audit.stores.postgresql_search import found, query
from broker.audit.stores.postgresql_session import Again, Canceled, Connection, Session
from broker.audit.stores.sqlite_reader import host_keys_of

_CONNECT = 5.0
_GRACE = 1.0
_Answer = TypeVar("_Answer")


class PostgresqlReader:
    """Reads the log at `address`; a search is given up after `patience` seconds. For one thread."""

    def __init__(self, address: Address, *, patience: float = 2.0) -> None:
        self._address = address
        self._patience = patience
        self._session = Session(address, connect=_CONNECT)
        try:
            self._check_version()
        except StoreError:
            self._session.close()
            raise

    def _check_version(self) -> None:
        version = self._ask(read_version)
        if not version:
            raise StoreError(f"there is no audit log in {self._address}; `broker init` makes one")
        if version != HEAD:
            raise StoreError(wrong_version(int(version)))

    def close(self) -> None:
        """Hang up."""
        self._session.close()

    def head(self) -> Head:
        """Answer the stored head."""
        return self._ask(read_head)[0]

    def newest_checkpoint(self) -> StoredCheckpoint | None:
        """Answer the checkpoint of the greatest size."""
        return self._ask(read_newest_checkpoint)

    def hashes(self, level: int, first: int, count: int) -> Sequence[bytes]:
        """Answer neighbouring hashes of one kept level."""
        return self._ask(partial(read_hashes, level=level, first=first, count=count))

    def find(self, index: int) -> Found | None:
        """Answer one event."""
        text = "SELECT time, idx, account, leaf_hash, leaf FROM events WHERE idx = $1"
        row = self._ask(lambda connection: connection.fetchrow(text, index))
        return None if row is None else found(row)

    def oldest(self) -> int:
        """Answer the index of the oldest event with a body."""
        return self._ask(read_oldest)

    def records(self, first: int, end: int) -> Sequence[StoredRecord]:
        """Answer a range of records."""
        return self._ask(partial(read_records, first=first, end=end))

    def checkpoints(self, after: int, limit: int) -> Sequence[StoredCheckpoint]:
        """Answer checkpoints by size."""
        rest = "WHERE size > $1 ORDER BY size LIMIT $2"
        return self._ask(lambda connection: read_checkpoints(connection, rest, after, limit))

    def leases(
        self, now: int, *, accounts: frozenset[str] | None, actor: str | None, instance: str | None
    ) -> Sequence[StoredLease]:
        """Answer what is out, by its end."""
        text = (
            "SELECT lease_id, idx, expires_at, actor, instance, account FROM leases WHERE expires_at > $1"
            " AND ($2::text[] IS NULL OR account = ANY($2)) AND ($3::text IS NULL OR actor = $3)"
            " AND ($4::text IS NULL OR instance = $4) ORDER BY expires_at, lease_id"
        )
        values = now, None if accounts is None else list(accounts), actor, instance
        return [StoredLease(*row) for row in self._ask(lambda connection: connection.fetch(text, *values))]

    def host_keys(self, instance: str) -> StoredHostKeys | None:
        """Answer what one instance is held to."""
        kept = self._host_keys("WHERE instance = $1", instance)
        return kept[0] if kept else None

    def all_host_keys(self) -> Sequence[StoredHostKeys]:
        """Answer what every instance is held to."""
        return self._host_keys("")

    def _host_keys(self, where: str, *values: object) -> Sequence[StoredHostKeys]:
        columns = "instance, idx, pinned, offered_idx, offered"
        text = f'SELECT {columns} FROM host_keys {where} ORDER BY instance COLLATE "C"'  # noqa: S608 -- our own text
        rows = self._ask(lambda connection: connection.fetch(text, *values))
        return [host_keys_of((row[0], row[1], row[2], row[3], row[4])) for row in rows]

    def thread(self, thread: str) -> StoredThread | None:
        """Answer one thread."""
        found = self._threads("thread = $1", thread)
        return found[0] if found else None

    def threads(self, kind: str, *, event: str | None = None, actor: str | None = None) -> Sequence[StoredThread]:
        """Answer threads, the oldest first."""
        where = (
            "kind = $1 AND ($2::text IS NULL OR event = $2)"
            " AND ($3::text IS NULL OR (left(actor, 200) = left($3, 200) AND actor = $3))"
        )
        return self._threads(where, kind, event, actor)

    def _threads(self, where: str, *values: object) -> Sequence[StoredThread]:
        text = f"SELECT {', '.join(VIEWS['threads'])} FROM threads WHERE {where} ORDER BY idx"  # noqa: S608 -- our own text
        return [StoredThread(*row) for row in self._ask(lambda connection: connection.fetch(text, *values))]

    def asked_since(self, actor: str, event: str, since: int, after: int) -> Sequence[tuple[int, int, str, str]]:
        """Answer what one actor asked for lately."""
        text = (
            "SELECT idx, time, instance, request_id FROM events WHERE left(actor, 200) = left($1, 200) AND actor = $1"
            " AND time >= $2 AND event = $3 AND idx > $4 ORDER BY idx"
        )
        rows = self._ask(lambda connection: connection.fetch(text, actor, since, event, after))
        return [(row[0], row[1], row[2], row[3]) for row in rows]

    def tally(self, events: Sequence[str], since: int, until: int) -> Sequence[Tally]:
        """Count events, along the index of names."""
        text = (
            "SELECT account, event, actor, instance, count(*) FROM events"
            " WHERE event = ANY($1::text[]) AND time >= $2 AND time < $3 GROUP BY account, event, actor, instance"
        )
        try:
            rows = self._ask(lambda connection: connection.fetch(text, list(events), since, until))
        except Canceled as problem:
            raise TooSlow("there are too many events to count") from problem
        return [Tally(*row) for row in rows]

    def followers(self) -> Mapping[str, int]:
        """Answer how far each follower has come."""
        text = "SELECT name, position FROM followers"
        return {row[0]: row[1] for row in self._ask(lambda connection: connection.fetch(text))}

    def view(self, name: str) -> Sequence[tuple[object, ...]]:
        """Answer a view."""
        text = f"SELECT {', '.join(VIEWS[name])} FROM {name}"  # noqa: S608 -- our own names
        rows = self._ask(lambda connection: connection.fetch(text))
        return sorted((tuple(row) for row in rows), key=lambda row: row[0])

    def search(self, filters: Filters, limit: int, after: Position | None) -> Sequence[Found]:
        """Answer events by (time, index), newest first, by keyset."""
        text, values = query(filters, limit, after)
        try:
            rows = self._ask(lambda connection: connection.fetch(text, *values))
        except Canceled as problem:
            raise TooSlow("the search took too long; narrow its time or name an actor or instance") from problem
        return [found(row) for row in rows]

    def _ask(self, question: Callable[[Connection], Awaitable[_Answer]]) -> _Answer:
        async def ask(connection: Connection) -> _Answer:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                await connection.execute(f"SET LOCAL statement_timeout = '{self._patience * 1000:.0f}ms'")
                return await question(connection)

        try:
            return self._session.begin(ask, self._patience + _GRACE)
        except Again:  # the server was restarted since the last question
            return self._session.begin(ask, self._patience + _GRACE)
