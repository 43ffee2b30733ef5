"""Bodies leave the log, hashes stay, and everything that was proved can still be proved."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from broker.audit.checkpoints import Signer
from broker.audit.log import AuditLog
from broker.audit.merkle import inclusion_proof, nodes_from_rows, verify_inclusion
from broker.audit.retention import Archive, read_archive, write_archive
from broker.audit.review import Review
from broker.audit.stores.sqlite import SqliteStore
from broker.audit.stores.sqlite_reader import SqliteReader
from broker.errors import AuditUnavailable, NotFound
from tests.audit.conftest import write_log
from tests.doubles.audit import NOW, ManualClock, an_event

OLD, NEWER = 300, 40
"""Events before the newest run and in it."""
LATER = int((NOW + timedelta(days=30)).timestamp() * 1000)


@pytest.fixture
async def log_of_two_runs(database: Path, signer: Signer) -> Path:
    """Answer a log of old events, sealed, and a newest run of the service that has stopped."""
    write_log(database, signer, [an_event(number=number, reason=f"because {number}") for number in range(OLD)], 100)
    log = await AuditLog.open(SqliteStore(database), signer, clock=ManualClock(NOW + timedelta(days=1)))
    for number in range(NEWER):
        await log.append(an_event(number=OLD + number))
    await log.close()
    return database


def archived(database: Path, before: int = LATER) -> bytes:
    lines: list[bytes] = []
    with closing(SqliteReader(database)) as reader:
        write_archive(reader, before, lines.append, shared=False)
    return b"".join(lines)


def held(database: Path, content: bytes) -> Archive:
    path = database.with_name("archive.jsonl")
    path.write_bytes(content)
    with closing(SqliteReader(database)) as reader:
        return read_archive(path, reader)


async def prune(database: Path, signer: Signer, archive: Archive) -> None:
    clock = ManualClock(NOW + timedelta(days=2))
    log = await AuditLog.open(SqliteStore(database), signer, clock=clock, announce=False)
    try:
        await log.prune(archive.event(), archive.end)
    finally:
        await log.close()


def test_an_archive_ends_where_the_newest_run_begins(log_of_two_runs: Path) -> None:
    assert held(log_of_two_runs, archived(log_of_two_runs)).end == OLD


def test_an_archive_ends_before_the_first_event_that_is_young_enough(log_of_two_runs: Path) -> None:
    content = archived(log_of_two_runs, before=int(NOW.timestamp() * 1000) + 30)
    assert 0 < held(log_of_two_runs, content).end < OLD


async def test_an_archive_ends_before_a_lease_that_is_out(database: Path, signer: Signer) -> None:
    expires_at = NOW + timedelta(days=90)
    events = [
        an_event("credential.issued" if number == 50 else "e", number, expires_at=expires_at) for number in range(99)
    ]
    write_log(database, signer, events)
    log = await AuditLog.open(SqliteStore(database), signer, clock=ManualClock(NOW + timedelta(days=1)))
    await log.close()
    assert held(database, archived(database)).end == 50


async def test_pruned_events_are_gone_and_their_proofs_are_not(log_of_two_runs: Path, signer: Signer) -> None:
    database = log_of_two_runs
    with closing(SqliteReader(database)) as reader:
        before = {index: reader.hashes(0, index, 1)[0] for index in (0, 7, 255, 256, OLD - 1, OLD)}
    archive = held(database, archived(database))
    await prune(database, signer, archive)

    with closing(SqliteReader(database)) as reader:
        head, node = reader.head(), nodes_from_rows(reader.hashes)
        assert reader.oldest() == OLD
        assert reader.find(OLD - 1) is None
        assert reader.find(OLD) is not None
        for index, hashed in before.items():
            assert reader.hashes(0, index, 1) == [hashed]
            proof = inclusion_proof(index, head.size, node)
            assert verify_inclusion(index, head.size, hashed, proof, head.root)
    assert b"because 7" not in database.read_bytes()


async def test_a_pruned_log_opens_grows_and_can_be_pruned_again(log_of_two_runs: Path, signer: Signer) -> None:
    database = log_of_two_runs
    await prune(database, signer, held(database, archived(database)))
    log = await AuditLog.open(SqliteStore(database), signer, clock=ManualClock(NOW + timedelta(days=3)))
    for number in range(600):
        await log.append(an_event(number=number))
    await log.close()
    second = held(database, archived(database))
    assert second.first == OLD
    assert second.end > OLD + NEWER
    await prune(database, signer, second)
    with closing(SqliteReader(database)) as reader:
        assert reader.oldest() == second.end


async def test_the_pruned_are_not_found_by_searches(log_of_two_runs: Path, signer: Signer) -> None:
    database = log_of_two_runs
    await prune(database, signer, held(database, archived(database)))
    review = Review(lambda: SqliteReader(database))
    with pytest.raises(NotFound):
        await review.event(3)
    proof = await review.inclusion_proof(3)
    assert proof.index == 3
    await review.close()


def test_what_is_not_in_the_archive_stays(log_of_two_runs: Path) -> None:
    database = log_of_two_runs
    content = archived(database)
    lines = content.splitlines(keepends=True)
    for wrong in (
        b"",
        b"".join(lines[1:]),
        b"".join(lines[:9] + lines[10:]),
        content.replace(b"because 9", b"because 8"),
    ):
        with pytest.raises(AuditUnavailable):
            held(database, wrong)
    with closing(SqliteReader(database)) as reader:
        assert reader.oldest() == 0


async def test_the_newest_run_and_what_is_pruned_already_cannot_be_pruned(
    log_of_two_runs: Path, signer: Signer
) -> None:
    database = log_of_two_runs
    archive = held(database, archived(database))
    for end, reason in ((OLD + 2, "newest run"), (10**6, "sealed"), (0, "no bodies")):
        with pytest.raises(AuditUnavailable, match=reason):
            await prune(database, signer, replace(archive, end=end))
    await prune(database, signer, archive)
    with pytest.raises(AuditUnavailable, match="no bodies"):
        await prune(database, signer, archive)
