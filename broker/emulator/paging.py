"""Pages of a listing and the opaque tokens that lead from one to the next."""

from __future__ import annotations

import base64
import hmac
import secrets
from collections.abc import Sequence
from hashlib import sha256
from typing import Final, TypeVar

from broker.emulator.errors import invalid_input

T = TypeVar("T")

_OFFSET_BYTES: Final = 4


class Pages:
    """Cuts listings into pages of `size`. Tokens hold for the listing they were made for, while this object lives."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._secret = secrets.token_bytes(32)

    def page(self, items: Sequence[T], token: object, listing: str) -> tuple[Sequence[T], str | None]:
        """Answer the items that a token leads to ("" or None: the first) and the next token, None at the end.

        Raises:
            AwsError: InvalidInputException for a token that was not made here for this `listing`.
        """
        start = self._offset(str(token), listing) if token else 0
        end = start + self._size
        return items[start:end], self._token(end, listing) if end < len(items) else None

    def _token(self, offset: int, listing: str) -> str:
        position = offset.to_bytes(_OFFSET_BYTES, "big")
        proof = hmac.new(self._secret, position + listing.encode(), sha256).digest()
        return base64.urlsafe_b64encode(position + proof).decode()

    def _offset(self, token: str, listing: str) -> int:
        try:
            position = base64.urlsafe_b64decode(token)[:_OFFSET_BYTES]
        except ValueError:
            position = b""
        offset = int.from_bytes(position, "big")
        if not hmac.compare_digest(token.encode("utf-8", "replace"), self._token(offset, listing).encode()):
            raise invalid_input("The page token is not valid.")
        return offset
