"""The store of several brokers: one database of PostgreSQL, to which every process appends.

The head is one row. Whoever appends locks it, so the brokers queue up there, and moves it from the very state that it
was locked in. Durable means: `synchronous_commit`, `fsync` and `full_page_writes` as they must be, read in each
transaction, and a commit of which the server did not warn. Of a commit without an answer the store finds out what
became of it; only when it cannot, nobody knows.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar
from uuid import uuid4

from broker.audit.schema import VERSION
from broker.audit.stores import (
    Batch,
    Head,
    HeadMoved,
    NotWritten,
    StoredCheckpoint,
    StoredRecord,
    StoreError,
    Write,
)
from broker.audit.stores.address import Address
from broker.audit.stores.migrations import HEAD, wrong_version
from broker.audit.stores.postgresql_rows import (
    TABLES,
    Locked,
    lock_head,
    read_hashes,
    read_head,
    read_newest_checkpoint,
    read_oddity,
    read_oldest,
    read_records,
    read_version,
)
from broker.audit.stores.postgresql_session import Again, Connection, Session, Unknown
from broker.audit.stores.postgresql_writing import append, prune
from broker.model import Clock, utc_now

_ATTEMPTS: Final = 4
_CHUNK: Final = 1024
_CLOCKS_APART: Final = 30
_BETWEEN_TRIES: Final = 0.2
_MIGRATION: Final = 3600.0
"""Seconds that a change of the tables may take."""
_ONE_AT_A_TIME: Final = 0x62726F6B6572  # of those who make or change tables

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """For how many seconds each thing may go on.

    `idle` frees the head from a broker that stands still while it has locked it, so it is shorter than `lock`.
    `settle` is for finding out what became of a commit, for instance while the server starts again.
    """

    connect: float = 5.0
    statement: float = 10.0
    lock: float = 6.0
    idle: float = 4.0
    commit: float = 10.0
    settle: float = 20.0


def exists(address: Address) -> bool:
    """Tell whether a database holds a log, of whatever version."""
    patience = Patience()
    session = Session(address, connect=patience.connect)
    try:
        return bool(session.begin(read_version, patience.statement))
    finally:
        session.close()


class PostgresqlStore:
    """A log in the database at `address`; `clock` is only held against the server's."""

    shared = True

    def __init__(self, address: Address, *, patience: Patience | None = None, clock: Clock = utc_now) -> None:
        self._clock = clock
        self._patience = patience or Patience()
        self._session = Session(address, connect=self._patience.connect)
        self._address = address
        self._epoch = ""
        self._inside = False

    def create(self, first: StoredCheckpoint) -> None:
        """Make the tables, an empty tree and the first checkpoint, in one transaction."""
        try:
            self._durably(partial(self._make, first), lambda: False)
        finally:
            self._session.close()

    def _make(self, first: StoredCheckpoint) -> None:
        from broker.audit.stores.migrations.scripts import script  # noqa: PLC0415 -- a service has no need of Alembic

        async def make(connection: Connection) -> None:
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _ONE_AT_A_TIME)
            if await read_version(connection):
                raise StoreError(f"there is an audit log already: {self._address}")
            await connection.execute(script("postgresql", 0))
            await connection.execute("INSERT INTO head VALUES(1, 0, $1, $2)", first.root, uuid4().hex)
            await connection.execute("INSERT INTO checkpoints VALUES($1, $2, $3, $4)", *first)

        self._call(make)

    def migrate(self) -> int:
        """Bring older tables up to date, in one transaction; answer the version that they had."""
        from broker.audit.stores.migrations.upgrading import upgrade  # noqa: PLC0415 -- as for `create`

        found = VERSION

        def work() -> None:
            nonlocal found
            self._call(lambda connection: connection.execute("SELECT pg_advisory_xact_lock($1)", _ONE_AT_A_TIME))
            found = self._session.call(upgrade, _MIGRATION)

        try:
            self._durably(work, lambda: self._call(read_version) == HEAD)
        finally:
            self.close()
        return found

    def open(self) -> None:
        """Connect, after checks of version and durability."""
        try:
            self._transaction(self._check_server)
        except StoreError:
            self.close()
            raise

    def _check_server(self) -> None:
        version = self._call(read_version)
        if not version:
            raise StoreError(f"there is no audit log in {self._address}; `broker init` makes one")
        if version != HEAD:
            raise StoreError(wrong_version(int(version)))
        if self._call(lambda connection: connection.fetchval("SELECT pg_is_in_recovery()")):
            raise NotWritten(f"{self._address} is a standby: it cannot be written")
        if (encoding := self._setting("server_encoding")) != "UTF8":
            raise StoreError(f"the database of the audit log is encoded in {encoding}, not in UTF8")
        if odd := self._call(lambda connection: read_oddity(connection, TABLES)):
            raise StoreError(odd)
        self._epoch = self._call(read_head)[1]
        self._lock_head()

    def _setting(self, name: str) -> str:
        return str(self._call(lambda connection: connection.fetchval("SELECT current_setting($1)", name)))

    def close(self) -> None:
        """Hang up."""
        self._session.close()

    def check(self) -> None:
        """Nothing to do: each look at the head tells whether it is still this log's."""

    def burden(self) -> str:
        """Tell of clocks that differ: times in the log are this machine's, those of PostgreSQL's own log are not."""
        try:
            there = self._read(lambda connection: connection.fetchval("SELECT extract(epoch FROM clock_timestamp())"))
        except NotWritten:
            return ""
        apart = abs(float(there) - self._clock().timestamp())
        return f"The clocks of this machine and of PostgreSQL are {apart:.0f} s apart." if apart > _CLOCKS_APART else ""

    def head(self) -> Head:
        """Answer the stored head."""
        head, epoch = self._read(read_head)
        self._refuse_another(epoch)
        return head

    def _refuse_another(self, epoch: str) -> None:
        if epoch != self._epoch:
            raise HeadMoved("the database holds another audit log by now")

    def append(self, write: Write) -> None:
        """Commit a batch: events, nodes, head and views together."""
        batch: Batch | None = None

        def work() -> None:
            nonlocal batch
            locked = self._lock_head()
            batch = write(locked.head)
            self._call(partial(_put, locked=locked, batch=batch))

        def landed() -> bool:
            return batch is not None and self._holds(batch)

        self._durably(work, landed)

    def _holds(self, batch: Batch) -> bool:
        if not batch.records:
            return True  # a trial: that a commit works now is all that was asked
        index, leaf_hash = batch.records[-1][:2]
        query = "SELECT leaf_hash FROM events WHERE idx = $1"
        return bool(self._call(lambda connection: connection.fetchval(query, index)) == leaf_hash)

    def _lock_head(self) -> Locked:
        """Lock the head, and believe only what this transaction says of its durability."""
        locked = self._call(lock_head)
        if locked.weakness:
            raise NotWritten(f"PostgreSQL does not keep commits durable here: {locked.weakness}")
        if locked.version != HEAD:
            raise StoreError(wrong_version(int(locked.version)))
        self._refuse_another(locked.epoch)
        return locked

    # -- transactions

    def _durably(self, work: Callable[[], object], landed: Callable[[], bool]) -> None:
        """Do and commit, again when the server asks for that. `landed` tells whether it is there."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._transaction(work)
            except Again:
                if attempt == _ATTEMPTS:
                    raise
            except Unknown as problem:
                self._settle(landed, problem)
                return
            else:
                return

    def _transaction(self, work: Callable[[], object]) -> None:
        try:
            self._inside = True
            self._begin()
            work()
            self._session.commit(self._patience.commit)
        except BaseException:
            self._session.rollback(self._patience.statement)
            raise
        finally:
            self._inside = False

    def _begin(self) -> None:
        limits = self._patience
        statements = (
            "BEGIN ISOLATION LEVEL READ COMMITTED;"
            " SELECT set_config('synchronous_commit',"
            " CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, true);"
            f" SET LOCAL statement_timeout = '{limits.statement * 1000:.0f}ms';"
            f" SET LOCAL lock_timeout = '{limits.lock * 1000:.0f}ms';"
            f" SET LOCAL idle_in_transaction_session_timeout = '{limits.idle * 1000:.0f}ms'"
        )
        self._session.begin(lambda connection: connection.execute(statements), limits.statement + 1)

    def _settle(self, landed: Callable[[], bool], doubt: Unknown) -> None:
        """Find out what became of a commit that was not answered.

        Its transaction holds the head until it ends, so whoever has the head sees what came of it. A commit after it
        that the server calls durable makes it durable too: they are one stream.

        Raises:
            NotWritten: it was not written.
            StoreError: nobody can tell.
        """
        there = False

        def look() -> None:
            nonlocal there
            self._lock_head()
            there = landed()
            self._call(lambda connection: connection.execute("UPDATE head SET size = size"))

        until = time.monotonic() + self._patience.settle
        while True:
            try:
                self._transaction(look)
            except NotWritten as problem:
                if time.monotonic() > until:
                    raise StoreError(f"nobody knows what became of a commit: {doubt}; then {problem}") from problem
                time.sleep(_BETWEEN_TRIES)
            else:
                break
        if not there:
            raise NotWritten(f"it was not written: {doubt}") from doubt

    def _call(self, work: Callable[[Connection], Awaitable[_Answer]]) -> _Answer:
        return self._session.call(work, self._patience.statement + 1)

    def _read(self, work: Callable[[Connection], Awaitable[_Answer]]) -> _Answer:
        """Read in the transaction that is open, or in one of its own."""
        if self._inside:
            return self._call(work)

        async def alone(connection: Connection) -> _Answer:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                return await work(connection)

        try:
            return self._session.begin(alone, self._patience.statement)
        except Again:
            return self._session.begin(alone, self._patience.statement)

    # -- reading

    def hashes(self, level: int, first: int, count: int) -> Sequence[bytes]:
        """Answer neighbouring hashes of one kept level."""
        return self._read(partial(read_hashes, level=level, first=first, count=count))

    def records(self, first: int, end: int) -> Iterator[StoredRecord]:
        """Answer a range of records."""
        for start in range(first, end, _CHUNK):
            yield from self._read(partial(read_records, first=start, end=min(end, start + _CHUNK)))

    def oldest(self) -> int:
        """Answer the index of the oldest event with a body."""
        return self._read(read_oldest)

    def newest_checkpoint(self) -> StoredCheckpoint | None:
        """Answer the checkpoint of the greatest size."""
        return self._read(read_newest_checkpoint)

    def newest(self, event: str, end: int) -> int | None:
        """Answer where the newest event of a kind lies below `end`."""
        query = "SELECT max(idx) FROM events WHERE event = $1 AND idx < $2"
        index = self._read(lambda connection: connection.fetchval(query, event, end))
        return None if index is None else int(index)

    def open_requests(self) -> Sequence[int]:
        """Answer the indices of requests that were neither answered nor refused."""
        rows = self._read(lambda connection: connection.fetch("SELECT idx FROM open_requests ORDER BY idx"))
        return [row["idx"] for row in rows]

    def open_among(self, request_ids: Sequence[str]) -> frozenset[str]:
        """Answer which of these are open."""
        query = "SELECT request_id FROM open_requests WHERE request_id = ANY($1::text[])"
        rows = self._read(lambda connection: connection.fetch(query, list(request_ids)))
        return frozenset(row["request_id"] for row in rows)

    def thread_ends(self, threads: Sequence[str]) -> Mapping[str, int]:
        """Answer the newest events of threads."""
        query = "SELECT thread, last_idx FROM threads WHERE thread = ANY($1::text[])"
        return {row[0]: row[1] for row in self._read(lambda connection: connection.fetch(query, list(threads)))}

    # -- bookkeeping

    def add_checkpoint(self, checkpoint: StoredCheckpoint) -> None:
        """Commit a checkpoint. Two processes may sign the same head, but no two heads of one size."""

        async def add(connection: Connection) -> None:
            insert = "INSERT INTO checkpoints VALUES($1, $2, $3, $4) ON CONFLICT DO NOTHING"
            await connection.execute(insert, *checkpoint)
            if await connection.fetchval(root, checkpoint.size) != checkpoint.root:
                raise StoreError(f"two heads of {checkpoint.size} events were signed: the audit log has forked")

        def landed() -> bool:
            found = self._call(lambda connection: connection.fetchval(root, checkpoint.size))
            return bool(found == checkpoint.root)

        root = "SELECT root FROM checkpoints WHERE size = $1"
        self._durably(lambda: self._call(add), landed)

    def claim(self, follower: str, owner: str, now: int, until: int) -> int | None:
        """Claim a follower, unless another owner's claim still holds."""
        query = (
            "INSERT INTO followers AS f VALUES($1, 0, $2, $4)"
            " ON CONFLICT(name) DO UPDATE SET owner = $2, until = $4 WHERE f.owner = $2 OR f.until <= $3"
            " RETURNING position"
        )
        position: int | None = None

        def work() -> None:
            nonlocal position
            position = self._call(lambda connection: connection.fetchval(query, follower, owner, now, until))

        self._durably(work, lambda: False)
        return position

    def advance(self, follower: str, owner: str, position: int) -> None:
        """Move a follower on."""
        query = "UPDATE followers SET position = $1 WHERE name = $2 AND owner = $3"

        def work() -> None:
            tag = self._call(lambda connection: connection.execute(query, position, follower, owner))
            if tag != "UPDATE 1":
                raise NotWritten(f"another process is {follower} by now")

        self._durably(work, lambda: False)


async def _put(connection: Connection, locked: Locked, batch: Batch) -> None:
    if not await append(connection, locked.head, locked.epoch, batch):
        raise HeadMoved("the head moved while it was locked")
    if batch.pruned:
        await prune(connection, batch.pruned)
