"""`broker audit verify --witness`: what was kept elsewhere counts only when a witness has cosigned it."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.audit.checkpoints import Signer
from broker.audit.keyfiles import load_signer
from broker.audit.stores.sqlite_reader import SqliteReader
from tests.audit.commands import Desk, a_desk
from tests.audit.conftest import ORIGIN
from tests.doubles.audit import an_event

SEEN = 1_769_851_800
"""2026-01-31T09:30:00Z"""


@dataclass(frozen=True)
class Cosigner:
    """Signs by the letter of C2SP tlog-cosignature, with nothing of the broker."""

    name: str = "witness.example/w1"
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def _public(self) -> bytes:
        return self.key.public_key().public_bytes_raw()

    @property
    def _key_id(self) -> bytes:
        return sha256(self.name.encode() + b"\n\x04" + self._public).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self._key_id.hex()}+{base64.b64encode(bytes([4]) + self._public).decode()}"

    def cosign(self, note: str, time: int = SEEN) -> str:
        """Answer the note with one more line."""
        text = note.partition("\n\n")[0] + "\n"
        signature = self.key.sign(f"cosignature/v1\ntime {time}\n{text}".encode())
        blob = self._key_id + time.to_bytes(8, "big") + signature
        return f"{note}\u2014 {self.name} {base64.b64encode(blob).decode()}\n"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return a_desk(tmp_path, [an_event(number=number) for number in range(5)])


@pytest.fixture
def note(desk: Desk) -> str:
    reader = SqliteReader(desk.database)
    newest = reader.newest_checkpoint()
    reader.close()
    assert newest
    return newest.note


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "cosigned"


def verdict(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.splitlines()[-1]


def test_a_cosigned_checkpoint_is_clean_and_the_time_is_told(
    desk: Desk, note: str, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    witness = Cosigner()
    kept.write_text(witness.cosign(note))
    assert desk.audit("verify", "--anchor", kept, "--witness", str(witness)) == 0
    output = capsys.readouterr().out
    assert "cosigned by witness.example/w1 at 2026-01-31T09:30:00.000Z, 5 events\n" in output
    assert output.splitlines()[-1].startswith("clean: 5 events")
    assert desk.audit("verify", "--checkpoint", kept, "--witness", str(witness), "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["cosigned"] == [
        {"witness": "witness.example/w1", "size": 5, "time": "2026-01-31T09:30:00.000Z"}
    ]


def test_the_key_may_stand_in_a_file(desk: Desk, note: str, kept: Path, tmp_path: Path) -> None:
    witness = Cosigner()
    kept.write_text(witness.cosign(note))
    (tmp_path / "witness.key").write_text(f"{witness}\n")
    assert desk.audit("verify", "--anchor", kept, "--witness", f"@{tmp_path / 'witness.key'}") == 0


def test_each_witness_must_have_cosigned(desk: Desk, note: str, kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = Cosigner(), Cosigner("other.example/w2")
    kept.write_text(one.cosign(note))
    assert desk.audit("verify", "--anchor", kept, "--witness", str(one), "--witness", str(other)) == 1
    output = capsys.readouterr().out
    assert "no_cosignature" in output
    assert "not cosigned by other.example/w2" in output
    kept.write_text(other.cosign(one.cosign(note)))
    assert desk.audit("verify", "--anchor", kept, "--witness", str(one), "--witness", str(other)) == 0


@pytest.mark.parametrize("flaw", ["none", "of another key", "over another checkpoint", "with another time", "cut"])
def test_what_is_no_cosignature_of_this_checkpoint_does_not_count(
    desk: Desk, note: str, kept: Path, capsys: pytest.CaptureFixture[str], flaw: str
) -> None:
    witness = Cosigner()
    signer = load_signer(desk.config.parent / "state" / "audit.key", ORIGIN)
    blob = base64.b64decode(witness.cosign(note).rpartition(" ")[2])
    later = base64.b64encode(blob[:11] + bytes([blob[11] ^ 1]) + blob[12:]).decode()
    kept.write_text(
        {
            "none": note,
            "of another key": Cosigner().cosign(note),
            "over another checkpoint": note + witness.cosign(signer.sign(4, bytes(32))).splitlines()[-1] + "\n",
            "with another time": f"{note}\u2014 {witness.name} {later}\n",
            "cut": f"{note}\u2014 {witness.name} {base64.b64encode(blob[:60]).decode()}\n",
        }[flaw]
    )
    assert desk.audit("verify", "--anchor", kept, "--witness", str(witness)) == 1
    assert verdict(capsys).startswith("TAMPERED")


def test_the_newest_checkpoint_counts_not_an_older_one(
    desk: Desk, note: str, kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    witness = Cosigner()
    signer = load_signer(desk.config.parent / "state" / "audit.key", ORIGIN)
    reader = SqliteReader(desk.database)
    older = reader.checkpoints(-1, 1)[0]
    reader.close()
    assert older.size < 5
    kept.write_text(witness.cosign(signer.sign(older.size, older.root)))
    assert desk.audit("verify", "--anchor", kept, "--witness", str(witness)) == 0
    (tmp_path / "newest").write_text(note)
    assert desk.audit("verify", "--anchor", kept, "--checkpoint", tmp_path / "newest", "--witness", str(witness)) == 1
    assert "not cosigned by" in capsys.readouterr().out


def test_a_witness_does_not_stand_in_for_the_log_s_own_signature(desk: Desk, note: str, kept: Path) -> None:
    witness = Cosigner()
    stranger = Signer(ORIGIN, Ed25519PrivateKey.generate())
    size, root = note.splitlines()[1:3]
    kept.write_text(witness.cosign(stranger.sign(int(size), base64.b64decode(root))))
    assert desk.audit("verify", "--anchor", kept, "--witness", str(witness)) == 1


def test_without_a_checkpoint_from_elsewhere_nobody_can_tell(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.audit("verify", "--witness", str(Cosigner())) == 2
    assert "give them with --checkpoint or --anchor" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["witness.example/w1", "@nowhere", "log.example+00000000+AQ=="])
def test_a_key_that_is_none_is_a_slip(desk: Desk, note: str, kept: Path, key: str) -> None:
    kept.write_text(note)
    assert desk.audit("verify", "--anchor", kept, "--witness", key) == 2
