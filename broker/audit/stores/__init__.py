"""What the log needs of a database, as one small protocol. Each store passes the same contract test.

A store is passive: it keeps what it is told, in one transaction, if its head is still the expected one. Its methods
block; the log calls them from its writer thread alone, so a store may own one connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class StoreError(Exception):
    """Anything that a store cannot do; the message is for the log, not for callers."""


class NotWritten(StoreError):
    """A clean failure before anything was synced (full, busy, read-only): nothing was written, trying later may do."""


class InUse(StoreError):
    """Another process writes this log, and the store serves one."""


class HeadMoved(StoreError):
    """The stored head is not one that the log can continue: somebody else has written what must not be there."""


class Head(NamedTuple):
    """How long the log is, and its root hash."""

    size: int
    root: bytes


class Node(NamedTuple):
    """A complete node of the tree, at one of the levels that are kept."""

    level: int
    idx: int
    hash: bytes


class Record(NamedTuple):
    """One event on its way into a store: its index, exact bytes, their hash, and its members."""

    idx: int
    leaf_hash: bytes
    leaf: bytes
    members: Mapping[str, object]


class StoredRecord(NamedTuple):
    """One event as it lies in a store."""

    idx: int
    leaf_hash: bytes
    leaf: bytes


class StoredCheckpoint(NamedTuple):
    """A signed head. `time` is milliseconds since 1970, for people; it is not signed."""

    size: int
    root: bytes
    time: int
    note: str


Views = Mapping[str, Sequence[tuple[object, ...]]]
"""The rows of every view, by its name; the columns are those of `projections.VIEWS`."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction appends, and the head that comes of it. Without records it is a trial.

    Events below `pruned` lose their bodies in the same transaction: their leaf hashes become nodes of level 0.
    `views`, when given, are all rows of every view, by its name: they replace those that are there.
    """

    after: Head
    records: Sequence[Record]
    nodes: Sequence[Node]
    pruned: int = 0
    views: Views | None = None


Write = Callable[[Head], Batch]
"""Told the head that the store has locked, answers what comes after it. May be asked again when a commit is retried."""


class TreeReader(Protocol):
    """Reading enough of the tree for frontier and proofs."""

    def hashes(self, level: int, first: int, count: int) -> Sequence[bytes]:
        """Answer `count` neighbouring hashes of a kept level; level 0 are the leaf hashes.

        Raises:
            StoreError: when one is missing.
        """
        ...


class Store(TreeReader, Protocol):
    """The writing side. Every method may raise StoreError."""

    @property
    def shared(self) -> bool:
        """Whether other processes append to the same log, so that its head moves by itself."""
        ...

    def create(self, first: StoredCheckpoint) -> None:
        """Make an empty log with its first checkpoint (size 0), durable when this returns; then close it."""
        ...

    def open(self) -> None:
        """Open an existing log for this process alone, after checking that commits will be durable."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...

    def check(self) -> None:
        """Raise StoreError when what is open is no longer what its name leads to."""
        ...

    def burden(self) -> str:
        """Answer a sentence about what should be looked at though everything works; empty when there is nothing."""
        ...

    def head(self) -> Head:
        """Answer the stored head."""
        ...

    def append(self, write: Write) -> None:
        """Lock the head, and commit durably what `write` puts after it: events, nodes, head and views together.

        What `write` raises leaves nothing written, and comes out as it is.

        Raises:
            NotWritten: after a clean failure; nothing was written.
            StoreError: when nobody knows whether it was written.
        """
        ...

    def records(self, first: int, end: int) -> Iterator[StoredRecord]:
        """Answer the records from `first` up to, not including, `end`."""
        ...

    def oldest(self) -> int:
        """Answer the index of the oldest event that still has its body; the size of the log when none has."""
        ...

    def newest_checkpoint(self) -> StoredCheckpoint | None:
        """Answer the checkpoint of the greatest size."""
        ...

    def add_checkpoint(self, checkpoint: StoredCheckpoint) -> None:
        """Commit a checkpoint durably. Raises as `append` does."""
        ...

    def newest(self, event: str, end: int) -> int | None:
        """Answer the index of the newest event of this name below `end`, found by the search columns; None if none."""
        ...

    def open_requests(self) -> Sequence[int]:
        """Answer the indices of `credential.requested` events that neither issued nor failed."""
        ...

    def open_among(self, request_ids: Sequence[str]) -> frozenset[str]:
        """Answer those of some requests that are still open; inside `append`, as its transaction sees it."""
        ...

    def thread_ends(self, threads: Sequence[str]) -> Mapping[str, int]:
        """Answer the newest event of those threads that there are; inside `append`, as its transaction sees it."""
        ...

    def claim(self, follower: str, owner: str, now: int, until: int) -> int | None:
        """Let `owner` follow the log as `follower` until a time (ms since 1970); None while another one does.

        Answers how far the follower has come; 0 for a new one.
        """
        ...

    def advance(self, follower: str, owner: str, position: int) -> None:
        """Note durably how far the follower has come.

        Raises:
            NotWritten: somebody else follows by now.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which events are wanted; None is any. Times are milliseconds since 1970, `until` is not included.

    `accounts` is what the reader may see; the empty name stands for events that concern no account. `text` are words
    as `texts` cuts them; a search with them may be ordered by index instead of time.
    """

    accounts: frozenset[str] | None = None
    actor: str | None = None
    instance: str | None = None
    event: str | None = None
    outcome: str | None = None
    protocol: str | None = None
    request_id: str | None = None
    since: int | None = None
    until: int | None = None
    text: tuple[str, ...] = ()

    @property
    def member(self) -> bytes:
        """The protocol as it stands in the exact bytes of an event (RFC 8785); within a text its quotes are escaped."""
        return f'"protocol":"{self.protocol}"'.encode()


