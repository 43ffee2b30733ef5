"""Cosignatures of witnesses on checkpoints (https://c2sp.org/tlog-cosignature, `cosignature/v1`, Ed25519). Pure.

A cosignature says: at this time, the longest log of that name that the witness had seen had this root.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from broker.audit.checkpoints import BadSignature, CheckpointError, is_key_name

COSIGNATURE_V1 = b"\x04"
_DASH = "\u2014 "
_KEY_SIZE = 32
_ID_SIZE = 4
_TIME_SIZE = 8
_SIGNATURE_SIZE = 64
_MAX_TIME = 253_402_300_799
"""The last second of the year 9999: beyond it there are no dates."""


@dataclass(frozen=True, slots=True)
class WitnessKey:
    """The public half of a witness's key, written `name+hash+key` (C2SP signed-note) with the type 0x04."""

    name: str
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell keys apart; no proof of anything."""
        return sha256(self.name.encode() + b"\n" + COSIGNATURE_V1 + self.public_key).digest()[:_ID_SIZE]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(COSIGNATURE_V1 + self.public_key).decode()}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `name+hash+key`.

        Raises:
            CheckpointError: when it is malformed, of another type, or its hash does not fit.
        """
        name, _, rest = text.strip().partition("+")
        blob = _decode(rest.partition("+")[2])
        key = cls(name, blob[1:])
        sound = is_key_name(name) and blob[:1] == COSIGNATURE_V1 and len(key.public_key) == _KEY_SIZE
        if not sound or str(key) != text.strip():
            raise CheckpointError("not a verifier key of a witness: name+hash+key for cosignature/v1")
        return key

    def time_on(self, note: str) -> datetime:
        """Answer when this witness cosigned a note: the newest time, if several cosignatures of it hold.

        Raises:
            BadSignature: when none holds; those of others are passed over.
        """
        body, _, lines = note.rpartition("\n\n")
        blobs = [_blob(line, self.name) for line in lines.split("\n")]
        times = [self._time(blob, body + "\n") for blob in blobs if blob[:_ID_SIZE] == self.key_id]
        held = [time for time in times if time is not None]
        if not held:
            raise BadSignature(f"no cosignature by the key of {self.name} holds")
        return datetime.fromtimestamp(max(held), UTC)

    def _time(self, blob: bytes, text: str) -> int | None:
        """Answer the time of a cosignature in seconds since 1970; None when it does not hold."""
        time = int.from_bytes(blob[_ID_SIZE : _ID_SIZE + _TIME_SIZE])
        signature = blob[_ID_SIZE + _TIME_SIZE :]
        if len(signature) != _SIGNATURE_SIZE or time > _MAX_TIME:
            return None
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, statement(time, text))
        except (InvalidSignature, ValueError):
            return None
        return time


def statement(time: int, text: str) -> bytes:
    """Answer what a witness signs: `text` are the lines of the checkpoint, each with its newline."""
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def _blob(line: str, name: str) -> bytes:
    """Answer key id, time and signature of a line by this name; nothing for any other line."""
    prefix = f"{_DASH}{name} "
    return _decode(line.removeprefix(prefix)) if line.startswith(prefix) else b""


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return b""
