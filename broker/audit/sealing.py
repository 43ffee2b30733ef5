"""What of the log is under a checkpoint: nothing is signed that was not read back from the store and hashed again."""

from __future__ import annotations

from collections.abc import Sequence

from broker.audit.checkpoints import Checkpoint, CheckpointError, Signer
from broker.audit.events import decode
from broker.audit.leaves import milliseconds
from broker.audit.merkle import CompactRange, leaf_hash, nodes_from_rows
from broker.audit.rotation import KEY_ROTATED, KeyChain, Rotation
from broker.audit.stores import Head, HeadMoved, Store, StoredCheckpoint, StoredRecord, StoreError

REREAD = 1024
"""So many new leaves are read at once, to keep each pause of the writer short."""


def head_of(tree: CompactRange) -> Head:
    """Answer the head of a log with this tree."""
    return Head(tree.size, tree.root())


class Seal:
    """The newest checkpoint, of `size` events, and the tree over what was read back since.

    So `size <= reread.size`, and that is never more than what is committed. For one thread.
    """

    def __init__(self, store: Store, signer: Signer) -> None:
        self._store = store
        self.signer = signer
        self.size = 0
        self.reread = CompactRange()

    def load(self, checkpoint: Checkpoint, size: int) -> None:
        """Begin at the newest checkpoint of a log that is so long, if it sealed what is here.

        Raises:
            StoreError: when it did not.
        """
        if checkpoint.size > size:
            raise StoreError(f"the audit log was cut: {checkpoint.size} events were sealed, {size} are left")
        self.reread = CompactRange.load(checkpoint.size, nodes_from_rows(self._store.hashes))
        if self.reread.root() != checkpoint.root:
            raise StoreError("the audit log is not the one that its newest checkpoint sealed")
        self.size = checkpoint.size

    def newest(self, size: int) -> Checkpoint:
        """Answer the newest checkpoint of a log that is so long, its signature checked."""
        stored = self._store.newest_checkpoint()
        if stored is None:
            raise StoreError("the audit log has no checkpoint")
        try:
            return KeyChain(self.signer.verifier, self._newest_rotation(size)).open(stored.note)
        except CheckpointError as problem:
            raise StoreError(f"the newest checkpoint is not of this log and key: {problem}") from problem

    def _newest_rotation(self, size: int) -> list[Rotation]:
        """Answer the newest change of key, if there was one: this process must have the key that it brought."""
        at = self._store.newest(KEY_ROTATED, size)
        if at is None:
            return []
        [record] = self._store.records(at, at + 1)
        try:
            rotation = Rotation.read(at, decode(record.leaf))
        except ValueError as problem:
            raise StoreError(f"event {at}: {problem}") from problem
        if rotation.new != self.signer.verifier:
            raise StoreError(f"another key signs the audit log since event {at}: `broker audit rotate` takes it over")
        return [rotation]

    def read_back(self, end: int) -> Sequence[StoredRecord]:
        """Hash again what the store holds, up to a bound, and extend the tree that will be signed by it."""
        end = min(end, self.reread.size + REREAD)
        records = list(self._store.records(self.reread.size, end))
        for record in records:
            hashed = leaf_hash(record.leaf)
            if record.idx != self.reread.size or record.leaf_hash != hashed:
                raise StoreError(f"event {self.reread.size} is not what was written")
            self.reread.append(hashed)
        if self.reread.size != end:
            raise StoreError(f"event {self.reread.size} is missing")
        return records

    def take_over(self, checkpoint: Checkpoint, size: int) -> None:
        """Go on from what another process has sealed, which it has read back: but only when it is what is here.

        Raises:
            StoreError: when that is another log than the one that is so long here.
        """
        if checkpoint.size > size:
            raise HeadMoved(f"another process sealed {checkpoint.size} events, {size} are here: the log was cut")
        sealed = CompactRange.load(checkpoint.size, nodes_from_rows(self._store.hashes))
        if sealed.root() != checkpoint.root:
            raise HeadMoved("another process sealed another log than the one that is here: it has forked")
        self.size = checkpoint.size
        if sealed.size > self.reread.size:
            self.reread = sealed

    def put(self, head: Head, time: str) -> str:
        """Sign a head, but only after the stored events gave the same one; answer the note."""
        while self.reread.size < head.size:
            self.read_back(head.size)
        if head_of(self.reread) != head or (not self._store.shared and self._store.head() != head):
            raise StoreError("the stored events do not give the head of the log: it is not signed")
        if self._store.shared:
            self._newest_rotation(
                head.size
            )  # another process may have changed the key: this one must not sign any more
        note = self.signer.sign(*head)
        self._store.add_checkpoint(StoredCheckpoint(*head, milliseconds(time), note))
        self.size = head.size
        return note
