"""Another key takes over: both sign, and whoever pinned any one of them can follow."""

from __future__ import annotations

import asyncio
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.audit.checkpoints import BadSignature, Signer, VerifierKey
from broker.audit.keyfiles import create_signing_key, load_signer, successor_path
from broker.audit.leaves import parse
from broker.audit.log import AuditLog
from broker.audit.merkle import EMPTY_ROOT
from broker.audit.rotation import KEY_ROTATED, BadRotation, KeyChain, Rotation, rotation
from broker.audit.stores.sqlite import SqliteStore
from broker.audit.stores.sqlite_reader import SqliteReader
from broker.errors import AuditInUse, AuditUnavailable
from broker.model import Event
from tests.audit.commands import Desk, a_desk
from tests.audit.conftest import ORIGIN
from tests.doubles.audit import an_event


def a_signer(origin: str = ORIGIN) -> Signer:
    return Signer(origin, Ed25519PrivateKey.generate())


def members(details: dict[str, str], event: str = KEY_ROTATED) -> dict[str, object]:
    return {"event": event, "details": details}


@pytest.fixture(scope="module")
def signers() -> list[Signer]:
    return [a_signer() for _ in range(4)]


@pytest.fixture(scope="module")
def rotations(signers: list[Signer]) -> list[Rotation]:
    """Answer changes at the events 10, 20 and 30."""
    pairs = enumerate(pairwise(signers), start=1)
    return [Rotation.read(10 * number, members(rotation(old, new))) for number, (old, new) in pairs]


def test_whichever_key_is_pinned_each_key_counts_for_its_sizes(
    signers: list[Signer], rotations: list[Rotation]
) -> None:
    for pinned in signers:
        chain = KeyChain(pinned.verifier, rotations[::-1])
        for size, number in ((0, 0), (10, 0), (11, 1), (20, 1), (21, 2), (30, 2), (31, 3), (10**9, 3)):
            assert chain.key_for(size) == signers[number].verifier
            assert chain.open(signers[number].sign(size, EMPTY_ROOT)).size == size
            for other in {*range(4)} - {number}:
                with pytest.raises(BadSignature):
                    chain.open(signers[other].sign(size, EMPTY_ROOT))


def test_a_log_whose_key_never_changed_has_the_pinned_one(signers: list[Signer]) -> None:
    chain = KeyChain(signers[0].verifier)
    assert chain.key_for(0) == chain.key_for(10**9) == signers[0].verifier
    assert chain.keys == ()


def test_a_change_that_is_missing_breaks_the_chain(signers: list[Signer], rotations: list[Rotation]) -> None:
    with pytest.raises(BadRotation, match="not in force"):
        KeyChain(signers[0].verifier, [rotations[0], rotations[2]])
    with pytest.raises(BadRotation, match="none of those"):
        KeyChain(signers[0].verifier, rotations[1:])


def test_a_change_is_signed_by_both_keys(signers: list[Signer]) -> None:
    old, new, stranger, _ = signers
    honest = rotation(old, new)
    alone = {**rotation(stranger, new), "old_key": honest["old_key"]}
    for forged in (
        alone,
        {**honest, "old_signature": honest["new_signature"]},
        {**honest, "new_signature": honest["old_signature"]},
        {**honest, "new_key": str(stranger.verifier)},
        {**honest, "new_signature": ""},
        {**honest, "new_signature": "*"},
        {**honest, "old_key": "nonsense"},
        {},
        rotation(old, old),
        rotation(old, a_signer("elsewhere.example/audit")),
    ):
        with pytest.raises(BadRotation):
            Rotation.read(0, members(forged))
    for odd in (members(honest, "credential.issued"), {"event": KEY_ROTATED}, {}):
        with pytest.raises(BadRotation):
            Rotation.read(0, odd)
    assert Rotation.read(5, members(honest)) == (5, old.verifier, new.verifier)


# -- the log and the command


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return a_desk(tmp_path, [an_event(number=number) for number in range(5)])


def key_of(desk: Desk) -> Signer:
    return load_signer(desk.config.parent / "state" / "audit.key", ORIGIN)


def chain_of(desk: Desk, pinned: VerifierKey) -> KeyChain:
    with closing(SqliteReader(desk.database)) as reader:
        found = [(record.idx, parse(record.leaf)) for record in reader.records(0, reader.head().size)]
        return KeyChain(pinned, [Rotation.read(at, event) for at, event in found if event["event"] == KEY_ROTATED])


def assert_all_checkpoints_hold(desk: Desk, pinned: VerifierKey) -> None:
    chain = chain_of(desk, pinned)
    with closing(SqliteReader(desk.database)) as reader:
        notes = reader.checkpoints(-1, 100)
        assert [chain.open(each.note).size for each in notes] == [each.size for each in notes]
        assert notes[-1].size == reader.head().size


async def _once_more(desk: Desk) -> None:
    log = await AuditLog.open(SqliteStore(desk.database), key_of(desk))
    await log.append(an_event())
    await log.close()


def test_after_a_change_the_log_goes_on_under_the_new_key(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    keys = [key_of(desk).verifier]
    for _ in range(2):
        assert desk.audit("rotate") == 0
        keys.append(key_of(desk).verifier)
        assert capsys.readouterr().out == f"{keys[-1]}\n"
        asyncio.run(_once_more(desk))
    assert len(set(keys)) == 3
    for pinned in keys:
        assert_all_checkpoints_hold(desk, pinned)
    state = desk.config.parent / "state"
    assert (state / "audit.key.pub").read_text() == f"{keys[-1]}\n"
    assert not list(state.glob("*.next*"))


def test_the_old_key_opens_the_log_no_more(desk: Desk) -> None:
    old = key_of(desk)
    assert desk.audit("rotate") == 0
    with pytest.raises(AuditUnavailable, match="another key signs"):
        asyncio.run(AuditLog.open(SqliteStore(desk.database), old))


@pytest.mark.parametrize("sealed", [True, False])
def test_a_change_that_was_cut_short_is_completed(desk: Desk, *, sealed: bool) -> None:
    old = key_of(desk)
    path = desk.config.parent / "state" / "audit.key"
    kept = path.read_bytes(), path.with_name("audit.key.pub").read_bytes()
    assert desk.audit("rotate") == 0
    # As after a death before the files were moved: the new key lies beside, the old one in its place.
    path.rename(successor_path(path))
    path.write_bytes(kept[0])
    path.chmod(0o600)
    if not sealed:
        desk.forget_the_newest_checkpoint()
    assert desk.audit("rotate") == 0
    asyncio.run(_once_more(desk))
    assert_all_checkpoints_hold(desk, old.verifier)
    assert len(chain_of(desk, old.verifier).rotations) == 1


def test_a_change_of_which_only_the_key_was_made_happens(desk: Desk) -> None:
    path = desk.config.parent / "state" / "audit.key"
    first = key_of(desk).verifier
    made = create_signing_key(successor_path(path), ORIGIN)
    assert desk.audit("rotate") == 0
    assert key_of(desk).verifier == made
    assert_all_checkpoints_hold(desk, first)


def test_without_settings_no_key_is_changed(desk: Desk) -> None:
    assert desk.audit("rotate", "--database", desk.database) == 2


async def test_the_key_of_a_running_service_is_not_changed(desk: Desk) -> None:
    log = await AuditLog.open(SqliteStore(desk.database), key_of(desk))
    before = key_of(desk).verifier
    with pytest.raises(AuditInUse):
        await asyncio.to_thread(desk.audit, "rotate")
    await log.append(Event(event="e", outcome="success"))
    await log.close()
    assert key_of(desk).verifier == before
