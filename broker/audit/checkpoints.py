"""Checkpoints of the log: C2SP `tlog-checkpoint` inside a C2SP `signed-note`, signed with Ed25519. Pure.

A checkpoint says: the log named `origin` had `size` leaves, and this was their root. Whoever keeps one elsewhere can
tell later whether the log was cut, rewritten or rolled back.
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from dataclasses import dataclass
from hashlib import sha256
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from broker.audit.merkle import HASH_SIZE

_ED25519 = b"\x01"
_DASH = "\u2014 "
_KEY_ID_SIZE = 4
_MAX_NOTE = 64 * 1024
_NOT_IN_A_NOTE = re.compile("[\x00-\x09\x0b-\x1f\ud800-\udfff]")
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_HEX_KEY_ID = re.compile(r"[0-9a-f]{8}", re.ASCII)


class CheckpointError(ValueError):
    """The text is not a checkpoint of this log under this key; the message says why."""


class BadSignature(CheckpointError):
    """No signature of the pinned key holds."""


class ForeignOrigin(CheckpointError):
    """The checkpoint is of another log."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is signed: the log's name, its number of leaves and their root hash (32 bytes)."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Write it as the signed text: three lines, each with its newline."""
        return f"{self.origin}\n{self.size}\n{encode_hash(self.root)}\n"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the signed text, strictly: three lines, canonical number and hash, no extension.

        Raises:
            CheckpointError: when it is anything else.
        """
        lines = text.split("\n")
        if len(lines) != 4 or lines[3]:  # noqa: PLR2004 -- origin, size, root, and nothing after the last newline
            raise CheckpointError("a checkpoint has three lines and no extension")
        origin, size, root = lines[:3]
        if not is_key_name(origin):
            raise CheckpointError("the origin is not a name")
        if not _SIZE.fullmatch(size):
            raise CheckpointError("the size is not a canonical decimal number")
        return cls(origin, int(size), decode_hash(root))


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """The public half: what an auditor pins. Written `name+hash+key` (C2SP signed-note)."""

    name: str
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell keys apart; no proof of anything."""
        return sha256(self.name.encode() + b"\n" + _ED25519 + self.public_key).digest()[:_KEY_ID_SIZE]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(_ED25519 + self.public_key).decode()}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `name+hash+key`.

        Raises:
            CheckpointError: when it is malformed, not Ed25519, or its hash does not fit.
        """
        name, _, rest = text.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        blob = _decode(encoded)
        if not is_key_name(name) or blob[:1] != _ED25519 or len(blob) != 1 + HASH_SIZE:
            raise CheckpointError("not a verifier key of the form name+hash+key for Ed25519")
        key = cls(name, blob[1:])
        if not _HEX_KEY_ID.fullmatch(key_id) or key.key_id.hex() != key_id:
            raise CheckpointError("the hash inside the verifier key does not fit it")
        return key

    def open(self, note: str) -> Checkpoint:
        """Answer the checkpoint in a signed note. Signatures of other keys (witnesses) are passed over.

        Raises:
            BadSignature: when no signature of this key holds.
            ForeignOrigin: when this key signed for another log.
            CheckpointError: when the note is malformed.
        """
        text, signatures = _split_note(note)
        mine = [blob[_KEY_ID_SIZE:] for name, blob in signatures if (name, blob[:_KEY_ID_SIZE]) == self._signer]
        if not mine:
            raise BadSignature(f"no signature by the key of {self.name}")
        for signature in mine:
            self.verify(signature, text.encode())
        checkpoint = Checkpoint.parse(text)
        if checkpoint.origin != self.name:
            raise ForeignOrigin("the checkpoint is of another log")
        return checkpoint

    @property
    def _signer(self) -> tuple[str, bytes]:
        return self.name, self.key_id

    def verify(self, signature: bytes, text: bytes) -> None:
        """Raise BadSignature unless this key has signed the text."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, text)
        except (InvalidSignature, ValueError):
            raise BadSignature("the signature does not hold") from None


class Signer:
    """Signs checkpoints of one log. Holds the private key, shows only the public one."""

    __slots__ = ("_key", "verifier")

    def __init__(self, origin: str, key: Ed25519PrivateKey) -> None:
        if not is_key_name(origin):
            raise CheckpointError("an origin has no spaces, no plus sign and is not empty")
        self._key = key
        self.verifier = VerifierKey(origin, key.public_key().public_bytes_raw())

    @property
    def origin(self) -> str:
        """The name of the log."""
        return self.verifier.name

    def sign(self, size: int, root: bytes) -> str:
        """Answer the signed note for a head of the log."""
        text = Checkpoint(self.origin, size, root).text()
        blob = self.verifier.key_id + self._key.sign(text.encode())
        return f"{text}\n{_DASH}{self.origin} {base64.b64encode(blob).decode()}\n"

    def sign_statement(self, text: bytes) -> bytes:
        """Answer the bare signature of a text that is no checkpoint."""
        return self._key.sign(text)


def unverified(note: str) -> Checkpoint:
    """Answer what a note claims, before anybody's signature is checked: to find out whose key to ask.

    Raises:
        CheckpointError: when the note is malformed.
    """
    return Checkpoint.parse(_split_note(note)[0])


def encode_hash(value: bytes) -> str:
    """Write a hash as standard base64."""
    return base64.b64encode(value).decode()


def decode_hash(text: str) -> bytes:
    """Read a hash from standard base64, strictly.

    Raises:
        CheckpointError: when it is not the canonical form of 32 bytes.
    """
    value = _decode(text)
    if len(value) != HASH_SIZE:
        raise CheckpointError("not the base64 form of a SHA-256 hash")
    return value


def is_key_name(name: str) -> bool:
    """Tell whether this can name a key or a log: not empty, no plus sign, no space or control character."""
    return bool(name) and name.isprintable() and not any(c == "+" or unicodedata.category(c)[0] == "Z" for c in name)


def _split_note(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    """Answer the signed text and the signatures (name, key id and signature) of a note."""
    if len(note) > _MAX_NOTE or _NOT_IN_A_NOTE.search(note):
        raise CheckpointError("not a signed note")
    body, blank, rest = note.rpartition("\n\n")
    if not blank or not rest.endswith("\n"):
        raise CheckpointError("a signed note ends with signature lines after an empty line")
    return body + "\n", [_signature(line) for line in rest[:-1].split("\n")]


def _signature(line: str) -> tuple[str, bytes]:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    blob = _decode(encoded)
    if not line.startswith(_DASH) or not is_key_name(name) or len(blob) <= _KEY_ID_SIZE:
        raise CheckpointError("a malformed signature line")
    return name, blob


def _decode(text: str) -> bytes:
    """Read standard base64 in its one canonical form; anything else gives no bytes."""
    try:
        value = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return b""
    return value if base64.b64encode(value).decode() == text else b""
