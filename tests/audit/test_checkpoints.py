from __future__ import annotations

import base64
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.audit.checkpoints import (
    BadSignature,
    Checkpoint,
    CheckpointError,
    ForeignOrigin,
    Signer,
    VerifierKey,
    decode_hash,
)
from broker.audit.keyfiles import create_signing_key, load_signer, public_path
from broker.errors import AuditUnavailable

ROOT = sha256(b"root").digest()
ORIGIN = "broker.example.com/audit"

# The example in the documentation of Go's golang.org/x/mod/sumdb/note, where the format comes from.
KNOWN_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
KNOWN_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def test_a_note_that_others_signed_passes_the_signature_and_fails_only_as_a_checkpoint() -> None:
    key = VerifierKey.parse(KNOWN_KEY)
    assert str(key) == KNOWN_KEY
    with pytest.raises(CheckpointError, match="three lines"):
        key.open(KNOWN_NOTE)
    with pytest.raises(BadSignature):
        key.open(KNOWN_NOTE.replace("answer", "Answer"))


def test_a_signed_checkpoint_is_opened_again(signer: Signer) -> None:
    assert signer.verifier.open(signer.sign(41, ROOT)) == Checkpoint(ORIGIN, 41, ROOT)


def test_the_note_has_the_form_of_c2sp(signer: Signer) -> None:
    text, _, signature = signer.sign(41, ROOT).partition("\n\n")
    assert text == f"{ORIGIN}\n41\n{base64.b64encode(ROOT).decode()}"
    dash, name, blob = signature.split(" ")
    assert (dash, name) == ("\u2014", ORIGIN)
    assert base64.b64decode(blob)[:4] == signer.verifier.key_id
    assert signature.endswith("\n")


def test_the_key_id_is_that_of_the_specification() -> None:
    name, key = "example.com/foo", Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    key_id = sha256(name.encode() + b"\n\x01" + key).digest()[:4]
    assert VerifierKey(name, key).key_id == key_id
    encoded = base64.b64encode(b"\x01" + key).decode()
    assert str(VerifierKey(name, key)) == f"{name}+{key_id.hex()}+{encoded}"


def test_a_verifier_key_is_read_back(signer: Signer) -> None:
    assert VerifierKey.parse(f"{signer.verifier}\n") == signer.verifier


def test_a_verifier_key_that_does_not_fit_itself_is_refused(signer: Signer) -> None:
    name, key_id, key = str(signer.verifier).split("+", 2)
    wrong_id = f"{int(key_id, 16) ^ 1:08x}"
    ed448 = base64.b64encode(b"\x02" + base64.b64decode(key)[1:]).decode()
    for text in ("", name, f"{name}+{wrong_id}+{key}", f"{name}+{key_id}+{ed448}", f"+{key_id}+{key}", f"{name}+{key}"):
        with pytest.raises(CheckpointError):
            VerifierKey.parse(text)


@pytest.mark.parametrize(
    "change",
    [
        lambda note: note.replace("\n41\n", "\n42\n"),
        lambda note: note.replace(ORIGIN, "other.example.com/audit", 1),
        lambda note: note.replace(base64.b64encode(ROOT).decode(), base64.b64encode(sha256(b"").digest()).decode()),
        lambda note: note[:-10] + ("A" if note[-10] != "A" else "B") + note[-9:],
    ],
)
def test_a_changed_note_is_refused(signer: Signer, change: object) -> None:
    assert callable(change)
    changed = change(signer.sign(41, ROOT))
    assert changed != signer.sign(41, ROOT)
    with pytest.raises(CheckpointError):
        signer.verifier.open(changed)


def test_every_single_bit_of_a_note_matters(signer: Signer) -> None:
    note = signer.sign(41, ROOT).encode()
    for at in range(len(note)):
        changed = bytearray(note)
        changed[at] ^= 1 << at % 8
        with pytest.raises((CheckpointError, UnicodeDecodeError)):
            signer.verifier.open(changed.decode())


def sign_text(text: str, key: Ed25519PrivateKey, name: str = ORIGIN) -> tuple[VerifierKey, str]:
    verifier = VerifierKey(name, key.public_key().public_bytes_raw())
    blob = verifier.key_id + key.sign(text.encode())
    return verifier, f"{text}\n\u2014 {name} {base64.b64encode(blob).decode()}\n"


