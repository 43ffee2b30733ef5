"""The log as it is inside the writer's thread: one tree that grows, one store, one key.

A failed commit that reached the disk is unknown, not absent: the row may appear after a restart. Going on would build
on a guess, so the ledger is poisoned: it refuses everything until it is opened again and has re-read the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar
from uuid import uuid4

from broker.audit.checkpoints import Checkpoint, CheckpointError, Signer
from broker.audit.events import Document, decode, encode, outcome_unknown
from broker.audit.leaves import milliseconds, parse
from broker.audit.merkle import CompactRange, leaf_hash, nodes_from_rows
from broker.audit.rotation import KEY_ROTATED, KeyChain, Rotation
from broker.audit.runs import MAX_UNSEALED, SERVICE_EVENTS, STARTED, STOPPED, Runs
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
from broker.errors import AuditInUse, AuditUnavailable
from broker.model import Clock

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


class _Grown(Exception):
    """The log has grown since."""


class Ledger:
    """Appends, seals, refuses. Not thread-safe: its thread owns it.

    `_tree` covers what is committed; `_reread` what was read back from the store and hashed again; `_sealed` is the
    size of the newest checkpoint. So `_sealed <= _reread.size <= _tree.size` always.
    """

    def __init__(self, store: Store, signer: Signer, clock: Clock) -> None:
        self._store = store
        self._signer = signer
        self._time = Timekeeper(clock)
        self._tree = CompactRange()
        self._reread = CompactRange()
        self._sealed = 0
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
            self._time.remember(map(parse, (record.leaf for record in self._newest_records())))
            dangling = [] if self.shared else self._look_through()
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
        if self.shared:
            self._catch_up(self._store.head())  # what others have written until then, they may have sealed
        if checkpoint.size > self.size:
            raise StoreError(f"the audit log was cut: {checkpoint.size} events were sealed, {self.size} are left")
        self._reread = CompactRange.load(checkpoint.size, node)
        if self._reread.root() != checkpoint.root:
            raise StoreError("the audit log is not the one that its newest checkpoint sealed")
        self._sealed = checkpoint.size

    def _look_through(self) -> Sequence[Document]:
        """Answer what closes the requests without an answer; the store must know the same ones as the events do.

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
        return [outcome_unknown(members) for members in opened.values()]

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
            return KeyChain(self._signer.verifier, self._newest_rotation()).open(stored.note)
        except CheckpointError as problem:
            raise StoreError(f"the newest checkpoint is not of this log and key: {problem}") from problem

    def _newest_rotation(self) -> list[Rotation]:
        """Answer the newest change of key, if there was one: this process must have the key that it brought."""
        at = self._store.newest(KEY_ROTATED, self._tree.size)
        if at is None:
            return []
        [record] = self._store.records(at, at + 1)
        try:
            rotation = Rotation.read(at, decode(record.leaf))
        except ValueError as problem:
            raise StoreError(f"event {at}: {problem}") from problem
        if rotation.new != self._signer.verifier:
            raise StoreError(f"another key signs the audit log since event {at}: `broker audit rotate` takes it over")
        return [rotation]

    def rotate(self, document: Document, successor: Signer) -> None:
        """Write the event by which `successor` takes over, seal up to it by the old key and over it by the new one.

        Raises:
            AuditUnavailable: when the store cannot be written.
        """
        self._refuse_when_poisoned()
        try:
            if self.unsealed:
                self._seal()
            [place] = self._commit([document], self._now())
            if isinstance(place, AuditUnavailable):
                raise place
            self._signer = successor
            self._seal()
        except NotWritten as problem:
            raise AuditUnavailable(str(problem), retry_after=1) from problem
        except StoreError as problem:
            raise self._poisoned_by(problem) from problem

    def _close_dangling(self, closing: Sequence[Document]) -> None:
        """Write `credential.failed` for requests of which a crash hid the end, all in one transaction."""
        if closing:
            self._commit(closing, self._now())

    def ended_cleanly(self) -> bool:
        """Tell whether the last service stopped in order (or there was none yet), whatever operators did since."""
        events = [parse(record.leaf).get("event") for record in self._newest_records()]
        last = next((event for event in reversed(events) if event in SERVICE_EVENTS), None)
        return last == STOPPED or (last is None and self.size <= _TAIL)

    def _newest_records(self) -> Iterator[StoredRecord]:
        return iter(self._store.records(max(0, self.size - _TAIL), self.size))

    def write(self, documents: Sequence[Document]) -> tuple[str, list[Place | AuditUnavailable]]:
        """Commit documents in order; answer their common time and, for each, its place or why it has none.

        One that cannot be encoded fails alone; a store that cannot write fails all of them.
        """
        self._refuse_when_poisoned()
        time = self._now()
        try:
            if self.unsealed and self.unsealed + len(documents) > MAX_UNSEALED:
                self._seal()
            return time, self._commit(documents, time)
        except NotWritten as problem:
            self._after_clean_failure(problem)
            raise AuditUnavailable(str(problem), retry_after=1) from problem
        except Exception as problem:
            raise self._poisoned_by(problem) from problem

    def _commit(
        self, documents: Sequence[Document], time: str, pruned: int = 0, rebuilt: tuple[int, Views] | None = None
    ) -> list[Place | AuditUnavailable]:
        outcomes: list[Place | AuditUnavailable] = []
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
            for members in documents:
                try:
                    if members.get("request_id") in closed and needs_open(members):
                        raise ValueError("another process took the request for dead")  # noqa: TRY301 -- as one that cannot be written
                    leaf = encode(members, tree.size, time)
                except (TypeError, ValueError) as problem:
                    outcomes.append(AuditUnavailable(f"an event cannot be written: {problem}"))
                    continue
                hashed = leaf_hash(leaf)
                records.append(Record(tree.size, hashed, leaf, members | {"time": time}))
                outcomes.append(Place(tree.size, hashed))
                tree.append(hashed, completed)
            return Batch(self._head(tree), records, [Node(*node) for node in completed], pruned, rebuilt and rebuilt[1])

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
        if head == self._head(self._tree):
            return
        if not self.shared or head.size <= self._tree.size:
            raise HeadMoved("the audit log is not as this process left it: somebody else has written it")
        tree = self._tree.copy()
        while tree.size < head.size:
            for hashed in self._store.hashes(0, tree.size, min(_REREAD, head.size - tree.size)):
                tree.append(hashed)
        if self._head(tree) != head:
            raise HeadMoved("the audit log does not continue what this process has seen of it: it has forked")
        self._tree = tree

    def _closed_meanwhile(self, documents: Sequence[Document]) -> frozenset[object]:
        """Answer the requests to be ended that are not open any more: only another process can have closed them."""
        if not self.shared:
            return frozenset()
        ended = {str(members.get("request_id", "")) for members in documents if needs_open(members)}
        return frozenset(ended - self._store.open_among(sorted(ended))) if ended else frozenset()

    def prune(self, documents: Sequence[Document], end: int) -> Place:
        """Take the bodies of all events below `end` out of the log, and write the one event that says so, together.

        Raises:
            AuditUnavailable: when one of them is not sealed, or still needed, or the store cannot be written.
        """
        self._refuse_when_poisoned()
        if reason := self._needed_below(end):
            raise AuditUnavailable(reason)
        try:
            [place] = self._commit(documents, self._now(), end)
        except NotWritten as problem:
            raise AuditUnavailable(str(problem), retry_after=1) from problem
        except StoreError as problem:
            raise self._poisoned_by(problem) from problem
        if isinstance(place, AuditUnavailable):
            raise place
        self._seal()
        return place

    def _needed_below(self, end: int) -> str:
        """Say why not all events below `end` can lose their bodies; empty when they can."""
        if end <= self._store.oldest():
            return "these events have no bodies any more"
        if end > self._sealed:
            return f"only the first {self._sealed} events are sealed"
        if min(self._store.open_requests(), default=end) < end:
            return "one of these events is a request that nobody has answered yet"
        if not self.shared and end > (self._store.newest(STARTED, self._sealed) or 0):
            return "the events of the newest run are looked through at the next start"
        return ""

    def rebuild(self, document: Document, size: int, views: Views) -> bool:
        """Replace all rows of the views, and write the event that says so, together; False when the log has grown.

        Raises:
            AuditUnavailable: when the store cannot be written.
        """
        self._refuse_when_poisoned()
        try:
            [place] = self._commit([document], self._now(), rebuilt=(size, views))
        except _Grown:
            return False
        except NotWritten as problem:
            raise AuditUnavailable(str(problem), retry_after=1) from problem
        except StoreError as problem:
            raise self._poisoned_by(problem) from problem
        if isinstance(place, AuditUnavailable):
            raise place
        return True

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
        self._now()  # notes whether the clock was set back
        try:
            self._store.check()
            self.burden = self._store.burden()
            if self.hindrance:
                self._probe()
            if self.shared:
                self._catch_up(self._store.head())
                self._close_dangling(overdue(self._store, self._now()))
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
                self._take_over_seal()
                self._read_back(self._tree.size)
            except NotWritten as problem:
                self.hindrance = str(problem)
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
        self._take_over_seal()
        if self.shared and not self.unsealed:
            return self.newest_note()
        while self._reread.size < self._tree.size:
            self._read_back(self._tree.size)
        head = self._head(self._reread)
        if head != self._head(self._tree) or (not self.shared and head != self._store.head()):
            raise StoreError("the stored events do not give the head of the log: it is not signed")
        if self.shared:
            self._newest_rotation()  # another process may have changed the key: this one must not sign any more
        note = self._signer.sign(*head)
        self._store.add_checkpoint(StoredCheckpoint(*head, milliseconds(self._now()), note))
        self._sealed = head.size
        return note

    def _take_over_seal(self) -> None:
        """Go on from what another process has sealed, which it has read back: but only when it is what is here.

        Raises:
            StoreError: when that is another log than this process knows.
        """
        if not self.shared or (checkpoint := self._newest_checkpoint()).size <= self._sealed:
            return
        self._catch_up(self._store.head())
        if checkpoint.size > self.size:
            raise HeadMoved(f"another process sealed {checkpoint.size} events, {self.size} are here: the log was cut")
        sealed = CompactRange.load(checkpoint.size, nodes_from_rows(self._store.hashes))
        if sealed.root() != checkpoint.root:
            raise HeadMoved("another process sealed another log than the one that is here: it has forked")
        self._sealed = checkpoint.size
        if sealed.size > self._reread.size:
            self._reread = sealed

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
            if not self.shared and self._store.head() != self._head(self._tree):
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
        return self._time.now()

    @staticmethod
    def _head(tree: CompactRange) -> Head:
        return Head(tree.size, tree.root())
