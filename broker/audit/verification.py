"""The offline verifier: is this log the one that was signed? Needs the public key, not the service, and no secret.

It replays the tree over the exact bytes. What is pinned is a verifier key; checkpoints kept elsewhere also reveal a log
that was cut or rolled back as a whole, which nothing inside the log can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import chain, pairwise
from pathlib import Path
from typing import NamedTuple

from broker.audit.checkpoints import BadSignature, CheckpointError, ForeignOrigin, VerifierKey
from broker.audit.evidence import (
    CannotVerify,
    Damaged,
    Database,
    Row,
    StoredNote,
    export_rows,
    open_database,
    sentence,
)
from broker.audit.leaves import parse, search_columns
from broker.audit.merkle import TILE_LEVELS, CompactRange, leaf_hash
from broker.audit.runs import Runs

_MAX_FINDINGS = 100

CLEAN, TAMPERED, UNVERIFIABLE = 0, 1, 2
"""Exit codes."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong: its class, the first index that it concerns, a sentence, and whether the record holds.

    `recoverable` means that the record's bytes are those that were signed; only something derived is wrong.
    """

    kind: str
    index: int
    message: str
    recoverable: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """What was found. `size` records were read; the first `sealed` of them are under a checkpoint that holds."""

    origin: str
    size: int
    sealed: int
    root: bytes
    findings: tuple[Finding, ...]
    broke_off: bool = False
    """Reading ended before the end: what comes after these records could not be placed."""

    @property
    def unsealed(self) -> int:
        """Length of the tail that no checkpoint covers yet."""
        return max(0, self.size - self.sealed)

    def exit_code(self, *, require_sealed: bool = False) -> int:
        """Answer 0 for a clean log, 1 for one that is not; a tail fails only when it must be sealed."""
        return TAMPERED if self.findings or (require_sealed and self.unsealed) else CLEAN


def verify_database(path: Path, key: VerifierKey, outside: Sequence[str] = ()) -> Report:
    """Verify a database file against the pinned key and signed notes that were kept elsewhere.

    Raises:
        CannotVerify: when the file cannot be read.
    """
    replay = Replay(key, outside)
    try:
        with open_database(path) as database:
            database.check_container()
            replay.check_stored(database)
    except Damaged as problem:
        replay.blame(problem.kind, str(problem))
    return replay.report()


def verify_export(path: Path, key: VerifierKey, outside: Sequence[str]) -> Report:
    """Verify an export (JSON Lines, from the first event on) against the pinned key and its checkpoints.

    Raises:
        CannotVerify: when the file cannot be read, or there is no checkpoint to hold it against.
    """
    if not outside:
        raise CannotVerify("an export proves nothing by itself: give the checkpoint that belongs to it")
    replay = Replay(key, outside)
    try:
        with path.open("rb") as file:
            replay.check(export_rows(file))
    except OSError as problem:
        raise CannotVerify(f"{path} cannot be read: {sentence(problem)}") from problem
    report = replay.report()
    if report.size and not report.sealed and not report.findings:
        raise CannotVerify("no checkpoint that was given covers any of these events: anybody could have written them")
    return report


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

    def __init__(self, key: VerifierKey, outside: Sequence[str]) -> None:
        self._key = key
        self._tree = CompactRange()
        self._runs = Runs()
        self._members: Mapping[str, object] = {}  # of the newest record, as far as it can be read
        self._claimed: CompactRange | None = None
        self._suspects: list[int] = []
        self._sealed = 0
        self._any_mark = False
        self._head_root: object = None  # believed only to tell edited bytes from an edited hash in the unsealed tail
        self._lost = False  # the order broke, or a checkpoint differed: later ones tell nothing new
        self._broke_off = False
        self._findings: list[Finding] = []
        self._nodes: Callable[[int, int], object] | None = None
        self._outside = sorted(self._open_outside(outside))
        self._marks: Iterator[_Mark] = iter(self._outside)
        self._next: _Mark | None = None

    def blame(self, kind: str, message: str, index: int | None = None, *, recoverable: bool = False) -> None:
        """Note a finding, by default at the place that was reached."""
        if len(self._findings) < _MAX_FINDINGS:
            at = self._tree.size if index is None else index
            self._findings.append(Finding(kind, at, message, recoverable))

    def report(self) -> Report:
        """Answer what was found: lowest index first, and there what is worse first."""
        if not self._any_mark and not self._findings:
            self.blame("no_checkpoint", "no checkpoint signs any of this", 0)
        findings = tuple(sorted(self._findings, key=lambda finding: (finding.index, finding.recoverable)))
        return Report(self._key.name, self._tree.size, self._sealed, self._tree.root(), findings, self._broke_off)

    def check_stored(self, database: Database) -> None:
        """Replay a database: records, tree, head, search columns and what else follows from the records."""
        self._nodes = database.node
        self._marks = merge(self._open_stored(database.notes()), self._outside)
        head = database.head()
        self._head_root = head and head[1]
        self.check(database.rows())
        if not self._lost:
            self._check_head(head)
            self._check_runs(database.open_requests())
        if not self._findings and database.count_nodes() != _nodes_of(self._tree.size):
            self.blame("hash_mismatch", "there are nodes of the tree that belong to no record", recoverable=True)
        if not self._findings:
            database.check_indexes()

    def check(self, rows: Iterable[Row]) -> None:
        """Replay records and checkpoints."""
        self._next = next(self._marks, None)
        self._reach_marks()
        for row, following in pairwise(chain(rows, [None])):
            if row is None or not self._take(row, following):
                self._lost = self._broke_off = True
                break
            self._reach_marks()
        self._settle(edited=self._tree.root() != self._head_root)
        if not self._lost:
            self._marks_beyond()

    # -- one record

    def _take(self, row: Row, following: Row | None) -> bool:
        """Take one record into the tree; False when the order is broken and nothing after it can be placed."""
        if row.flaw not in {"", "copy"}:
            self.blame(row.flaw, row.message)
            return False
        if row.idx != self._tree.size:
            self._misplaced(row, following)
            return False
        hashed, self._members = leaf_hash(row.leaf), {}
        if hashed == row.leaf_hash:
            if not self._read(row, following):
                return False
        elif following is not None and following.leaf_hash == hashed:
            self.blame("reorder", "this record and the next have changed places")
            return False
        else:
            self._claimed = self._claimed or self._tree.copy()
            self._suspects.append(row.idx)
        if row.flaw:
            self.blame(row.flaw, row.message, recoverable=True)
        self._grow(hashed, row.leaf_hash)
        self._runs.take(self._members)
        return True

    def _misplaced(self, row: Row, following: Row | None) -> None:
        expected = self._tree.size
        if row.idx < expected:
            self.blame("duplicate", f"record {row.idx} comes again")
        elif following is not None and following.idx == expected:
            self.blame("reorder", f"record {row.idx} comes before record {expected}")
        else:
            self.blame("gap", f"records {expected} to {row.idx - 1} are missing")

    def _read(self, row: Row, following: Row | None) -> bool:
        """Check what the record says of itself; False when it belongs elsewhere."""
        try:
            self._members = members = parse(row.leaf)
            inner = members.get("index")
            if type(inner) is not int:
                self.blame("malformed", "the record does not tell its index")
            elif inner != row.idx:
                self._blame_order(inner, row.idx, following)
                return False
            elif row.copy is not None and row.copy != search_columns(members):
                self.blame("copy", "what searches see is not what the record says", recoverable=True)
        except ValueError as problem:
            self.blame("malformed", f"the record cannot be read: {sentence(problem)}")
        return True

    def _blame_order(self, inner: int, index: int, following: Row | None) -> None:
        if inner < index:
            self.blame("duplicate", f"record {inner} comes again, or one was inserted before it")
        elif following is not None and _inner_index(following) == index:
            self.blame("reorder", f"record {inner} lies in the place of record {index}")
        else:
            self.blame("gap", f"record {index} is missing, and the later ones were renumbered")

    def _grow(self, hashed: bytes, claimed: bytes) -> None:
        completed: list[tuple[int, int, bytes]] = []
        self._tree.append(hashed, completed)
        if self._claimed is not None:
            self._claimed.append(claimed)
        elif self._nodes is not None and not self._lost:
            for level, index, node in completed:
                if self._nodes(level, index) != node:
                    text = f"node {level}/{index} of the tree is wrong"
                    self.blame("hash_mismatch", text, index << level, recoverable=True)

    # -- checkpoints

    def _open_outside(self, notes: Sequence[str]) -> Iterator[_Mark]:
        for note in notes:
            yield from self._open(note, outside=True)

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
            checkpoint = self._key.open(str(note))
        except ForeignOrigin as problem:
            self.blame("transplant", str(problem), at)
        except BadSignature as problem:
            self.blame("bad_signature", f"a checkpoint was not signed by the pinned key: {problem}", at)
        except CheckpointError as problem:
            self.blame("bad_checkpoint", str(problem), at)
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
        if self._runs.flaw and self._any_mark:
            self.blame("unsealed", self._runs.flaw.message, self._runs.flaw.idx)
        known = {(index, members.get("request_id", "")) for index, members in self._runs.open_requests().items()}
        if odd := known ^ set(stored):
            first = min((index for index, _ in odd if isinstance(index, int)), default=0)
            text = f"the list of open requests is wrong about record {first}"
            self.blame("projection", text, first, recoverable=True)


def _inner_index(row: Row) -> object:
    try:
        return parse(row.leaf).get("index")
    except ValueError:
        return None


def _nodes_of(size: int) -> int:
    """Answer how many nodes are kept for a tree of `size` leaves."""
    return sum(size >> level for level in range(TILE_LEVELS, 64, TILE_LEVELS))
