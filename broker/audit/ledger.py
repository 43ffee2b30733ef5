"""The log as it is inside the writer's thread: one tree that grows, one store, one key.

A failed commit that reached the disk is unknown, not absent: the row may appear after a restart. Going on would build
on a guess, so the ledger is poisoned: it refuses everything until it is opened again and has re-read the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeVar
from uuid import uuid4

from broker.audit.checkpoints import CheckpointError, Signer
from broker.audit.events import Document, encode
from broker.audit.leaves import milliseconds, parse
from broker.audit.merkle import CompactRange, leaf_hash, nodes_from_rows
from broker.audit.opening import look_through
from broker.audit.projections import thread_of
from broker.audit.runs import MAX_UNSEALED, SERVICE_EVENTS, STARTED, STOPPED
from broker.audit.sealing import REREAD, Seal, head_of
from broker.audit.sharing import needs_open, overdue
from broker.audit.stores import (
    Batch,
    Head,
    HeadMoved,
    InUse,
    Node,
    NotWritten,
    Record,
    Store,
    StoredCheckpoint,
    StoredRecord,
    StoreError,
    Views,
)
from broker.audit.timekeeping import Timekeeper
from broker.errors import AuditInUse, AuditUnavailable, Superseded
from broker.model import Clock

_TAIL = 256
"""Among so many of the newest events an orderly stop is looked for: operators' commands may have come after it."""
_Answer = TypeVar("_Answer")


class Place(NamedTuple):
    """Where an event has come to lie."""

    idx: int
    leaf_hash: bytes


class _Grown(Exception):
    """The log has grown since."""


