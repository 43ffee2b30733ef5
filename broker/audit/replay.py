"""Growing the tree again over the exact bytes, record by record, and holding it against everything that was signed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import chain, pairwise
from typing import NamedTuple

from broker.audit.checkpoints import BadSignature, CheckpointError, ForeignOrigin, VerifierKey
from broker.audit.evidence import Database, Row, StoredNote, sentence
from broker.audit.findings import Finding, Held, KeyRange, Report
from broker.audit.leaves import parse
from broker.audit.merkle import TILE_LEVELS, CompactRange, leaf_hash, verify_inclusion
from broker.audit.reading import Reading, read
from broker.audit.receipts import Receipt
from broker.audit.rotation import BadRotation, KeyChain, Rotation
from broker.audit.runs import Runs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from broker.audit.chunks import Chunk

_MAX_FINDINGS = 100
NO_PROOF = "the proof of a receipt does not lead to its checkpoint"


class Unclear(Exception):
    """Something was found or is suspected among records that were to be taken many at once."""


class _Mark(NamedTuple):
    """A checkpoint whose signature holds."""

    size: int
    root: bytes
    outside: bool


class Replay:
    """Grows the tree again, record by record, and compares it with every checkpoint on the way.

    `_tree` is over the hashes of the bytes. From the first record whose stored hash differs, `_claimed` is over the
    stored hashes: the next checkpoint tells which of the two was signed, hence whether bytes or hash were changed.
    """

    def __init__(
        self,
        key: VerifierKey,
        outside: Sequence[str] = (),
        receipts: Sequence[Receipt] = (),
        archived: Iterable[Row] = (),
        *,
        rotations: Iterable[Row] = (),
        shared: bool = False,
    ) -> None:
        self._chain = KeyChain(key)
        self._notes = outside
        self._shared = shared
        self._receipts = receipts
        self._archived = iter(archived)
        self._archived_rotations = rotations
        self._tree = CompactRange()
        self._runs = Runs()
        self._claimed: CompactRange | None = None
        self._suspects: list[int] = []
        self._sealed = 0
        self._any_mark = False
        self._head_root: object = None  # believed only to tell edited bytes from an edited hash in the unsealed tail
        self._lost = False  # the order broke, or a checkpoint differed: later ones tell nothing new
        self._broke_off = False
        self._findings: list[Finding] = []
        self._nodes: Callable[[int, int], object] | None = None
        self._outside: list[_Mark] = []
        self._marks: Iterator[_Mark] = iter(())
        self._next: _Mark | None = None
        self._archive_row: Row | None = None
        self._pruned = self._announced = self._bodiless = 0
        self._set_back: list[int] = []
        self._receipts_at: dict[int, list[Receipt]] = {}

    def blame(self, kind: str, message: str, index: int | None = None, *, recoverable: bool = False) -> None:
        """Note a finding, by default at the place that was reached."""
        if len(self._findings) < _MAX_FINDINGS:
            at = self._tree.size if index is None else index
            self._findings.append(Finding(kind, at, message, recoverable))

    @property
    def clean(self) -> bool:
        """Whether nothing was found so far."""
        return not self._findings

    def report(self) -> Report:
        """Answer what was found: lowest index first, and there what is worse first."""
        if not self._any_mark and not self._findings:
            self.blame("no_checkpoint", "no checkpoint signs any of this", 0)
        findings = tuple(sorted(self._findings, key=lambda finding: (finding.index, finding.recoverable)))
        return Report(
            self._chain.name,
            self._tree.size,
            self._sealed,
            self._tree.root(),
            findings,
            self._broke_off,
            self._bodiless,
            tuple(KeyRange(*each) for each in self._chain.ranges()),
            Held(len(self._outside), len(self._receipts)),
            tuple(self._set_back),
        )

    def check_stored(self, database: Database, chunks: Iterable[Chunk | int] = ()) -> None:
        """Replay a database: records, tree, head, search columns and what else follows from the records.

        Args:
            database: What to replay.
            chunks: Parts one after the other: what is known of one that is in order, or where one ends that is to be
                replayed.

        Raises:
            Unclear: when not everything in the chunks is in order; a replay without them has to tell what is wrong.
        """
        self._follow_keys(database.rotations())
        self._nodes = database.node
        head = database.head()
        self._head_root = head and head[1]
        self._begin(self._open_stored(database.notes()))
        for chunk in chunks:
            if isinstance(chunk, int) or not self._pass_over(chunk):
                self._grow_over(database.rows(self._tree.size), chunk if isinstance(chunk, int) else chunk.end)
            if self._findings or self._suspects:
                raise Unclear
        self._grow_over(database.rows(self._tree.size))
        self._finish()
        if not self._lost:
            self._check_head(head)
            self._check_runs(database.open_requests())
        if not self._findings and database.count_nodes() != _nodes_of(self._tree.size):
            self.blame("hash_mismatch", "there are nodes of the tree that belong to no record", recoverable=True)

    def check(self, rows: Iterable[Row], rotations: Iterable[Row] = ()) -> None:
        """Replay the records of an export, of which `rotations` are those that change the key."""
        self._follow_keys(rotations)
        self._begin(iter(()))
        self._grow_over(rows)
        self._finish()

    def _follow_keys(self, rows: Iterable[Row]) -> None:
        """Find out which key counts where, before the first checkpoint is judged."""
        rotations = []
        for row in chain(self._archived_rotations, rows):
            try:
                rotations.append(Rotation.read(row.idx, parse(row.leaf)))
            except ValueError as problem:
                self.blame("bad_rotation", sentence(problem), row.idx)
        try:
            self._chain = KeyChain(self._chain.pinned, rotations)
        except BadRotation as problem:
            self.blame("bad_rotation", str(problem), rotations[0].at)

    def _begin(self, stored: Iterator[_Mark]) -> None:
        self._outside = sorted([*self._open_outside(), *self._open_receipts()])
        self._marks = merge(stored, self._outside)
        self._next = next(self._marks, None)
        self._reach_marks()

    def _grow_over(self, rows: Iterable[Row], end: int | None = None) -> None:
        """Take records one by one, all of them or up to `end`."""
        for row, following in pairwise(chain(map(read, rows), [None])):
            if row is None or not self._take(row, following):
                self._lost = self._broke_off = True
                break
            self._reach_marks()
            if self._tree.size == end:
                break

    def _pass_over(self, chunk: Chunk) -> bool:
        """Take the records of a chunk at once; False when a receipt or a checkpoint asks for a replay of them."""
        if chunk.first != self._tree.size or any(chunk.first <= index < chunk.end for index in self._receipts_at):
            return False
        while self._next is not None and self._next.size <= chunk.end:
            prefix = chunk.prefixes.get(self._next.size)
            if prefix is None or self._tree.root_with(prefix) != self._next.root:
                return False
            self._sealed = self._next.size
            self._next = next(self._marks, None)
        completed: list[tuple[int, int, bytes]] = []
        self._tree.append(chunk.root, completed, chunk.level)
        self._compare_nodes(completed)
        self._runs.skip(chunk.end - chunk.first, chunk.requests)
        if self._sealed > chunk.first:
            self._runs.seal()
        return True

    def _finish(self) -> None:
        self._settle(edited=self._tree.root() != self._head_root)
        if not self._lost:
            self._marks_beyond()
            self._receipts_beyond()
        if self._pruned > self._announced:
            text = (
                f"records {self._announced} to {self._pruned - 1} have no body, and no event says that they were pruned"
            )
            self.blame("pruned_unannounced", text, self._announced)

    # -- one record

    def _take(self, row: Reading, following: Reading | None) -> bool:
        """Take one record into the tree; False when the order is broken and nothing after it can be placed."""
        if row.flaw not in {"", "copy"}:
            self.blame(row.flaw, row.message)
            return False
        if row.idx != self._tree.size:
            self._misplaced(row, following)
            return False
        if row.bodiless:
            row = self._from_archive(row)
            self._bodiless += row.bodiless
        members: Mapping[str, object] = {}
        if row.hashed != row.leaf_hash:
            if following is not None and following.leaf_hash == row.hashed:
                self.blame("reorder", "this record and the next have changed places")
                return False
            self._claimed = self._claimed or self._tree.copy()
            self._suspects.append(row.idx)
        elif row.inner not in {None, row.idx}:
            self._blame_order(row, following)
            return False
        else:
            members = row.members
            self._judge(row)
        if row.flaw:
            self.blame(row.flaw, row.message, recoverable=True)
        self._compare_receipts(row)
        self._grow(row.hashed, row.leaf_hash)
        self._runs.take(members)
        return True

    def _judge(self, row: Reading) -> None:
        """Note what a record in its place says of itself."""
        if row.malformed:
            self.blame("malformed", row.malformed)
        elif row.copy_differs:
            self.blame("copy", "what searches see is not what the record says", recoverable=True)
        if row.members.get("clock") and len(self._set_back) < _MAX_FINDINGS:
            self._set_back.append(row.idx)
        if 0 < row.pruned_end <= row.idx:
            self._announced = max(self._announced, row.pruned_end)

    def _from_archive(self, row: Reading) -> Reading:
        """Answer the record with its body, when an archive gives it back."""
        self._pruned = row.idx + 1
        while self._archive_row is None or self._archive_row.idx < row.idx:
            self._archive_row = next(self._archived, None)
            if self._archive_row is None:
                return row
        found = self._archive_row
        if found.idx != row.idx:
            return row
        if found.flaw or leaf_hash(found.leaf) != row.leaf_hash:
            self.blame("archive", f"the archive does not hold the record that was pruned: {found.message}", row.idx)
            return row
        return read(found._replace(leaf_hash=row.leaf_hash))

    def _compare_receipts(self, row: Reading) -> None:
        for receipt in self._receipts_at.pop(row.idx, ()):
            if receipt.leaf_hash != row.leaf_hash:
                self.blame("fork", "a receipt was given for another event in this place", row.idx)

    def _misplaced(self, row: Reading, following: Reading | None) -> None:
        expected = self._tree.size
        if row.idx < expected:
            self.blame("duplicate", f"record {row.idx} comes again")
        elif following is not None and following.idx == expected:
            self.blame("reorder", f"record {row.idx} comes before record {expected}")
        else:
            self.blame("gap", f"records {expected} to {row.idx - 1} are missing")

    def _blame_order(self, row: Reading, following: Reading | None) -> None:
        if row.inner is not None and row.inner < row.idx:
            self.blame("duplicate", f"record {row.inner} comes again, or one was inserted before it")
        elif following is not None and following.inner == row.idx:
            self.blame("reorder", f"record {row.inner} lies in the place of record {row.idx}")
        else:
            self.blame("gap", f"record {row.idx} is missing, and the later ones were renumbered")

    def _grow(self, hashed: bytes, claimed: bytes) -> None:
        completed: list[tuple[int, int, bytes]] = []
        self._tree.append(hashed, completed)
        if self._claimed is not None:
            self._claimed.append(claimed)
        elif not self._lost:
            self._compare_nodes(completed)

    def _compare_nodes(self, completed: Sequence[tuple[int, int, bytes]]) -> None:
        for level, index, node in completed if self._nodes else ():
            if self._nodes is not None and self._nodes(level, index) != node:
                text = f"node {level}/{index} of the tree is wrong"
                self.blame("hash_mismatch", text, index << level, recoverable=True)

    # -- checkpoints and receipts

    def _open_outside(self) -> Iterator[_Mark]:
        for note in self._notes:
            yield from self._open(note, outside=True)

    def _open_receipts(self) -> Iterator[_Mark]:
        """Answer the checkpoints of complete receipts, once their proofs hold; keep the receipts for their events."""
        for receipt in self._receipts:
            self._receipts_at.setdefault(receipt.index, []).append(receipt)
            for mark in self._open(receipt.checkpoint, outside=True) if receipt.complete else ():
                if proves(receipt, mark.size, mark.root):
                    yield mark
                else:
                    self.blame("bad_receipt", NO_PROOF, receipt.index)

    def _receipts_beyond(self) -> None:
        for index in self._receipts_at:
            self.blame("rollback", f"a receipt was given for event {index}, {self._tree.size} records are left")

    def _open_stored(self, notes: Iterator[StoredNote]) -> Iterator[_Mark]:
        for size, root, note in notes:
            for mark in self._open(note, outside=False, size=size):
                if mark[:2] == (size, root):
                    yield mark
                else:
                    self.blame("bad_checkpoint", "a checkpoint says other than what is stored beside it", mark.size)

    def _open(self, note: object, *, outside: bool, size: object = 0) -> Iterator[_Mark]:
        at = size if isinstance(size, int) else 0
        try:
            checkpoint = self._chain.open(str(note))
        except CheckpointError as problem:
            self.blame(kind_of(problem), str(problem), at)
        else:
            self._any_mark = True
            yield _Mark(checkpoint.size, checkpoint.root, outside)

    def _reach_marks(self) -> None:
        while self._next is not None and self._next.size <= self._tree.size:
            mark = self._next
            self._next = next(self._marks, None)
            if not self._lost:
                self._compare(mark)

    def _compare(self, mark: _Mark) -> None:
        if self._tree.root() == mark.root:
            self._settle(edited=False)
        elif self._claimed is not None and self._claimed.root() == mark.root:
            self._tree = self._claimed
            self._settle(edited=True)
        else:
            self._lost = True
            if not self._suspects:
                kind = "fork" if mark.outside else "rewritten"
                text = f"what was signed at size {mark.size} is not what is here, from somewhere after {self._sealed}"
                self.blame(kind, text, self._sealed)
            return
        self._sealed = mark.size
        self._runs.seal()

    def _settle(self, *, edited: bool) -> None:
        """Say of every suspect whether its bytes or its hash were changed."""
        for index in self._suspects:
            if edited:
                self.blame("edit", "the record is not the one that was hashed", index)
            else:
                self.blame("hash_mismatch", "the stored hash was changed, the record holds", index, recoverable=True)
        self._suspects, self._claimed = [], None

    def _marks_beyond(self) -> None:
        """Blame checkpoints of a longer log than there is."""
        while self._next is not None:
            kind = "rollback" if self._next.outside else "truncation"
            self.blame(kind, f"a checkpoint was signed at size {self._next.size}, {self._tree.size} records are left")
            self._next = next(self._marks, None)

    def _check_head(self, head: tuple[object, object] | None) -> None:
        size = head[0] if head else None
        if isinstance(size, int) and size > self._tree.size:
            self.blame("truncation", f"the head tells of {size} records, {self._tree.size} are left")
        elif head != (self._tree.size, self._tree.root()) and not self._findings:
            self.blame("head", "the head is not that of the records")

    def _check_runs(self, stored: Sequence[tuple[object, object]]) -> None:
        """Blame an unsealed tail that no broker leaves, and a view of open requests that is not that of the records."""
        if any(finding.kind != "copy" for finding in self._findings):
            return  # then the records are not what they were, and what follows from them tells nothing new
        if self._runs.flaw and self._any_mark and not self._shared:
            self.blame("unsealed", self._runs.flaw.message, self._runs.flaw.idx)
        known = {(index, members.get("request_id", "")) for index, members in self._runs.open_requests().items()}
        if odd := known ^ set(stored):
            first = min((index for index, _ in odd if isinstance(index, int)), default=0)
            text = f"the list of open requests is wrong about record {first}"
            self.blame("projection", text, first, recoverable=True)


def kind_of(problem: CheckpointError) -> str:
    """Answer the class of the finding when a checkpoint does not hold."""
    return {ForeignOrigin: "transplant", BadSignature: "bad_signature"}.get(type(problem), "bad_checkpoint")


def proves(receipt: Receipt, size: int, root: bytes) -> bool:
    """Tell whether a complete receipt puts its event under this root."""
    return receipt.size == size and verify_inclusion(receipt.index, size, receipt.leaf_hash, receipt.hashes, root)


def _nodes_of(size: int) -> int:
    """Answer how many nodes are kept for a tree of `size` leaves."""
    return sum(size >> level for level in range(TILE_LEVELS, 64, TILE_LEVELS))
