"""The offline verifier: is this log the one that was signed? Needs the public key, not the service, and no secret.

It replays the tree over the exact bytes. What is pinned is a verifier key; checkpoints kept elsewhere also reveal a log
that was cut or rolled back as a whole, which nothing inside the log can.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from broker.audit.checkpoints import CheckpointError, VerifierKey
from broker.audit.chunks import CHUNKING, Chunking, chunks
from broker.audit.evidence import (
    CannotVerify,
    Damaged,
    Row,
    check_indexes,
    export_rotations,
    export_rows,
    open_database,
    sentence,
)
from broker.audit.findings import CLEAN, TAMPERED, UNVERIFIABLE, Finding, Held, Report
from broker.audit.receipts import Receipt
from broker.audit.replay import NO_PROOF, Replay, Unclear, kind_of, proves

__all__ = ["CLEAN", "TAMPERED", "UNVERIFIABLE", "CannotVerify", "Finding", "Report"]


def verify_database(
    path: Path,
    key: VerifierKey,
    outside: Sequence[str] = (),
    receipts: Sequence[Receipt] = (),
    archives: Sequence[Path] = (),
    *,
    shared: bool = False,
    chunking: Chunking = CHUNKING,
) -> Report:
    """Verify a database file against the pinned key and what was kept elsewhere: signed notes and receipts.

    Args:
        path: The database.
        key: Any one of the keys that have signed this log.
        outside: Signed notes.
        receipts: What callers were given.
        archives: Files that hold the bodies of pruned events.
        shared: Several processes wrote the log at once, so nothing is known of where one of them leaves it unsealed.
        chunking: How a large log is looked at in parts before all its records are replayed.

    Raises:
        CannotVerify: when a file cannot be read.
    """
    with ExitStack() as files:
        rotations = [row for archive in archives for row in _rotations(archive)]

        def begin() -> Replay:
            bodies = _archived(files, archives)
            return Replay(key, outside, receipts, bodies, rotations=rotations, shared=shared)

        large = chunking.serves(path)
        beside = files.enter_context(chunking.workers() if large else ThreadPoolExecutor(1))
        checked = beside.submit(check_indexes, path)  # SQLite works in C, so both get on
        if large and (report := _verify_in_chunks(path, begin(), beside, checked, chunking.level)):
            return report
        replay = begin()
        try:
            with open_database(path) as database:
                database.check_container()
                replay.check_stored(database)
            if replay.clean:
                _finish(checked, path)
        except Damaged as problem:
            replay.blame(problem.kind, str(problem))
        return replay.report()


def _verify_in_chunks(
    path: Path, replay: Replay, workers: Executor, checked: Future[None], level: int
) -> Report | None:
    """Answer the report over a log that is clean. Of another one only a replay of all records tells what is wrong."""
    try:
        with open_database(path) as database:
            database.check_container()
            replay.check_stored(database, chunks(workers, path, database.bodies(), level))
        _finish(checked, path)
    except (CannotVerify, Damaged, Unclear):
        return None
    report = replay.report()
    return None if report.findings else report


def _finish(checked: Future[None], path: Path) -> None:
    try:
        checked.result()
    except BrokenExecutor:
        check_indexes(path)


def verify_export(
    path: Path,
    key: VerifierKey,
    outside: Sequence[str],
    receipts: Sequence[Receipt] = (),
    archives: Sequence[Path] = (),
) -> Report:
    """Verify an export (JSON Lines) against the pinned key and its checkpoints.

    It begins with the first event, or where the last of its archives ends.

    Raises:
        CannotVerify: when a file cannot be read, or there is no checkpoint to hold it against.
    """
    if not outside and not any(receipt.complete for receipt in receipts):
        raise CannotVerify("an export proves nothing by itself: give the checkpoint that belongs to it")
    replay = Replay(key, outside, receipts)
    with ExitStack() as files:
        paths = [*_in_order(archives), path]
        opened = [files.enter_context(_open(each)) for each in paths]
        rotations = [row for file in opened for row in export_rotations(file)]
        for file in opened:
            file.seek(0)
        replay.check((row for file in opened for row in export_rows(file)), rotations)
    report = replay.report()
    if report.size and not report.sealed and not report.findings:
        raise CannotVerify("no checkpoint that was given covers any of these events: anybody could have written them")
    return report


def verify_receipt(receipt: Receipt, key: VerifierKey) -> Report:
    """Verify a complete receipt by itself: its event is under a checkpoint that the pinned key has signed.

    Raises:
        CannotVerify: when it is not complete.
    """
    if not receipt.complete:
        raise CannotVerify("the receipt has no checkpoint yet: `broker receipt` completes it, or give the log")
    findings, size, root = [], receipt.size, b""
    try:
        checkpoint = key.open(receipt.checkpoint)
    except CheckpointError as problem:
        findings.append(Finding(kind_of(problem), receipt.index, str(problem)))
    else:
        size, root = checkpoint.size, checkpoint.root
        if not proves(receipt, size, root):
            findings.append(Finding("bad_receipt", receipt.index, NO_PROOF))
    return Report(key.name, size, size, root, tuple(findings), held=Held(1, 1))


def _archived(files: ExitStack, archives: Sequence[Path]) -> Iterator[Row]:
    opened = [files.enter_context(_open(path)) for path in _in_order(archives)]
    return (row for file in opened for row in export_rows(file))


def _rotations(archive: Path) -> list[Row]:
    with _open(archive) as file:
        return list(export_rotations(file))


def _in_order(archives: Sequence[Path]) -> list[Path]:
    """Answer the archives by the first event that each holds."""
    firsts = {}
    for path in archives:
        with _open(path) as file:
            firsts[path] = next((row.idx for row in export_rows(file)), 0)
    return sorted(firsts, key=firsts.__getitem__)


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as problem:
        raise CannotVerify(f"{path} cannot be read: {sentence(problem)}") from problem
