"""The log as it is inside the writer's thread: one tree that grows, one store, one key.

A failed commit that reached the disk is unknown, not absent: the row may appear after a restart. Going on would build
on a guess, so the ledger is poisoned: it refuses everything until it is opened again and has re-read the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar
from uuid import uuid4

from broker.audit.checkpoints import Checkpoint, CheckpointError, Signer
from broker.audit.events import Document, decode, encode, outcome_unknown
from broker.audit.leaves import milliseconds, parse
from broker.audit.merkle import CompactRange, leaf_hash, nodes_from_rows
from broker.audit.projections import ISSUED
from broker.audit.runs import MAX_UNSEALED, SERVICE_EVENTS, STARTED, STOPPED, Runs
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
)
from broker.errors import AuditInUse, AuditUnavailable
from broker.model import Clock, rfc3339

_REREAD = 1024
"""So many new leaves are read back at once, to keep each pause of the writer short."""
_TAIL = 256
"""Among so many of the newest events an orderly stop is looked for: operators' commands may have come after it."""
_RECENT = 16_384
"""Of a long run, so many sealed events are looked through at the start for requests without an answer."""

_Answer = TypeVar("_Answer")


class Place(NamedTuple):
    """Where an event has come to lie."""

    idx: int
    leaf_hash: bytes