class Ledger:
    """Appends, seals, refuses. Not thread-safe: its thread owns it. `_tree` covers what is committed."""

    def __init__(self, store: Store, signer: Signer, clock: Clock) -> None:
        self._store = store
        self._seal = Seal(store, signer)
        self._time = Timekeeper(clock)
        self._tree = CompactRange()
        self._owner = uuid4().hex
        self.poison = ""
        """Why nothing is accepted any more; empty while all is well."""
        self.hindrance = ""
        """Why the last attempt failed cleanly; empty after a success."""
        self.burden = ""
        """What should be looked at though all works; empty when nothing."""

    @property
    def size(self) -> int:
        """Number of events."""
        return self._tree.size

    @property
    def shared(self) -> bool:
        """Whether other processes write the same log."""
        return self._store.shared

    @property
    def clock_behind(self) -> float:
        """By how many seconds the clock was set back; 0 while it is well."""
        return self._time.behind

    @property
    def unsealed(self) -> int:
        """Number of events since the newest checkpoint."""
        return self._tree.size - self._seal.size

    def create(self) -> None:
        """Make an empty log, with its empty head signed."""
        head = head_of(self._tree)
        try:
            note = self._seal.signer.sign(*head)
            self._store.create(StoredCheckpoint(*head, milliseconds(self._time.now()), note))
        except StoreError as problem:
            raise AuditUnavailable(str(problem)) from problem

    def open(self) -> None:
        """Open the store and compare its head, tree, newest checkpoint and open requests; close what a crash left open.

        What is found is sealed before anything new is written: `runs` tells why.

        Raises:
            AuditInUse: when another process has it.
            AuditUnavailable: when they disagree, or the store cannot be used.
        """
        try:
            self._store.open()
            self._load()
            self._time.remember(map(parse, (record.leaf for record in self._newest_records())))
            dangling = [] if self.shared else look_through(self._store, self._seal, self.size)
            if self.unsealed:
                self._put_seal()
            self._close_dangling(dangling)
        except InUse as problem:
            raise AuditInUse(str(problem)) from problem
        except (StoreError, CheckpointError, ValueError) as problem:
            self._store.close()
            raise AuditUnavailable(str(problem)) from problem

    def _load(self) -> None:
        head = self._store.head()
        node = nodes_from_rows(self._store.hashes)
        self._tree = CompactRange.load(head.size, node)
        if self._tree.root() != head.root:
            raise StoreError("the audit log disagrees with its own head: verify it before you go on")
        checkpoint = self._seal.newest(self.size)
        if self.shared:
            self._catch_up(self._store.head())  # what others have written until then, they may have sealed
        self._seal.load(checkpoint, self.size)

    def _close_dangling(self, closing: Sequence[Document]) -> None:
        """Write `credential.failed` for requests of which a crash hid the end, all in one transaction."""
        if closing:
            self._commit(closing, self._time.now())

    def ended_cleanly(self) -> bool:
        """Tell whether the last service stopped in order (or there was none yet), whatever operators did since."""
        events = [parse(record.leaf).get("event") for record in self._newest_records()]
        last = next((event for event in reversed(events) if event in SERVICE_EVENTS), None)
        return last == STOPPED or (last is None and self.size <= _TAIL)

    def _newest_records(self) -> Iterator[StoredRecord]:
        return iter(self._store.records(max(0, self.size - _TAIL), self.size))

    def write(
        self, documents: Sequence[Document], after: Mapping[int, int] | None = None
    ) -> tuple[str, list[Place | AuditUnavailable | Superseded]]:
        """Commit documents in order; answer their common time and, for each, its place or why it has none.

        One that cannot be encoded fails alone; a store that cannot write fails all of them.

        Args:
            documents: what to write.
            after: for some of them, by their place here, the newest event that their thread may have (-1: none). One
                whose thread has gone on is Superseded.
        """
        if self.poison:
            raise AuditUnavailable(self.poison)
        time = self._time.now()
        try:
            if self.unsealed and self.unsealed + len(documents) > MAX_UNSEALED:
                self._put_seal()
            return time, self._commit(documents, time, after=after or {})
        except NotWritten as problem:
            self._after_clean_failure(problem)
            raise AuditUnavailable(str(problem), retry_after=1) from problem
        except Exception as problem:
            raise self._poisoned_by(problem) from problem

    def _commit(
        self,
        documents: Sequence[Document],
        time: str,
        pruned: int = 0,
        rebuilt: tuple[int, Views] | None = None,
        after: Mapping[int, int] = MappingProxyType({}),
    ) -> list[Place | AuditUnavailable | Superseded]:
        outcomes: list[Place | AuditUnavailable | Superseded] = []
        documents = self._time.marked(documents)
        tree = self._tree

        def write(head: Head) -> Batch:
            nonlocal tree
            self._catch_up(head)
            if rebuilt and rebuilt[0] != head.size:
                raise _Grown("the views were rebuilt from fewer events than there are by now")
            tree = self._tree.copy()
            completed: list[tuple[int, int, bytes]] = []
            records: list[Record] = []
            outcomes.clear()
            closed = self._closed_meanwhile(documents)
            ends = self._thread_ends(documents[number] for number in after)
            for number, members in enumerate(documents):
                thread = thread_of(members)
                if number in after and ends.get(thread, -1) != after[number]:
                    outcomes.append(Superseded())
                    continue
                try:
                    if members.get("request_id") in closed and needs_open(members):
                        raise ValueError("another process took the request for dead")  # noqa: TRY301 -- as one that cannot be written
                    leaf = encode(members, tree.size, time)
                except (TypeError, ValueError) as problem:
                    outcomes.append(AuditUnavailable(f"an event cannot be written: {problem}"))
                    continue
                hashed = leaf_hash(leaf)
                if thread:
                    ends[thread] = tree.size
                records.append(Record(tree.size, hashed, leaf, members | {"time": time}))
                outcomes.append(Place(tree.size, hashed))
                tree.append(hashed, completed)
            return Batch(head_of(tree), records, [Node(*node) for node in completed], pruned, rebuilt and rebuilt[1])

        self._store.append(write)
        self._tree = tree
        written = zip(documents, outcomes, strict=True)
        self._time.written(time, [members for members, outcome in written if isinstance(outcome, Place)])
        self.hindrance = ""
        return outcomes

    def _catch_up(self, head: Head) -> None:
        """Follow what other processes have appended; in a store that is not shared nobody may have.

        Raises:
            HeadMoved: when the stored head does not continue what this process has seen.
        """
        if head == head_of(self._tree):
            return
        if not self.shared or head.size <= self._tree.size:
            raise HeadMoved("the audit log is not as this process left it: somebody else has written it")
        tree = self._tree.copy()
        while tree.size < head.size:
            for hashed in self._store.hashes(0, tree.size, min(REREAD, head.size - tree.size)):
                tree.append(hashed)
        if head_of(tree) != head:
            raise HeadMoved("the audit log does not continue what this process has seen of it: it has forked")
        self._tree = tree

    def _closed_meanwhile(self, documents: Sequence[Document]) -> frozenset[object]:
        """Answer the requests to be ended that are not open any more: only another process can have closed them."""
        if not self.shared:
            return frozenset()
        ended = {str(members.get("request_id", "")) for members in documents if needs_open(members)}
        return frozenset(ended - self._store.open_among(sorted(ended))) if ended else frozenset()

    def _thread_ends(self, documents: Iterable[Document]) -> dict[str, int]:
        threads = sorted({thread_of(members) for members in documents})
        return dict(self._store.thread_ends(threads)) if threads else {}

    def rotate(self, document: Document, successor: Signer) -> None:
        """Write the event by which `successor` takes over, seal up to it by the old key and over it by the new one.

        Raises:
            AuditUnavailable: when the store cannot be written.
        """

        def change() -> None:
            if self.unsealed:
                self._put_seal()
            self._commit_one(document)
            self._seal.signer = successor
            self._put_seal()

        self._attempt(change)

    def prune(self, document: Document, end: int) -> None:
        """Take the bodies of all events below `end` out of the log, and write the one event that says so, together.

        Raises:
            AuditUnavailable: when one of them is not sealed, or still needed, or the store cannot be written.
        """

        def change() -> None:
            if reason := self._needed_below(end):
                raise AuditUnavailable(reason)
            self._commit_one(document, pruned=end)
            self._put_seal()

        self._attempt(change)

    def _needed_below(self, end: int) -> str:
        """Say why not all events below `end` can lose their bodies; empty when they can."""
        if end <= self._store.oldest():
            return "these events have no bodies any more"
        if end > self._seal.size:
            return f"only the first {self._seal.size} events are sealed"
        if min(self._store.open_requests(), default=end) < end:
            return "one of these events is a request that nobody has answered yet"
        if not self.shared and end > (self._store.newest(STARTED, self._seal.size) or 0):
            return "the events of the newest run are looked through at the next start"
        return ""

    def rebuild(self, document: Document, size: int, views: Views) -> bool:
        """Replace all rows of the views, and write the event that says so, together; False when the log has grown.

        Raises:
            AuditUnavailable: when the store cannot be written.
        """
        try:
            self._attempt(lambda: self._commit_one(document, rebuilt=(size, views)))
        except _Grown:
            return False
        return True

    def _commit_one(self, document: Document, pruned: int = 0, rebuilt: tuple[int, Views] | None = None) -> None:
        [place] = self._commit([document], self._time.now(), pruned, rebuilt)
        if not isinstance(place, Place):
            raise place

    def claim(self, follower: str, seconds: float) -> int | None:
        """Follow the log as `follower` for so long; answer how far it has come, None while another process does."""
        now = milliseconds(self._time.now())
        return self._attempt(lambda: self._store.claim(follower, self._owner, now, now + int(seconds * 1000)))

    def advance(self, follower: str, position: int) -> None:
        """Note how far a follower has come."""
        self._attempt(lambda: self._store.advance(follower, self._owner, position))

    def _attempt(self, work: Callable[[], _Answer]) -> _Answer:
        """Do what is no everyday writing: a clean failure is told, any other closes the log."""
        if self.poison:
            raise AuditUnavailable(self.poison)
        try:
            return work()
        except NotWritten as problem:
            raise AuditUnavailable(str(problem), retry_after=1) from problem
        except StoreError as problem:
            raise self._poisoned_by(problem) from problem

    def tend(self, *, seal: bool = False, threshold: int = 0) -> str:
        """Check that the store is still there, and sign a checkpoint when it is time.

        It is time when `seal` is set, or `threshold` events are unsealed. Answers the new note, or nothing.
        """
        self._time.now()  # notes whether the clock was set back
        try:
            return self._attempt(lambda: self._tend(seal=seal, threshold=threshold))
        except AuditUnavailable as problem:
            if not self.poison:
                self.hindrance = problem.cause
            raise

    def _tend(self, *, seal: bool, threshold: int) -> str:
        self._store.check()
        self.burden = self._store.burden()
        if self.hindrance:
            self._probe()
        if self.shared:
            self._catch_up(self._store.head())
            self._close_dangling(overdue(self._store, self._time.now()))
        due = self.unsealed and (seal or 0 < threshold <= self.unsealed)
        return self._put_seal() if due else ""

    def _probe(self) -> None:
        """Find out by an empty commit whether writing works again: while it does not, nobody may send events."""
        self._commit((), self._time.now())

    def read_back_some(self) -> None:
        """Read back what is new once it is enough, so that sealing has little left to read."""
        if self._tree.size - self._seal.reread.size >= REREAD and not self.poison:
            try:
                self._take_over_seal()
                self._seal.read_back(self._tree.size)
            except NotWritten as problem:
                self.hindrance = str(problem)
            except StoreError as problem:
                self._poisoned_by(problem)

    def _put_seal(self) -> str:
        """Sign the head, unless another process has done so; answer the newest note."""
        self._catch_up(self._store.head())
        self._take_over_seal()
        if self.shared and not self.unsealed:
            return self.newest_note()
        return self._seal.put(head_of(self._tree), self._time.now())

    def _take_over_seal(self) -> None:
        """Go on from what another process has sealed since, which nobody could before it was appended."""
        if self.shared and (checkpoint := self._seal.newest(self.size)).size > self._seal.size:
            self._catch_up(self._store.head())
            self._seal.take_over(checkpoint, self.size)

    def newest_note(self) -> str:
        """Answer the newest signed note."""
        stored = self._store.newest_checkpoint()
        return stored.note if stored else ""

    def close(self) -> None:
        """Let go of the store."""
        self._store.close()

    def _after_clean_failure(self, problem: NotWritten) -> None:
        """Go on only when the store says itself that nothing was written."""
        self.hindrance = str(problem)
        try:
            if not self.shared and self._store.head() != head_of(self._tree):
                raise HeadMoved("a failed commit was written after all")
        except StoreError as worse:
            raise self._poisoned_by(worse) from problem

    def _poisoned_by(self, problem: Exception) -> AuditUnavailable:
        self.poison = f"the audit log is closed until the broker is restarted: {problem}"
        return AuditUnavailable(self.poison)
