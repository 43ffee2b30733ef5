"""Every proof is good once."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final, Protocol

from broker.errors import Overloaded
from broker.identity.nonces import LIFETIME

if TYPE_CHECKING:
    from datetime import datetime

    from broker.model import Clock

REMEMBERED_FOR: Final = LIFETIME + timedelta(minutes=2)
"""Longer than the nonce in a proof is taken."""


class ReplayCache(Protocol):
    """Remembers which proofs were used."""

    async def spend(self, proof: bytes, until: datetime) -> bool:
        """Use a proof up; False when it was before.

        Args:
            proof: what names it: 32 bytes.
            until: when it may be forgotten.

        Raises:
            BrokerError: nobody can tell, so it is not to be taken.
        """
        ...


class ReplaysInMemory:
    """Of one process, which is all there is where the log is in a file.

    Args:
        clock: the time now.
        capacity: how many are remembered. When it is full of proofs that could still be used again, further ones are
            refused: forgetting one would let it in twice.
    """

    def __init__(self, clock: Clock, capacity: int = 100_000) -> None:
        self._clock = clock
        self._capacity = capacity
        self._until: dict[bytes, datetime] = {}

    async def spend(self, proof: bytes, until: datetime) -> bool:
        """Use a proof up; False when it was before. Raises Overloaded when no more can be remembered."""
        if proof in self._until:
            return False
        self._forget()
        if len(self._until) >= self._capacity:
            raise Overloaded(retry_after=1)
        self._until[proof] = until
        return True

    def _forget(self) -> None:
        """Let go of what has ended; they come in the order in which they end, but for a clock that was set."""
        now = self._clock()
        while self._until and self._until[oldest := next(iter(self._until))] < now:
            del self._until[oldest]