class Position(NamedTuple):
    """Where a page ended: time and index of its last event."""

    time: int
    idx: int


class Found(NamedTuple):
    """An event that a search found, and where it stands in the order of searches."""

    time: int
    account: str
    record: StoredRecord


class StoredLease(NamedTuple):
    """A lease that had not ended when the newest one was issued. Times are milliseconds since 1970."""

    lease_id: str
    idx: int
    expires_at: int
    actor: str
    instance: str
    account: str


class StoredHostKeys(NamedTuple):
    """What an instance is held to. `pinned` and `offered` are texts `<algorithm> <sha256 hex>`.

    `idx` is the event that pinned them; `offered_idx` the one that was refused because AWS named `offered`, if any.
    """

    instance: str
    idx: int
    pinned: tuple[str, ...]
    offered_idx: int | None
    offered: tuple[str, ...]


class StoredThread(NamedTuple):
    """Several events about one thing. `facts` are what they said, as lines of JSON, the oldest first."""

    thread: str
    idx: int
    last_idx: int
    kind: str
    event: str
    actor: str
    instance: str
    account: str
    facts: str


class Tally(NamedTuple):
    """How many events of one name there were, by one actor, on one instance."""

    account: str
    event: str
    actor: str
    instance: str
    events: int


class Reader(TreeReader, Protocol):
    """The reading side: a connection that cannot write, for one thread."""

    def head(self) -> Head:
        """Answer the stored head."""
        ...

    def search(self, filters: Filters, limit: int, after: Position | None) -> Sequence[Found]:
        """Answer up to `limit` events, newest first, that come after a position.

        Raises:
            TooSlow: when it takes longer than a search may.
        """
        ...

    def find(self, index: int) -> Found | None:
        """Answer one event."""
        ...

    def oldest(self) -> int:
        """Answer the index of the oldest event that still has its body; the size of the log when none has."""
        ...

    def records(self, first: int, end: int) -> Sequence[StoredRecord]:
        """Answer the records from `first` up to, not including, `end`: as many of them as are there."""
        ...

    def checkpoints(self, after: int, limit: int) -> Sequence[StoredCheckpoint]:
        """Answer up to `limit` checkpoints of a greater size than `after`, by size."""
        ...

    def leases(
        self, now: int, *, accounts: frozenset[str] | None, actor: str | None, instance: str | None
    ) -> Sequence[StoredLease]:
        """Answer the leases that end after `now`, the first to end first; None is any."""
        ...

    def host_keys(self, instance: str) -> StoredHostKeys | None:
        """Answer what one instance (`account/region/name`) is held to."""
        ...

    def all_host_keys(self) -> Sequence[StoredHostKeys]:
        """Answer what every instance is held to, by name."""
        ...

    def thread(self, thread: str) -> StoredThread | None:
        """Answer one thread."""
        ...

    def threads(self, kind: str, *, event: str | None = None, actor: str | None = None) -> Sequence[StoredThread]:
        """Answer threads by their beginning, the oldest first; None is any. `event` is the newest of each."""
        ...

    def asked_since(self, actor: str, event: str, since: int, after: int) -> Sequence[tuple[int, int, str, str]]:
        """Answer the events of one name and actor that are not older than a time and come after an index, by index.

        Each as its index, time (milliseconds since 1970), instance and request id.
        """
        ...

    def tally(self, events: Sequence[str], since: int, until: int) -> Sequence[Tally]:
        """Answer how many events of these names there were from `since` up to, not including, `until` (ms since 1970).

        Raises:
            TooSlow: when it takes longer than a search may.
        """
        ...

    def followers(self) -> Mapping[str, int]:
        """Answer how far each follower has come."""
        ...

    def view(self, name: str) -> Sequence[tuple[object, ...]]:
        """Answer all rows of a view, by key, with the columns of `projections.VIEWS`."""
        ...

    def newest_checkpoint(self) -> StoredCheckpoint | None:
        """Answer the checkpoint of the greatest size."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


class TooSlow(StoreError):
    """A search was given up: its filters fit too few of too many events."""


ReaderFactory = Callable[[], Reader]
"""Opens a reader; called in the thread that will use it."""
