from __future__ import annotations

import base64
from typing import Any

import pytest

from broker.audit.merkle import CompactRange, inclusion_proof, leaf_hash
from broker.client.receipts import holds

LEAVES = [leaf_hash(str(number).encode()) for number in range(70)]


def text_of(value: bytes) -> str:
    return base64.b64encode(value).decode()


def node(level: int, index: int) -> bytes:
    tree = CompactRange()
    for leaf in LEAVES[index << level : (index + 1) << level]:
        tree.append(leaf)
    return tree.root()


def receipt(index: int, size: int) -> Any:
    tree = CompactRange()
    for hashed in LEAVES[:size]:
        tree.append(hashed)
    hashes = [text_of(each) for each in inclusion_proof(index, size, node)]
    leaf = text_of(LEAVES[index])
    return {
        "index": index,
        "leaf_hash": leaf,
        "checkpoint": f"log.example/audit\n{size}\n{text_of(tree.root())}\n\n\u2014 log.example/audit AAAA\n",
        "proof": {"index": index, "size": size, "leaf_hash": leaf, "hashes": hashes},
    }


def but(document: Any, **changed: object) -> Any:
    return {**document, **changed}


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 64, 65, 70])
def test_every_receipt_of_a_tree_holds_and_for_no_other_place(size: int) -> None:
    for index in range(size):
        good: Any = receipt(index, size)
        assert holds(good)
        assert not holds(but(good, leaf_hash=text_of(LEAVES[(index + 1) % 70])))
        other = (index + 1) % (size + 1)
        assert not holds(but(good, index=other, proof=but(good["proof"], index=other)))


def test_what_does_not_fit_together_does_not_hold() -> None:
    good: Any = receipt(5, 9)
    changed: Any
    proof = good["proof"]
    for changed in (
        {"checkpoint": None},
        {"checkpoint": ""},
        {"checkpoint": good["checkpoint"].replace("\n9\n", "\n10\n")},
        {"checkpoint": receipt(5, 8)["checkpoint"]},
        {"proof": None},
        {"proof": {}},
        {"proof": {**proof, "hashes": proof["hashes"][:-1]}},
        {"proof": {**proof, "hashes": [*proof["hashes"], proof["hashes"][0]]}},
        {"proof": {**proof, "hashes": proof["hashes"][::-1]}},
        {"proof": {**proof, "hashes": "x"}},
        {"proof": {**proof, "hashes": [1]}},
        {"proof": {**proof, "size": 8}},
        {"leaf_hash": "é"},
        {"leaf_hash": "AAAA"},
    ):
        assert not holds(but(good, **changed)), changed
