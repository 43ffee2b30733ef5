"""Every checkpoint is also kept elsewhere, and a log that goes back behind that is not served from."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.audit.anchors.anchoring import Anchors
from broker.audit.anchors.continuity import Contradicted, History
from broker.audit.anchors.file import FileAnchor
from broker.audit.anchors.following import Pace
from broker.audit.anchors.places import AnchorFailed, Kept, Place
from broker.audit.checkpoints import Signer, unverified
from broker.audit.log import AuditLog, create
from broker.audit.log import Pace as LogPace
from broker.audit.review import Review
from broker.audit.rotation import rotation
from broker.audit.stores.sqlite import SqliteStore
from broker.audit.stores.sqlite_reader import SqliteReader
from broker.errors import AuditUnavailable
from broker.model import Event
from tests.audit.conftest import ORIGIN, write_log
from tests.doubles.audit import NOW, ManualClock, an_event
from tests.doubles.outbound import until

PACE = Pace(look=0.005, first_retry=0.005, longest_retry=0.01, deadline=1.0, ending=1.0, claim=5.0)


@dataclass
class Shelf:
    """A keeper in memory, which fails, hangs and forgets when told."""

    notes: dict[int, str] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)
    failure: Exception | None = None
    open: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.open.set()

    async def newest(self) -> str | None:
        await self.open.wait()
        if self.failure:
            raise self.failure
        return self.notes[max(self.notes)] if self.notes else None

    async def add(self, size: int, note: str, after: int) -> None:
        del after
        await self.open.wait()
        if self.failure:
            raise self.failure
        self.notes[size] = note
        self.order.append(size)


@dataclass
class House:
    """An open log with its anchors, as the service has them."""

    log: AuditLog
    anchors: Anchors
    clock: ManualClock
    said: list[tuple[str, str]]

    async def seal(self, number: int = 1) -> int:
        for each in range(number):
            await self.log.append(an_event(number=each))
        return unverified(await self.log.checkpoint()).size


@asynccontextmanager
async def reviewing(database: Path) -> AsyncIterator[Review]:
    review = Review(lambda: SqliteReader(database))
    try:
        yield review
    finally:
        await review.close()


@asynccontextmanager
async def house(database: Path, signer: Signer, *places: Place, pace: Pace = PACE) -> AsyncIterator[House]:
    """Start as the service does: compare, open, follow; and end as it does."""
    clock, said = ManualClock(), list[tuple[str, str]]()
    async with reviewing(database) as review:
        anchors = Anchors(places, History(review, signer.verifier), clock, lambda *words: said.append(words), pace)
        await anchors.check()
        log = await AuditLog.open(SqliteStore(database), signer, clock=clock, pace=LogPace(checkpoint_interval=3600))
        tasks = [asyncio.ensure_future(chore) for chore in anchors.chores(log, log.condemn)]
        try:
            yield House(log, anchors, clock, said)
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task
            await log.close()
            await anchors.finish()


@pytest.fixture
def log_file(database: Path, signer: Signer) -> Path:
    create(SqliteStore(database), signer)
    return database


def copy_of(database: Path, folder: Path) -> Path:
    """Keep the files of a closed log."""
    folder.mkdir()
    for each in database.parent.iterdir():
        shutil.copy2(each, folder / each.name)
    return folder


def content(database: Path) -> bytes:
    return database.read_bytes()


def roll_back(database: Path, kept: Path) -> None:
    for each in database.parent.iterdir():
        each.unlink()
    for each in kept.iterdir():
        shutil.copy2(each, database.parent / each.name)


async def test_every_checkpoint_reaches_every_anchor_in_order_and_the_last_one_at_the_end(
    log_file: Path, signer: Signer
) -> None:
    shelves = [Shelf(), Shelf()]
    places = [Place(f"shelf-{number}", Kept(shelf)) for number, shelf in enumerate(shelves)]
    async with house(log_file, signer, *places) as home:
        sizes = [1]
        for number in (1, 3, 2):
            await until(lambda: all(shelf.order[-1:] == sizes[-1:] for shelf in shelves))
            sizes.append(await home.seal(number))
        await until(lambda: all(shelf.order[-1:] == sizes[-1:] for shelf in shelves))
        assert home.anchors.health().ready
        assert not home.anchors.health().detail
    for shelf in shelves:  # what was under way at the end may come twice
        assert list(dict.fromkeys(shelf.order)) == [*sizes, sizes[-1] + 1]
    for size, note in shelves[0].notes.items():
        assert signer.verifier.open(note).size == size


async def test_a_new_anchor_begins_with_the_newest_checkpoint(log_file: Path, signer: Signer) -> None:
    async with house(log_file, signer) as home:
        for _ in range(3):
            await home.seal()
    shelf = Shelf()
    async with house(log_file, signer, Place("late", Kept(shelf))):
        await until(lambda: shelf.order)
        assert shelf.order == [6]


async def test_a_blocked_anchor_holds_up_neither_the_log_nor_the_others(log_file: Path, signer: Signer) -> None:
    hanging, well = Shelf(), Shelf()
    hanging.open.clear()
    pace = Pace(look=0.005, first_retry=0.005, longest_retry=0.01, deadline=0.05, ending=0.05)
    async with house(log_file, signer, Place("hanging", Kept(hanging)), Place("well", Kept(well)), pace=pace) as home:
        for _ in range(5):
            size = await home.seal()
            await until(lambda: well.order[-1:] == [size])  # noqa: B023 - awaited within the round
        await until(lambda: "hanging" in home.anchors.health().detail)
        assert "well" not in home.anchors.health().detail
        assert hanging.order == []


async def test_what_waited_is_brought_in_order_once_the_anchor_takes_it_again(log_file: Path, signer: Signer) -> None:
    shelf = Shelf()
    async with house(log_file, signer, Place("vault", Kept(shelf))) as home:
        await until(lambda: shelf.order == [1])
        shelf.failure = AnchorFailed("the disk is full")
        sizes = [await home.seal() for _ in range(20)]
        await until(lambda: home.anchors.health().detail)
        assert (
            home.anchors.health().detail
            == "vault: takes no checkpoint since 2026-01-31T09:30:00.000Z (the disk is full)"
        )
        shelf.failure = None
        await until(lambda: shelf.order == [1, *sizes])
        await until(lambda: not home.anchors.health().detail)
        assert [words[0] for words in home.said] == ["vault", "vault"]
        assert home.said[-1] == ("vault", "")


async def test_what_waited_survives_a_restart(log_file: Path, signer: Signer) -> None:
    shelf = Shelf()
    async with house(log_file, signer, Place("vault", Kept(shelf))) as home:
        await until(lambda: shelf.order == [1])
        shelf.failure = OSError(28, "No space left on device")
        await home.seal()
    assert shelf.order == [1]
    shelf.failure = None
    async with house(log_file, signer, Place("vault", Kept(shelf))):
        await until(lambda: shelf.order[-1:] == [4])
        assert shelf.order == [1, 2, 3, 4]


@pytest.mark.parametrize(("required", "ready"), [(True, False), (False, True)])
async def test_a_required_anchor_that_takes_nothing_for_long_makes_the_service_not_ready(
    log_file: Path, signer: Signer, *, required: bool, ready: bool
) -> None:
    shelf = Shelf()
    async with house(log_file, signer, Place("vault", Kept(shelf), required)) as home:
        await until(lambda: shelf.order == [1])
        shelf.failure = AnchorFailed("no")
        await home.seal()
        await until(lambda: home.anchors.health().detail)
        assert home.anchors.health().ready
        home.clock.now = NOW + timedelta(minutes=16)
        assert home.anchors.health().ready is ready
        await home.log.append(an_event())  # slow anchors never stop a single event
        shelf.failure = None
        await until(lambda: not home.anchors.health().detail)
        assert home.anchors.health().ready


async def test_a_log_that_was_rolled_back_is_not_started_and_not_written(
    log_file: Path, signer: Signer, tmp_path: Path
) -> None:
    shelf = Shelf()
    async with house(log_file, signer, Place("vault", Kept(shelf))) as home:
        await home.seal()
    kept = copy_of(log_file, tmp_path / "kept")
    async with house(log_file, signer, Place("vault", Kept(shelf))) as home:
        await home.seal(7)
    roll_back(log_file, kept)
    before = content(log_file)
    with pytest.raises(AuditUnavailable, match="anchor vault: rolled back: 12 events were anchored, 3 are here"):
        async with house(log_file, signer, Place("vault", Kept(shelf))):
            raise AssertionError
    assert content(log_file) == before


async def test_a_log_that_grew_again_after_a_rollback_is_a_fork(log_file: Path, signer: Signer, tmp_path: Path) -> None:
    shelf = Shelf()
    kept = copy_of(log_file, tmp_path / "kept")
    async with house(log_file, signer, Place("vault", Kept(shelf))) as home:
        await home.seal(3)
    roll_back(log_file, kept)
    async with house(log_file, signer) as home:
        await home.seal(30)
    with pytest.raises(AuditUnavailable, match="anchor vault: fork: the first 5 events are not those"):
        async with house(log_file, signer, Place("vault", Kept(shelf))):
            raise AssertionError


async def test_the_newest_reachable_anchor_counts_when_another_was_rolled_back_too(
    log_file: Path, signer: Signer, tmp_path: Path
) -> None:
    file, store = tmp_path / "anchor.notes", Shelf()

    def places() -> tuple[Place, Place]:
        return Place("disk", Kept(FileAnchor(file, log_file))), Place("bucket", Kept(store))

    async with house(log_file, signer, *places()) as home:
        await home.seal()
    kept, kept_file = copy_of(log_file, tmp_path / "kept"), file.read_bytes()
    async with house(log_file, signer, *places()) as home:
        await home.seal()
    roll_back(log_file, kept)
    file.write_bytes(kept_file)
    async with house(log_file, signer, places()[0]):
        pass  # the file alone does not know
    roll_back(log_file, kept)
    with pytest.raises(AuditUnavailable, match="anchor bucket: rolled back"):
        async with house(log_file, signer, *places()):
            raise AssertionError


async def test_an_anchor_that_cannot_be_reached_is_reported_and_stops_no_start(log_file: Path, signer: Signer) -> None:
    gone = Shelf(failure=ConnectionRefusedError(111, "Connection refused"))
    async with house(log_file, signer, Place("gone", Kept(gone), required=True)) as home:
        assert home.said[0] == ("gone", "not compared at the start: Connection refused")
        await home.log.append(an_event())


@pytest.mark.parametrize("what", ["another log", "another key", "no note"])
async def test_a_note_that_is_not_of_this_log_stops_the_start(log_file: Path, signer: Signer, what: str) -> None:
    strange = {
        "another log": Signer("other.example/audit", Ed25519PrivateKey.generate()).sign(0, bytes(32)),
        "another key": Signer(ORIGIN, Ed25519PrivateKey.generate()).sign(99, bytes(32)),
        "no note": "hello\n",
    }
    with pytest.raises(AuditUnavailable, match="the newest checkpoint there is not one of this log"):
        async with house(log_file, signer, Place("vault", Kept(Shelf({0: strange[what]})))):
            raise AssertionError


async def test_notes_of_an_older_key_hold_after_the_key_was_changed(log_file: Path, signer: Signer) -> None:
    shelf = Shelf()
    async with house(log_file, signer, Place("vault", Kept(shelf))) as home:
        await home.seal()
    successor = Signer(ORIGIN, Ed25519PrivateKey.generate())
    log = await AuditLog.open(SqliteStore(log_file), signer, announce=False)
    event = Event(event="audit.key_rotated", outcome="success", details=rotation(signer, successor))
    await log.rotate(event, successor)
    await log.close()
    async with house(log_file, successor, Place("vault", Kept(shelf))) as home:
        await home.seal()
    assert successor.verifier.open(shelf.notes[max(shelf.notes)]).size == max(shelf.notes)
    async with house(log_file, successor, Place("vault", Kept(shelf))):
        pass


async def test_a_contradiction_while_running_closes_the_log(log_file: Path, signer: Signer) -> None:
    shelf = Shelf()
    async with house(log_file, signer, Place("witness", Kept(shelf))) as home:
        await until(lambda: shelf.order)
        shelf.failure = Contradicted("fork: the witness has seen another past of this log")
        await home.seal()
        await until(lambda: not home.anchors.health().ready)
        with pytest.raises(AuditUnavailable, match="contradicts it: fork"):
            await home.log.append(an_event())
        assert not home.log.health().ready
        assert "An anchor contradicts the log" in home.log.health().detail


async def test_only_one_of_several_processes_follows_for_an_anchor(log_file: Path, signer: Signer) -> None:
    shelf = Shelf()

    class Elsewhere:
        """A log whose follower belongs to another process."""

        async def claim(self, follower: str, seconds: float) -> int | None:
            assert (follower, seconds) == ("anchor:vault", 45.0)
            asked.set()
            return None

        async def advance(self, follower: str, position: int) -> None:
            raise AssertionError((follower, position))

    asked = asyncio.Event()
    async with reviewing(log_file) as review:
        place = Place("vault", Kept(shelf))
        anchors = Anchors([place], History(review, signer.verifier), ManualClock(), lambda *_: None)
        [chore] = anchors.chores(Elsewhere(), lambda _: None)
        task = asyncio.ensure_future(chore)
        await asked.wait()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await anchors.finish()
    assert shelf.order == []
    assert anchors.health().ready


async def test_every_checkpoint_of_a_long_log_is_judged_by_its_own_root(tmp_path: Path, signer: Signer) -> None:
    path = tmp_path / "long" / "audit.db"
    notes = write_log(path, signer, [an_event(number=number) for number in range(300)], 37)
    async with reviewing(path) as review:
        history = History(review, signer.verifier)
        for note in notes:
            await history.judge(note)
        for note in notes:
            claimed = unverified(note)
            with pytest.raises(Contradicted):
                await history.judge(signer.sign(claimed.size, bytes(32)))
        with pytest.raises(Contradicted, match="rolled back: 301 events were anchored, 300 are here"):
            await history.judge(signer.sign(301, bytes(32)))


async def test_an_anchor_that_comes_back_after_the_start_is_compared_before_it_is_given_anything(
    log_file: Path, signer: Signer, tmp_path: Path
) -> None:
    shelf = Shelf()
    kept = copy_of(log_file, tmp_path / "kept")
    async with house(log_file, signer, Place("vault", Kept(shelf))) as home:
        await home.seal(7)
    roll_back(log_file, kept)
    held = dict(shelf.notes)
    shelf.failure = ConnectionRefusedError(111, "Connection refused")
    async with house(log_file, signer, Place("vault", Kept(shelf))) as home:
        await home.seal()
        assert home.log.health().ready
        shelf.failure = None
        await until(lambda: not home.anchors.health().ready)
        assert "vault: contradicts the log: rolled back" in home.anchors.health().detail
        with pytest.raises(AuditUnavailable):
            await home.log.append(an_event())
    assert shelf.notes == held
