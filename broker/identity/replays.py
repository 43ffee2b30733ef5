"""Every proof is good once."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Protocol

from broker.errors import Overloaded, RateLimited
from broker.identity.nonces import LIFETIME

if TYPE_CHECKING:
    from datetime import datetime

    from broker.model import Clock

REMEMBERED_FOR: Final = LIFETIME + timedelta(minutes=2)
"""Longer than the nonce in a proof is taken."""


MOST_OF_ONE: Final = 2000
"""How many proofs of one caller are remembered, of whatever keys: about five a second. Nobody's haste is another's."""


class ReplayCache(Protocol):
    """Remembers which proofs were used."""

    async def spend(self, holder: bytes, proof: bytes, until: datetime) -> bool:
        """Use a proof up; False when it was before.

        Args:
            holder: whose it is.
            proof: what names it, as `binding.verify_proof` answers.
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
        of_one: how many of one caller are.
    """

    def __init__(self, clock: Clock, capacity: int = 100_000, of_one: int = MOST_OF_ONE) -> None:
        self._clock = clock
        self._capacity = capacity
        self._of_one = of_one
        self._used: dict[bytes, tuple[datetime, bytes]] = {}
        self._held: Counter[bytes] = Counter()

    async def spend(self, holder: bytes, proof: bytes, until: datetime) -> bool:
        """Use a proof up; False when it was before. Raises RateLimited or Overloaded when it cannot be remembered."""
        if proof in self._used:
            return False
        self._forget()
        if self._held[holder] >= self._of_one:
            raise RateLimited(retry_after=60)
        if len(self._used) >= self._capacity:
            raise Overloaded(retry_after=1)
        self._used[proof] = until, holder
        self._held[holder] += 1
        return True

    def _forget(self) -> None:
        """Let go of what has ended; they come in the order in which they end, but for a clock that was set."""
        now = self._clock()
        while self._used:
            proof, (until, holder) = next(iter(self._used.items()))
            if until >= now:
                return
            del self._used[proof]
            self._held[holder] -= 1
            if not self._held[holder]:
                del self._held[holder]
