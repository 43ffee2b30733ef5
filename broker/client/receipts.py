"""Checking a receipt where it was received: does its proof lead to its checkpoint (RFC 9162, 2.1.3.2)?

Whose checkpoint that is, only the log's key tells: `broker audit verify --receipt FILE --key KEY`.
"""

from __future__ import annotations

import base64
import binascii
from hashlib import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from broker.client.documents import CompletedReceipt

_LINES = 4  # origin, size, root, and an empty one before the signatures


def holds(receipt: CompletedReceipt) -> bool:
    """Tell whether the proof of a complete receipt leads from its event to the root in its checkpoint."""
    try:
        size, root = _head(str(receipt["checkpoint"]))
        proof = receipt["proof"]
        if proof is None or (proof["index"], proof["size"]) != (receipt["index"], size):
            return False
        leaf, path = _hash(receipt["leaf_hash"]), [_hash(each) for each in proof["hashes"]]
        return leaf == _hash(proof["leaf_hash"]) and _root(receipt["index"], size, leaf, path) == root
    except (KeyError, TypeError, ValueError, AttributeError):
        return False


def _head(note: str) -> tuple[int, bytes]:
    lines = note.split("\n")
    if len(lines) < _LINES or lines[3]:
        raise ValueError("not a checkpoint")
    return int(lines[1]), _hash(lines[2])


def _hash(text: str) -> bytes:
    try:
        value = base64.b64decode(text.encode("ascii"), validate=True)
    except binascii.Error:
        raise ValueError("not base64") from None
    if len(value) != sha256().digest_size:
        raise ValueError("not a hash")
    return value


def _root(index: int, size: int, leaf: bytes, path: list[bytes]) -> bytes | None:
    """Answer the root that a path leads to; None when its length does not fit."""
    if not 0 <= index < size:
        return None
    place, last, node = index, size - 1, leaf
    for step in path:
        if last == 0:
            return None
        left = place & 1 or place == last
        node = sha256(b"\x01" + (step + node if left else node + step)).digest()
        while left and not place & 1 and place:
            place, last = place >> 1, last >> 1
        place, last = place >> 1, last >> 1
    return node if last == 0 else None
