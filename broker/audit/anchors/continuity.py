"""Whether the log continues what somebody outside holds of it: a checkpoint, or a size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from broker.audit import merkle
from broker.audit.checkpoints import Checkpoint, CheckpointError, VerifierKey, unverified
from broker.audit.review import InclusionProof, Page
from broker.audit.rotation import KEY_ROTATED, KeyChain, Rotation
from broker.audit.stores import Filters, StoredCheckpoint

_PAGE = 200


class Contradicted(Exception):
    """The log is not a continuation of what is held elsewhere: it was rolled back, rewritten, or is another one."""


class Answers(Protocol):
    """Reading the log, as `Review` does."""

    async def size(self) -> int:
        """Answer how many events there are."""
        ...

    async def events(self, filters: Filters, *, limit: int = ..., cursor: str = ...) -> Page:
        """Answer one page of events, newest first."""
        ...

    async def checkpoint(self) -> str:
        """Answer the newest note."""
        ...

    async def checkpoints(self, after: int, limit: int) -> Sequence[StoredCheckpoint]:
        """Answer checkpoints of a greater size, by size."""
        ...

    async def inclusion_proof(self, index: int, size: int | None = None) -> InclusionProof:
        """Answer an inclusion proof."""
        ...

    async def consistency_proof(self, first: int, second: int) -> tuple[bytes, ...]:
        """Answer a consistency proof."""
        ...


class History:
    """The past of the log, for comparing. `key` is one of its keys, such as the one that signs now."""

    def __init__(self, answers: Answers, key: VerifierKey) -> None:
        self._answers = answers
        self._key = key

    async def newest(self) -> StoredCheckpoint | None:
        """Answer the newest checkpoint; None when it has gone since it was looked for."""
        return await self.following(unverified(await self._answers.checkpoint()).size - 1)

    async def following(self, size: int) -> StoredCheckpoint | None:
        """Answer the checkpoint that comes after so many events; None when there is none yet."""
        found = await self._answers.checkpoints(size, 1)
        return found[0] if found else None

    async def proof(self, first: int, second: int) -> tuple[bytes, ...]:
        """Answer that `second` events continue the first so many."""
        return await self._answers.consistency_proof(first, second)

    async def reaches(self, size: int) -> None:
        """Raise Contradicted when the log is shorter than it was when somebody outside saw it."""
        now = await self._answers.size()  # asked after the anchor was, so that other writers do no harm
        if size > now:
            raise Contradicted(f"rolled back: {size} events were anchored, {now} are here")

    async def judge(self, note: str) -> None:
        """Hold the log against a note from elsewhere.

        Raises:
            Contradicted: the log does not continue it, or no key of the log signed it.
            AuditUnavailable: the log cannot be read.
        """
        checkpoint = await self._open(note)
        await self.reaches(checkpoint.size)
        if not await self._had(checkpoint):
            raise Contradicted(f"fork: the first {checkpoint.size} events are not those that were anchored")

    async def _open(self, note: str) -> Checkpoint:
        try:
            return (await self._keys()).open(note)
        except CheckpointError as problem:
            raise Contradicted(f"the newest checkpoint there is not one of this log: {problem}") from problem

    async def _keys(self) -> KeyChain:
        """Read from the log which keys it had."""
        rotations, cursor = [], ""
        while True:
            page = await self._answers.events(Filters(event=KEY_ROTATED), limit=_PAGE, cursor=cursor)
            rotations += [Rotation.read(entry.index, entry.event) for entry in page.items]
            if not page.next_cursor:
                return KeyChain(self._key, rotations)
            cursor = page.next_cursor

    async def _had(self, checkpoint: Checkpoint) -> bool:
        """Tell whether the log once had this size and this root."""
        if checkpoint.size == 0:
            return checkpoint.root == merkle.EMPTY_ROOT
        last = checkpoint.size - 1
        proof = await self._answers.inclusion_proof(last, checkpoint.size)
        return merkle.verify_inclusion(last, checkpoint.size, proof.leaf_hash, proof.hashes, checkpoint.root)
