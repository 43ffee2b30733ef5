"""Nonces for DPoP proofs (RFC 9449, sections 8 and 9), made and known again without remembering any (pure).

A nonce is the minute in which it was made, and a MAC over it. Every replica that has the same key knows it again.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from broker.identity.base64url import decode, encode

if TYPE_CHECKING:
    from datetime import datetime

    from broker.model import Clock

LIFETIME: Final = timedelta(minutes=5)
"""For how long a nonce is taken, at least."""

_STEP: Final = 60
_COUNTER, _MAC = 8, 16


class Nonces:
    """Makes nonces, and knows its own.

    Args:
        key: 32 bytes that only the brokers of one service have.
        clock: the time now.
    """

    def __init__(self, key: bytes, clock: Clock) -> None:
        self._key = key
        self._clock = clock

    def current(self) -> str:
        """Answer the nonce of this minute."""
        return self._nonce(self._minute(self._clock()))

    def is_fresh(self, nonce: str) -> bool:
        """Tell whether this is one of ours, and young enough."""
        raw = decode(nonce) if len(nonce) <= 2 * (_COUNTER + _MAC) else None
        if raw is None or len(raw) != _COUNTER + _MAC:
            return False
        made, now = int.from_bytes(raw[:_COUNTER]), self._minute(self._clock())
        # One minute of the future too: another replica's clock may be a little ahead.
        in_time = -1 <= now - made <= LIFETIME // timedelta(seconds=_STEP)
        return in_time and hmac.compare_digest(nonce.encode(), self._nonce(made).encode())

    def _nonce(self, minute: int) -> str:
        counter = minute.to_bytes(_COUNTER)
        return encode(counter + hmac.digest(self._key, counter, hashlib.sha256)[:_MAC])

    @staticmethod
    def _minute(moment: datetime) -> int:
        return int(moment.timestamp()) // _STEP
