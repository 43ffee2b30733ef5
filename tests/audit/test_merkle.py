from __future__ import annotations

from hashlib import sha256

import pytest

from broker.audit.merkle import (
    EMPTY_ROOT,
    CompactRange,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    nodes_from_rows,
    verify_consistency,
    verify_inclusion,
)

LEAVES = [b"-" * (number % 5) + str(number).encode() for number in range(600)]
HASHES = [leaf_hash(leaf) for leaf in LEAVES]


def tree_hash(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1, word for word: MTH."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + tree_hash(leaves[:k]) + tree_hash(leaves[k:])).digest()


def stored_tree(size: int) -> tuple[CompactRange, dict[tuple[int, int], bytes]]:
    """Grow a tree and keep what a store keeps."""
    tree = CompactRange()
    completed: list[tuple[int, int, bytes]] = []
    for hashed in HASHES[:size]:
        tree.append(hashed, completed)
    kept = {(level, index): node for level, index, node in completed}
    return tree, kept | {(0, index): hashed for index, hashed in enumerate(HASHES[:size])}


TREE, KEPT = stored_tree(600)
NODE = nodes_from_rows(lambda level, first, count: [KEPT[level, index] for index in range(first, first + count)])
ROOTS = [tree_hash(LEAVES[:size]) for size in range(67)]


def test_a_growing_tree_has_the_root_of_the_rfc_at_every_size() -> None:
    tree = CompactRange()
    assert tree.root() == EMPTY_ROOT == tree_hash([])
    for size in range(1, 67):
        tree.append(HASHES[size - 1])
        assert tree.root() == ROOTS[size]


def test_the_known_root_of_one_empty_leaf() -> None:
    assert leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 511, 512, 513, 600])
def test_a_frontier_that_is_read_back_equals_the_one_that_grew(size: int) -> None:
    grown, _ = stored_tree(size)
    read = CompactRange.load(size, NODE)
    assert read.root() == grown.root() == tree_hash(LEAVES[:size])
    read.append(HASHES[0])
    grown.append(HASHES[0])
    assert read.root() == grown.root()


@pytest.mark.parametrize("level", [0, 1, 5, 8, 9])
def test_a_tree_that_grows_by_whole_nodes_is_the_one_that_grew_by_their_leaves(level: int) -> None:
    step = 1 << level
    tree, completed = CompactRange(), list[tuple[int, int, bytes]]()
    for first in range(0, 600 - step + 1, step):
        for size in range(1, step + 1):
            assert tree.root_with(tree_hash(LEAVES[first : first + size])) == stored_tree(first + size)[0].root()
        tree.append(NODE(level, first >> level), completed, level)
    assert tree.root() == stored_tree(tree.size)[0].root()
    assert completed == [(8, index, KEPT[8, index]) for index in range(2) if level < 8]


def test_only_every_eighth_level_is_kept() -> None:
    assert {(level, index) for level, index in KEPT if level} == {(8, 0), (8, 1)}


def test_every_inclusion_proof_up_to_64_verifies_and_no_other_leaf_or_place_does() -> None:
    for size in range(1, 65):
        for index in range(size):
            proof = inclusion_proof(index, size, NODE)
            assert verify_inclusion(index, size, HASHES[index], proof, ROOTS[size])
            assert not verify_inclusion(index, size, HASHES[index + 1], proof, ROOTS[size])
            assert not verify_inclusion(index, size, HASHES[index], proof, ROOTS[size - 1])
            assert not verify_inclusion(index, size, HASHES[index], [*proof, HASHES[0]], ROOTS[size])
            if proof:
                assert not verify_inclusion(index, size, HASHES[index], proof[:-1], ROOTS[size])
                assert not verify_inclusion(index ^ 1, size, HASHES[index], proof, ROOTS[size])


def test_every_consistency_proof_up_to_64_verifies_and_no_other_tree_does() -> None:
    wrong = sha256(b"wrong").digest()
    for second in range(65):
        for first in range(second + 1):
            proof = consistency_proof(first, second, NODE)
            old, new = ROOTS[first], ROOTS[second]
            assert verify_consistency(first, second, old, new, proof)
            assert not verify_consistency(first, second, wrong, new, proof)
            assert not verify_consistency(first, second, old, new, [*proof, wrong])
            if first:
                assert not verify_consistency(first, second, old, wrong, proof)
            if proof:
                assert not verify_consistency(first, second, old, new, proof[1:])
                assert not verify_consistency(first, second, old, new, [wrong, *proof[1:]])


def test_proofs_across_the_kept_levels_verify() -> None:
    for first, second in [(255, 256), (256, 257), (300, 600), (512, 600), (1, 600), (511, 513)]:
        old, new = tree_hash(LEAVES[:first]), tree_hash(LEAVES[:second])
        assert verify_consistency(first, second, old, new, consistency_proof(first, second, NODE))
        proof = inclusion_proof(first, second, NODE)
        assert verify_inclusion(first, second, HASHES[first], proof, new)


def test_a_leaf_never_hashes_like_a_node() -> None:
    assert leaf_hash(HASHES[0] + HASHES[1]) != node_hash(HASHES[0], HASHES[1])


@pytest.mark.parametrize(("index", "size"), [(0, 0), (-1, 4), (4, 4)])
def test_a_proof_of_a_leaf_that_is_not_there_is_refused(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="no such leaf"):
        inclusion_proof(index, size, NODE)
    assert not verify_inclusion(index, size, HASHES[0], [], HASHES[0])


@pytest.mark.parametrize(("first", "second"), [(-1, 3), (4, 3)])
def test_a_tree_is_never_consistent_with_a_smaller_one(first: int, second: int) -> None:
    with pytest.raises(ValueError, match="larger"):
        consistency_proof(first, second, NODE)
    assert not verify_consistency(first, second, HASHES[0], HASHES[0], [])
