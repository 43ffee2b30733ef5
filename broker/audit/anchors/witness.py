"""An anchor that is a witness (https://c2sp.org/tlog-witness): it checks that the log only grows, and cosigns.

A cosigned note says that somebody else saw this head at that time, and none that contradicts it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

from broker.audit.anchors.continuity import Contradicted, History
from broker.audit.anchors.places import AnchorFailed, Keeper
from broker.audit.checkpoints import CheckpointError, encode_hash
from broker.audit.stores import StoredCheckpoint
from broker.model import Clock

_OK: Final = 200
_CONFLICT: Final = 409
_NOT_CONSISTENT: Final = 422
_MISCONFIGURED: Final = {
    400: "it finds the request malformed",
    403: "it does not know the key of this log: give it the verifier key",
    404: "it does not know this log: give it the origin",
}
_MAX_AGE: Final = timedelta(minutes=10)
_ATTEMPTS: Final = 3


class Reply(Protocol):
    """What a witness said: the status, the size in a 409, and the signature lines in a 200."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def size(self) -> int | None:
        """How many events the newest checkpoint has that it cosigned."""
        ...

    @property
    def lines(self) -> str:
        """Signature lines, each with its newline."""
        ...


Ask = Callable[[int, Sequence[str], str], Awaitable[Reply]]
"""Sends old size, hashes of the consistency proof in base64, and the note."""

Cosigned = Callable[[str], datetime]
"""Verifies the witness's cosignature on a note and answers its time; raises CheckpointError when none holds."""


class WitnessAnchor:
    """A witness that is told every checkpoint; the cosigned notes go to `keeper`."""

    def __init__(self, ask: Ask, cosigned: Cosigned, keeper: Keeper, clock: Clock) -> None:
        self._ask = ask
        self._cosigned = cosigned
        self._keeper = keeper
        self._clock = clock
        self._seen = 0

    async def compare(self, history: History) -> None:
        """Show the witness the newest checkpoint: it says whether that continues what it has cosigned."""
        if note := await self._keeper.newest():
            await history.judge(note)
        if newest := await history.newest():
            await self._cosign(newest, history)

    async def take(self, checkpoint: StoredCheckpoint, after: int, history: History) -> None:
        """Get a checkpoint cosigned, and keep the cosigned note.

        Raises:
            Contradicted: the witness has cosigned what this log does not continue.
            AnchorFailed: it does not cosign, or not with its key and now.
        """
        del after
        if lines := await self._cosign(checkpoint, history):
            await self._keeper.add(checkpoint.size, checkpoint.note + lines, 0)

    async def _cosign(self, checkpoint: StoredCheckpoint, history: History) -> str:
        """Answer the witness's signature lines; empty when it has cosigned a longer log of ours already."""
        for _ in range(_ATTEMPTS):
            if self._seen > checkpoint.size:
                return ""
            proof = await history.proof(self._seen, checkpoint.size)
            reply = await self._ask(self._seen, [encode_hash(each) for each in proof], checkpoint.note)
            if reply.status == _OK:
                self._check(checkpoint.note + reply.lines)
                self._seen = checkpoint.size
                return reply.lines
            if reply.status != _CONFLICT:
                raise _refusal(reply.status)
            self._seen = await self._resynced(reply.size, checkpoint.size, history)
        raise AnchorFailed("it does not say what it has seen")

    async def _resynced(self, named: int | None, size: int, history: History) -> int:
        """Answer the size that the witness names in a conflict, if the log ever had it."""
        if self._seen == size and size and named in {None, size}:
            raise Contradicted(f"fork: the witness has seen other {size} events")
        if named is None:
            raise AnchorFailed("it does not say what it has seen")
        await history.reaches(named)
        return named

    def _check(self, note: str) -> None:
        """Refuse a cosignature that is not the witness's own, or not of now."""
        try:
            time = self._cosigned(note)
        except CheckpointError as problem:
            raise AnchorFailed(f"its cosignature does not hold: {problem}") from problem
        if abs(self._clock() - time) > _MAX_AGE:
            raise AnchorFailed("the time in its cosignature is not now")


def _refusal(status: int) -> Exception:
    if status == _NOT_CONSISTENT:
        return Contradicted("fork: the witness has seen another past of this log")
    return AnchorFailed(_MISCONFIGURED.get(status, f"it answered with status {status}"))