class Ledger:
    """Appends, seals, refuses. Not thread-safe: its thread owns it.

    `_tree` covers what is committed; `_reread` what was read back from the store and hashed again; `_sealed` is the
    size of the newest checkpoint. So `_sealed <= _reread.size <= _tree.size` always.
    """

    def __init__(self, store: Store, signer: Signer, clock: Clock) -> None:
        self._store = store
        self._signer = signer
        self._clock = clock
        self._tree = CompactRange()
        self._reread = CompactRange()
        self._sealed = 0
        self._owner = uuid4().hex
        self.poison = ""
        """Why nothing is accepted any more; empty while all is well."""
        self.hindrance = ""
        """Why the last attempt failed cleanly; empty after a success."""

    @property
    def size(self) -> int:
        """Number of events."""
        return self._tree.size

    @property
    def unsealed(self) -> int:
        """Number of events since the newest checkpoint."""
        return self._tree.size - self._sealed

    def create(self) -> None:
        """Make an empty log, with its empty head signed."""
        root = self._tree.root()
        try:
            self._store.create(StoredCheckpoint(0, root, milliseconds(self._now()), self._signer.sign(0, root)))
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
            dangling = self._look_through()
            if self.unsealed:
                self._seal()
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
        checkpoint = self._newest_checkpoint()
        if checkpoint.size > head.size:
            raise StoreError(f"the audit log was cut: {checkpoint.size} events were sealed, {head.size} are left")
        self._reread = CompactRange.load(checkpoint.size, node)
        if self._reread.root() != checkpoint.root:
            raise StoreError("the audit log is not the one that its newest checkpoint sealed")
        self._sealed = checkpoint.size

    def _look_through(self) -> Sequence[Document]:
        """Answer the requests without an answer, as the events have them: what the store says must be the same.

        A request can be open only if the last run made it. The events of that run are hashed again up to the
        newest checkpoint, so they are the ones that it sealed; then the unsealed ones up to the head.
        """
        sealed, stored = self._reread, self._store.open_requests()
        first = self._first_to_look_at(stored)
        self._reread = CompactRange.load(first, nodes_from_rows(self._store.hashes))
        runs = Runs(first)
        self._follow(runs, sealed.size)
        if self._reread.root() != sealed.root():
            raise StoreError("the events are not those that the newest checkpoint sealed: verify the audit log")
        runs.seal()
        self._follow(runs, self._tree.size)
        if runs.flaw:
            raise StoreError(
                f"no broker leaves its audit log as this one is: event {runs.flaw.idx}: {runs.flaw.message}; verify it"
            )
        opened = runs.open_requests()
        if list(opened) != list(stored):
            raise StoreError("the open requests are not those of the audit log's events: verify it before you go on")
        return [dict(members) for members in opened.values()]

    def _first_to_look_at(self, stored: Sequence[int]) -> int:
        """Answer where the last run began, or less far back in a long one: but before every request said to be open."""
        recent = min(self._sealed - _RECENT, *stored, self._sealed)
        started = self._store.newest(STARTED, self._sealed)
        if started is None:
            return max(0, recent)
        if [decode(record.leaf).get("event") for record in self._store.records(started, started + 1)] != [STARTED]:
            raise StoreError(f"searches take event {started} for a start: verify the audit log before you go on")
        return max(started, recent)

    def _follow(self, runs: Runs, end: int) -> None:
        while self._reread.size < end:
            for record in self._read_back(end):
                runs.take(decode(record.leaf))

    def _newest_checkpoint(self) -> Checkpoint:
        stored = self._store.newest_checkpoint()
        if stored is None:
            raise StoreError("the audit log has no checkpoint")
        try:
            return self._signer.verifier.open(stored.note)
        except CheckpointError as problem:
            raise StoreError(f"the newest checkpoint is not of this log and key: {problem}") from problem

    def _close_dangling(self, requested: Sequence[Document]) -> None:
        """Write `credential.failed` for requests of which a crash hid the end, all in one transaction."""
        if requested:
            self._commit([outcome_unknown(members) for members in requested], self._now())

    def ended_cleanly(self) -> bool:
        """Tell whether the last service stopped in order (or there was none yet), whatever operators did since."""
        newest = self._store.records(max(0, self.size - _TAIL), self.size)
        events = [parse(record.leaf).get("event") for record in newest]
        last = next((event for event in reversed(events) if event in SERVICE_EVENTS), None)
        return last == STOPPED or (last is None and self.size <= _TAIL)

    def write(self, documents: Sequence[Document]) -> tuple[str, list[Place | AuditUnavailable]]:
        """Commit documents in order; answer their common time and, for each, its place or why it has none.

        One that cannot be encoded fails alone; a store that cannot write fails all of them.
        """
        self._refuse_when_poisoned()
        time = self._now()
        try:
            if self.unsealed + len(documents) > MAX_UNSEALED:
                self._seal()
            return time, self._commit(documents, time)
        except NotWritten as problem:
            self._after_clean_failure(problem)
            raise AuditUnavailable(str(problem), retry_after=1) from problem
        except Exception as problem:
            raise self._poisoned_by(problem) from problem

    def _commit(self, documents: Sequence[Document], time: str) -> list[Place | AuditUnavailable]:
        outcomes: list[Place | AuditUnavailable] = []
        tree = self._tree

        def write(head: Head) -> Batch:
            nonlocal tree
            self._catch_up(head)
            tree = self._tree.copy()
            completed: list[tuple[int, int, bytes]] = []
            records: list[Record] = []
            outcomes.clear()
            closed = self._closed_meanwhile(documents)
            for members in documents:
                try:
                    if members.get("request_id") in closed and members["event"] == ISSUED:
                        raise ValueError("another process took the request for dead")  # noqa: TRY301 -- as one that cannot be written
                    leaf = encode(members, tree.size, time)
                except (TypeError, ValueError) as problem:
                    outcomes.append(AuditUnavailable(f"an event cannot be written: {problem}"))
                    continue
                hashed = leaf_hash(leaf)
                records.append(Record(tree.size, hashed, leaf, members | {"time": time}))
                outcomes.append(Place(tree.size, hashed))
                tree.append(hashed, completed)
            return Batch(self._head(tree), records, [Node(*node) for node in completed])

        self._store.append(write)
        self._tree = tree
        self.hindrance = ""
        return outcomes

    def _catch_up(self, head: Head) -> None:
        """Follow what other processes have appended; in a store that is not shared nobody may have.

        Raises:
            HeadMoved: when the stored head does not continue what this process has seen.
        """
        if head == self._head(self._tree):
            return
        if not self._store.shared or head.size <= self._tree.size:
            raise HeadMoved("the audit log is not as this process left it: somebody else has written it")
        tree = self._tree.copy()
        while tree.size < head.size:
            for hashed in self._store.hashes(0, tree.size, min(_REREAD, head.size - tree.size)):
                tree.append(hashed)
        if self._head(tree) != head:
            raise HeadMoved("the audit log does not continue what this process has seen of it: it has forked")
        self._tree = tree

    def _closed_meanwhile(self, documents: Sequence[Document]) -> frozenset[object]:
        """Answer the requests to be issued that are not open any more: only another process can have closed them."""
        if not self._store.shared:
            return frozenset()
        issued = {str(members.get("request_id", "")) for members in documents if members["event"] == ISSUED}
        return frozenset(issued - self._store.open_among(sorted(issued))) if issued else frozenset()

    def claim(self, follower: str, seconds: float) -> int | None:
        """Follow the log as `follower` for so long; answer how far it has come, None while another process does."""
        now = milliseconds(self._now())
        return self._bookkeeping(lambda: self._store.claim(follower, self._owner, now, now + int(seconds * 1000)))

    def advance(self, follower: str, position: int) -> None:
        """Note how far a follower has come."""
        self._bookkeeping(lambda: self._store.advance(follower, self._owner, position))

    def _bookkeeping(self, work: Callable[[], _Answer]) -> _Answer:
        self._refuse_when_poisoned()
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
        self._refuse_when_poisoned()
        try:
            self._store.check()
            if self.hindrance:
                self._probe()
            if self.unsealed and (seal or 0 < threshold <= self.unsealed):
                return self._seal()
        except NotWritten as problem:
            self.hindrance = str(problem)
            raise AuditUnavailable(str(problem), retry_after=1) from problem
        except StoreError as problem:
            raise self._poisoned_by(problem) from problem
        return ""

    def _probe(self) -> None:
        """Find out by an empty commit whether writing works again: while it does not, nobody may send events."""
        self._commit((), self._now())

    def read_back_some(self) -> None:
        """Read back what is new once it is enough, so that sealing has little left to read."""
        if self._tree.size - self._reread.size >= _REREAD and not self.poison:
            try:
                self._read_back(self._tree.size)
            except StoreError as problem:
                self._poisoned_by(problem)

    def _read_back(self, end: int) -> Sequence[StoredRecord]:
        """Hash again what the store holds, up to a bound, and extend the tree that will be signed by it."""
        end = min(end, self._reread.size + _REREAD)
        records = list(self._store.records(self._reread.size, end))
        for record in records:
            hashed = leaf_hash(record.leaf)
            if record.idx != self._reread.size or record.leaf_hash != hashed:
                raise StoreError(f"event {self._reread.size} is not what was written")
            self._reread.append(hashed)
        if self._reread.size != end:
            raise StoreError(f"event {self._reread.size} is missing")
        return records

    def _seal(self) -> str:
        """Sign the head, but only after the stored events gave the same one."""
        self._catch_up(self._store.head())
        while self._reread.size < self._tree.size:
            self._read_back(self._tree.size)
        head = self._head(self._reread)
        if head != self._head(self._tree) or head != self._store.head():
            raise StoreError("the stored events do not give the head of the log: it is not signed")
        note = self._signer.sign(*head)
        self._store.add_checkpoint(StoredCheckpoint(*head, milliseconds(self._now()), note))
        self._sealed = head.size
        return note

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
            if not self._store.shared and self._store.head() != self._head(self._tree):
                raise HeadMoved("a failed commit was written after all")
        except StoreError as worse:
            raise self._poisoned_by(worse) from problem

    def _poisoned_by(self, problem: Exception) -> AuditUnavailable:
        self.poison = f"the audit log is closed until the broker is restarted: {problem}"
        return AuditUnavailable(self.poison)

    def _refuse_when_poisoned(self) -> None:
        if self.poison:
            raise AuditUnavailable(self.poison)

    def _now(self) -> str:
        return rfc3339(self._clock())

    @staticmethod
    def _head(tree: CompactRange) -> Head:
        return Head(tree.size, tree.root())
