"""The Merkle tree of RFC 6962 and RFC 9162, section 2.1: hashes, growth, proofs and their verification. Pure.

A node is named by (level, index): level 0 are the leaf hashes, and node (l, i) covers the leaves from `i << l`
up to, but not including, `(i + 1) << l`. Only complete nodes have a name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Self

HASH_SIZE = 32
EMPTY_ROOT = sha256(b"").digest()
"""Root of the tree without leaves."""

TILE_LEVELS = 8
"""Nodes are kept at every eighth level only; those between are folded from at most 256 of them."""

NodeReader = Callable[[int, int], bytes]
"""Answers the hash of the complete node (level, index)."""

RowReader = Callable[[int, int, int], Sequence[bytes]]
"""Answers `count` neighbouring hashes from (level, first); level is a multiple of `TILE_LEVELS`."""


def leaf_hash(leaf: bytes) -> bytes:
    """Hash one leaf."""
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two neighbouring nodes into their parent."""
    return sha256(b"\x01" + left + right).digest()


class CompactRange:
    """The frontier of a growing tree: the roots of its complete subtrees, largest first. Enough to append."""

    __slots__ = ("_hashes", "size")

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        self.size = size
        self._hashes = list(hashes)

    @classmethod
    def load(cls, size: int, node: NodeReader) -> Self:
        """Read the frontier of a stored tree of `size` leaves."""
        levels = [level for level in reversed(range(size.bit_length())) if size >> level & 1]
        return cls(size, [node(level, (size >> level) - 1) for level in levels])

    def copy(self) -> CompactRange:
        """Answer an independent copy."""
        return CompactRange(self.size, self._hashes)

    def append(self, leaf: bytes, completed: list[tuple[int, int, bytes]] | None = None, level: int = 0) -> None:
        """Add one leaf hash; put what became complete at a kept level into `completed`: (level, index, hash).

        With a `level` it is a whole node that is added, to a tree that ends where the node begins.
        """
        index = self.size
        self.size += 1 << level
        node = leaf
        while index >> level & 1:
            node = node_hash(self._hashes.pop(), node)
            level += 1
            if completed is not None and level % TILE_LEVELS == 0:
                completed.append((level, index >> level, node))
        self._hashes.append(node)

    def root(self) -> bytes:
        """Answer the root of the whole tree."""
        return self._folded(self._hashes) if self._hashes else EMPTY_ROOT

    def root_with(self, following: bytes) -> bytes:
        """Answer the root with the leaves under `following`, no more of them than the smallest subtree here has."""
        return self._folded([*self._hashes, following])

    @staticmethod
    def _folded(hashes: Sequence[bytes]) -> bytes:
        root = hashes[-1]
        for left in hashes[-2::-1]:
            root = node_hash(left, root)
        return root


def nodes_from_rows(read: RowReader) -> NodeReader:
    """Make every node readable where only every eighth level is kept."""

    def node(level: int, index: int) -> bytes:
        above = level % TILE_LEVELS
        hashes = list(read(level - above, index << above, 1 << above))
        while len(hashes) > 1:
            hashes = [node_hash(hashes[at], hashes[at + 1]) for at in range(0, len(hashes), 2)]
        return hashes[0]

    return node


def _split(count: int) -> int:
    """Answer the largest power of two that is smaller than `count`."""
    return 1 << (count - 1).bit_length() - 1


def _root_of(start: int, end: int, node: NodeReader) -> bytes:
    """Answer MTH(D[start:end]); `start` is where the recursion of the RFC cuts, so complete parts are nodes."""
    count = end - start
    if count & (count - 1) == 0:
        level = count.bit_length() - 1
        return node(level, start >> level)
    middle = start + _split(count)
    return node_hash(_root_of(start, middle, node), _root_of(middle, end, node))


def inclusion_proof(index: int, size: int, node: NodeReader) -> list[bytes]:
    """Answer the audit path of leaf `index` in the tree of `size` (RFC 9162, 2.1.3.1), from the leaf upwards.

    Raises:
        ValueError: unless 0 <= index < size.
    """
    if not 0 <= index < size:
        raise ValueError("there is no such leaf in a tree of this size")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_root_of(middle, end, node))
            end = middle
        else:
            path.append(_root_of(start, middle, node))
            start = middle
    return path[::-1]


def consistency_proof(first: int, second: int, node: NodeReader) -> list[bytes]:
    """Answer the proof that the tree of `second` leaves begins with that of `first` (RFC 9162, 2.1.4.1).

    It is empty when they are equal, and from the empty tree, of which every tree is a continuation.

    Raises:
        ValueError: unless 0 <= first <= second.
    """
    if not 0 <= first <= second:
        raise ValueError("a tree is consistent only with a larger one")
    if first in (0, second):
        return []
    path: list[bytes] = []
    start, end = 0, second
    while first != end:
        middle = start + _split(end - start)
        if first <= middle:
            path.append(_root_of(middle, end, node))
            end = middle
        else:
            path.append(_root_of(start, middle, node))
            start = middle
    if start:  # otherwise the verifier holds this node already: it is the older root
        path.append(_root_of(start, end, node))
    return path[::-1]


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> bool:
    """Tell whether `proof` puts the leaf hash at `index` under `root` (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    place, last, node = index, size - 1, leaf
    for step in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            node = node_hash(step, node)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            node = node_hash(node, step)
        place, last = place >> 1, last >> 1
    return last == 0 and node == root


def verify_consistency(first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]) -> bool:
    """Tell whether the second tree is a continuation of the first (RFC 9162, 2.1.4.2)."""
    if not 0 <= first <= second:
        return False
    if first == 0:
        return not proof and first_root == EMPTY_ROOT and (second > 0 or second_root == EMPTY_ROOT)
    if first == second:
        return not proof and first_root == second_root
    steps = list(proof) if first & (first - 1) else [first_root, *proof]
    if not steps:
        return False
    place, last = first - 1, second - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    older = newer = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            older, newer = node_hash(step, older), node_hash(step, newer)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            newer = node_hash(newer, step)
        place, last = place >> 1, last >> 1
    return last == 0 and older == first_root and newer == second_root