@pytest.mark.parametrize(
    "text",
    [
        f"{ORIGIN}\n41\n{base64.b64encode(ROOT).decode()}\nextension\n",
        f"{ORIGIN}\n041\n{base64.b64encode(ROOT).decode()}\n",
        f"{ORIGIN}\n+41\n{base64.b64encode(ROOT).decode()}\n",
        f"{ORIGIN}\n\u0664\u0661\n{base64.b64encode(ROOT).decode()}\n",
        f"{ORIGIN}\n41\n{base64.b64encode(ROOT[:31]).decode()}\n",
        f"{ORIGIN}\n41\n{base64.urlsafe_b64encode(bytes([255] * 32)).decode()}\n",
        f"{ORIGIN}\n41\n",
        f"{ORIGIN}\n{10**19}\n{base64.b64encode(ROOT).decode()}\n",
    ],
)
def test_a_valid_signature_does_not_make_a_malformed_checkpoint_good(text: str) -> None:
    verifier, note = sign_text(text, Ed25519PrivateKey.generate())
    with pytest.raises(CheckpointError):
        verifier.open(note)


def test_a_checkpoint_of_another_log_is_told_apart() -> None:
    text = Checkpoint("other.example.com/audit", 41, ROOT).text()
    verifier, note = sign_text(text, Ed25519PrivateKey.generate())
    with pytest.raises(ForeignOrigin):
        verifier.open(note)


def test_signatures_of_witnesses_are_passed_over(signer: Signer) -> None:
    note = signer.sign(41, ROOT)
    witness = base64.b64encode(b"wxyz" + bytes(72)).decode()
    assert signer.verifier.open(f"{note}\u2014 witness.example {witness}\n").size == 41


def test_a_foreign_key_with_the_same_name_and_id_does_not_pass(signer: Signer) -> None:
    text = Checkpoint(ORIGIN, 41, ROOT).text()
    blob = signer.verifier.key_id + Ed25519PrivateKey.generate().sign(text.encode())
    with pytest.raises(BadSignature):
        signer.verifier.open(f"{text}\n\u2014 {ORIGIN} {base64.b64encode(blob).decode()}\n")


def test_a_note_without_the_pinned_signature_is_refused(signer: Signer) -> None:
    other = Signer(ORIGIN, Ed25519PrivateKey.generate())
    with pytest.raises(BadSignature):
        signer.verifier.open(other.sign(41, ROOT))


@pytest.mark.parametrize(
    "note", ["", "\n\n", "a\n\nb\n", "a\n\n\u2014 b\n", "a\x00\n\n\u2014 b AAAAAAAA\n", "x" * 70_000]
)
def test_what_is_no_note_is_refused(signer: Signer, note: str) -> None:
    with pytest.raises(CheckpointError):
        signer.verifier.open(note)


@pytest.mark.parametrize("origin", ["", "with space", "with+plus", "line\nbreak", "\u2003", "bi\u202edi"])
def test_an_origin_that_a_note_cannot_hold_is_refused(origin: str) -> None:
    with pytest.raises(CheckpointError):
        Signer(origin, Ed25519PrivateKey.generate())


def test_a_hash_has_one_form_only() -> None:
    text = base64.b64encode(bytes(32)).decode()
    assert decode_hash(text) == bytes(32)
    with pytest.raises(CheckpointError):
        decode_hash(text[:-2] + "B=")  # the same bytes to a lenient reader


def test_a_key_file_is_private_and_its_public_half_lies_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "state" / "audit.key"
    verifier = create_signing_key(path, ORIGIN)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text().startswith("-----BEGIN PRIVATE KEY-----")
    assert VerifierKey.parse(public_path(path).read_text()) == verifier
    assert load_signer(path, ORIGIN).verifier == verifier


def test_a_key_file_is_never_overwritten(tmp_path: Path) -> None:
    create_signing_key(tmp_path / "audit.key", ORIGIN)
    with pytest.raises(AuditUnavailable):
        create_signing_key(tmp_path / "audit.key", ORIGIN)


def test_a_key_file_that_is_open_to_others_is_refused(tmp_path: Path) -> None:
    create_signing_key(tmp_path / "audit.key", ORIGIN)
    (tmp_path / "audit.key").chmod(0o640)
    with pytest.raises(AuditUnavailable, match="chmod 600"):
        load_signer(tmp_path / "audit.key", ORIGIN)


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "audit.key").write_text("nonsense")
    (tmp_path / "audit.key").chmod(0o600)
    for path in (tmp_path / "audit.key", tmp_path / "missing"):
        with pytest.raises(AuditUnavailable):
            load_signer(path, ORIGIN)
