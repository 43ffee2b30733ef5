"""A witness sees every checkpoint, cosigns what continues, and what does not is found out and stops the log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.audit.anchors.continuity import History
from broker.audit.anchors.cosignatures import WitnessKey
from broker.audit.anchors.file import FileAnchor
from broker.audit.anchors.notes import notes_in
from broker.audit.anchors.places import Place
from broker.audit.anchors.witness import WitnessAnchor
from broker.audit.checkpoints import BadSignature, Checkpoint, CheckpointError, Signer, VerifierKey
from broker.errors import AuditUnavailable
from broker.outbound.witnesses import connected
from tests.audit.anchors.test_anchoring import copy_of, house, log_file, reviewing, roll_back
from tests.audit.conftest import ORIGIN
from tests.doubles.audit import NOW, ManualClock, an_event
from tests.doubles.outbound import until
from tests.doubles.witness import NAME, Witness, cosign, serving

__all__ = ["log_file"]


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "cosigned.notes"


@asynccontextmanager
async def witness_place(witness: Witness, kept: Path) -> AsyncIterator[Place]:
    """Answer the anchor that a served witness makes."""
    async with connected(witness.url, allow_private=True, seconds=2) as ask:
        yield Place("witness", WitnessAnchor(ask, witness.verifier.time_on, FileAnchor(kept), ManualClock()))


def notes(kept: Path) -> list[str]:
    return list(notes_in(kept.read_text())) if kept.exists() else []


def a_witness(signer: Signer) -> Witness:
    return Witness(signer.verifier, clock=ManualClock())


async def test_every_checkpoint_is_cosigned_and_kept_with_its_cosignature(
    log_file: Path, signer: Signer, kept: Path
) -> None:
    async with serving(a_witness(signer)) as witness, witness_place(witness, kept) as place:
        async with house(log_file, signer, place) as home:
            for number in (1, 5, 2):
                size = await home.seal(number)
                await until(lambda: witness.latest and witness.latest.size == size)  # noqa: B023 - within the round
        assert witness.latest
        assert witness.latest.size == 10
    sizes = []
    for note in notes(kept):
        assert witness.verifier.time_on(note) == NOW
        sizes.append(signer.verifier.open(note).size)
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == 10


async def test_after_a_restart_it_finds_its_place_by_the_size_in_the_conflict(
    log_file: Path, signer: Signer, kept: Path
) -> None:
    async with serving(a_witness(signer)) as witness:
        async with witness_place(witness, kept) as place, house(log_file, signer, place) as home:
            await home.seal(3)
        witness.requests.clear()
        async with witness_place(witness, kept) as place, house(log_file, signer, place):
            await until(lambda: witness.latest and witness.latest.size == 6)
        assert witness.requests[:2] == [(0, 5), (5, 5)]
        assert (5, 6) in witness.requests


async def test_an_older_checkpoint_that_waited_is_no_news_to_it(log_file: Path, signer: Signer, kept: Path) -> None:
    async with serving(a_witness(signer)) as witness, witness_place(witness, kept) as place:
        async with house(log_file, signer) as home:
            for _ in range(3):
                await home.seal()
        async with reviewing(log_file) as review:
            history = History(review, signer.verifier)
            older, newest = await history.following(1), await history.newest()
            assert older
            assert newest
            for checkpoint in (newest, older, older, newest):
                await place.anchor.take(checkpoint, 0, history)
    assert witness.requests == [(0, 5), (5, 5)]
    assert len(notes(kept)) == 1


async def test_a_log_that_was_rolled_back_is_not_started(
    log_file: Path, signer: Signer, kept: Path, tmp_path: Path
) -> None:
    async with serving(a_witness(signer)) as witness:
        before = copy_of(log_file, tmp_path / "before")
        async with witness_place(witness, kept) as place, house(log_file, signer, place) as home:
            await home.seal(3)
        roll_back(log_file, before)
        remove(kept)
        async with witness_place(witness, kept) as place:
            with pytest.raises(AuditUnavailable, match="rolled back: 5 events were anchored, 0 are here"):
                async with house(log_file, signer, place):
                    raise AssertionError


async def test_a_log_with_another_past_is_not_started(
    log_file: Path, signer: Signer, kept: Path, tmp_path: Path
) -> None:
    async with serving(a_witness(signer)) as witness:
        before = copy_of(log_file, tmp_path / "before")
        async with witness_place(witness, kept) as place, house(log_file, signer, place) as home:
            await home.seal(3)
        for events in (20, 3):  # longer, and exactly as long
            roll_back(log_file, before)
            remove(kept)
            async with house(log_file, signer) as home:
                for number in range(events):
                    await home.log.append(an_event("audit.read", number))
            async with witness_place(witness, kept) as place:
                with pytest.raises(AuditUnavailable, match="fork: the witness has seen"):
                    async with house(log_file, signer, place):
                        raise AssertionError


def remove(kept: Path) -> None:
    kept.unlink(missing_ok=True)


async def test_a_refused_proof_while_running_stops_the_log(log_file: Path, signer: Signer, kept: Path) -> None:
    async with (
        serving(a_witness(signer)) as witness,
        witness_place(witness, kept) as place,
        house(log_file, signer, place) as home,
    ):
        await until(lambda: witness.latest and witness.latest.size == 1)
        witness.latest = Checkpoint(ORIGIN, 1, bytes(32))
        await home.seal()
        await until(lambda: not home.anchors.health().ready)
        with pytest.raises(AuditUnavailable, match="the witness has seen another past"):
            await home.log.append(an_event())


async def test_a_witness_that_has_seen_more_than_there_is_stops_the_log(
    log_file: Path, signer: Signer, kept: Path
) -> None:
    async with (
        serving(a_witness(signer)) as witness,
        witness_place(witness, kept) as place,
        house(log_file, signer, place) as home,
    ):
        await until(lambda: witness.latest and witness.latest.size == 1)
        witness.latest = Checkpoint(ORIGIN, 100, bytes(32))
        await home.seal()
        await until(lambda: not home.log.health().ready)
        assert home.anchors.health().detail.startswith("witness: contradicts the log: rolled back: 100 events")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (403, "it does not know the key of this log"),
        (404, "it does not know this log"),
        (400, "it finds the request malformed"),
        (409, "it does not say what it has seen"),
        (500, "it answered with status 500"),
        (302, "it answered with status 302"),
    ],
)
async def test_a_refusal_that_proves_nothing_is_told_and_stops_nothing(
    log_file: Path, signer: Signer, kept: Path, status: int, words: str
) -> None:
    witness = a_witness(signer)
    witness.refuse = status
    async with (
        serving(witness),
        witness_place(witness, kept) as place,
        house(log_file, signer, place) as home,
    ):
        await until(lambda: words in home.anchors.health().detail)
        await home.seal()
        assert home.anchors.health().ready
        witness.refuse = 0
        await until(lambda: notes(kept))
        await until(lambda: not home.anchors.health().detail)


@pytest.mark.parametrize("fault", ["forged", "old", "of tomorrow"])
async def test_a_cosignature_that_is_forged_or_not_of_now_is_not_kept(
    log_file: Path, signer: Signer, kept: Path, fault: str
) -> None:
    witness = a_witness(signer)
    if fault == "forged":
        witness.forge = Ed25519PrivateKey.generate()
    else:
        witness.clock = ManualClock(NOW + timedelta(minutes=11 if fault == "of tomorrow" else -11))
    words = "its cosignature does not hold" if fault == "forged" else "the time in its cosignature is not now"
    async with (
        serving(witness),
        witness_place(witness, kept) as place,
        house(log_file, signer, place) as home,
    ):
        await until(lambda: words in home.anchors.health().detail)
        assert not notes(kept)
        witness.forge, witness.clock = None, ManualClock()
        await until(lambda: notes(kept))


async def test_a_witness_that_hangs_holds_nothing_up(log_file: Path, signer: Signer, kept: Path) -> None:
    async with serving(a_witness(signer)) as witness, witness_place(witness, kept) as place:
        async with house(log_file, signer, place) as home:
            await until(lambda: witness.latest and witness.latest.size == 1)
            witness.open.clear()
            assert [await home.seal() for _ in range(5)] == [2, 3, 4, 5, 6]
            witness.open.set()
            await until(lambda: witness.latest and witness.latest.size == 6)
        assert [size for _, size in witness.requests if size][:6] == [1, 2, 3, 4, 5, 6]


def test_the_cosignature_of_the_specification_has_its_key_id_and_text() -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    public = WitnessKey(NAME, key.public_key().public_bytes_raw())
    assert WitnessKey.parse(str(public)) == public
    text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    note = f"{text}\n{cosign(NAME, key, text, 1679315147)}"
    assert public.time_on(note).isoformat() == "2023-03-20T12:25:47+00:00"
    for changed in (note.replace("20852163", "20852164"), note.replace(NAME, "other.example/w1"), text):
        with pytest.raises(BadSignature):
            public.time_on(changed)


@pytest.mark.parametrize("text", ["", "w", "w+00000000+BA==", "w+zz+zz", str(VerifierKey("w", bytes(32)))])
def test_a_key_that_is_no_key_of_a_witness_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError):
        WitnessKey.parse(text)


def test_several_cosignatures_of_one_witness_count_by_the_newest(signer: Signer) -> None:
    key = Ed25519PrivateKey.generate()
    public = WitnessKey(NAME, key.public_key().public_bytes_raw())
    note = signer.sign(1, bytes(32))
    text = note.partition("\n\n")[0] + "\n"
    both = note + cosign(NAME, key, text, 5) + cosign(NAME, key, text, 9) + cosign(NAME, key, "other\n", 99)
    assert public.time_on(both).timestamp() == 9
