"""Receipts as callers keep them: proof that an event was in the log when a credential left. Standard library only.

A receipt is `{index, leaf_hash}`, complete with the `checkpoint` over it and the inclusion `proof`; or a whole answer
to a credential request, which has it under `audit`. Hashes are standard base64.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from broker.audit.merkle import HASH_SIZE

_MAX_SIZE = 1 << 53


class MalformedReceipt(ValueError):
    """The text is no receipt; the message says why."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """That the event at `index` has this hash. `checkpoint` is empty, and `size` 0, while it is not complete."""

    index: int
    leaf_hash: bytes
    checkpoint: str = ""
    size: int = 0
    hashes: tuple[bytes, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether it proves something without the log."""
        return bool(self.checkpoint and self.size)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a receipt, or the answer that holds one.

        Raises:
            MalformedReceipt: when it is neither.
        """
        try:
            members = json.loads(text)
        except (ValueError, RecursionError):
            raise MalformedReceipt("it is not JSON") from None
        if isinstance(members, dict) and isinstance(members.get("audit"), dict):
            members = members["audit"]
        if not isinstance(members, dict) or "index" not in members or "leaf_hash" not in members:
            raise MalformedReceipt("it has no index and leaf_hash")
        checkpoint, proof = members.get("checkpoint"), members.get("proof")
        receipt = cls(_number(members["index"]), _hash(members["leaf_hash"]))
        if checkpoint is None or proof is None:
            return receipt
        if not isinstance(checkpoint, str) or not isinstance(proof, Mapping):
            raise MalformedReceipt("checkpoint is a text and proof an object")
        return cls(receipt.index, receipt.leaf_hash, checkpoint, _size_of(proof, receipt), _hashes(proof))


def _size_of(proof: Mapping[str, object], receipt: Receipt) -> int:
    if (_number(proof.get("index")), _hash(proof.get("leaf_hash"))) != (receipt.index, receipt.leaf_hash):
        raise MalformedReceipt("its proof is of another event")
    return _number(proof.get("size"))


def _hashes(proof: Mapping[str, object]) -> tuple[bytes, ...]:
    hashes = proof.get("hashes")
    if not isinstance(hashes, list) or len(hashes) > HASH_SIZE * 8:
        raise MalformedReceipt("its proof has no list of hashes")
    return tuple(map(_hash, hashes))


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < _MAX_SIZE:
        raise MalformedReceipt("an index or size is a whole number from 0 on")
    return value


def _hash(value: object) -> bytes:
    try:
        decoded = base64.b64decode(value.encode("ascii"), validate=True) if isinstance(value, str) else b""
    except (binascii.Error, UnicodeEncodeError):
        decoded = b""
    if len(decoded) != HASH_SIZE:
        raise MalformedReceipt("a hash is base64 of 32 bytes")
    return decoded
