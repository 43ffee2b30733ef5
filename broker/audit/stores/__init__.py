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
    """The stored head is not the expected one: somebody else has appended."""


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


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction appends: it begins at `before` and ends at `after`. Without records it is a trial."""

    before: Head
    after: Head
    records: Sequence[Record]
    nodes: Sequence[Node]


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

    def head(self) -> Head:
        """Answer the stored head."""
        ...

    def append(self, batch: Batch) -> None:
        """Commit a batch durably, with its nodes, head and projections.

        Raises:
            HeadMoved: when the stored head is not `batch.before`; nothing was written.
            NotWritten: after a clean failure; nothing was written.
            StoreError: when nobody knows whether it was written.
        """
        ...

    def records(self, first: int, end: int) -> Iterator[StoredRecord]:
        """Answer the records from `first` up to, not including, `end`."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which events are wanted; None is any. Times are milliseconds since 1970, `until` is not included.

    `accounts` is what the reader may see; the empty name stands for events that concern no account.
    """

    accounts: frozenset[str] | None = None
    actor: str | None = None
    instance: str | None = None
    event: str | None = None
    outcome: str | None = None
    request_id: str | None = None
    since: int | None = None
    until: int | None = None


class Position(NamedTuple):
    """Where a page ended: time and index of its last event."""

    time: int
    idx: int


class Found(NamedTuple):
    """An event that a search found, and where it stands in the order of searches."""

    time: int
    account: str
    record: StoredRecord


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
