"""Unpadded base64url in its only canonical form (RFC 7515 section 2, RFC 4648 section 3.5; pure)."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final

_TEXT: Final = re.compile(r"[A-Za-z0-9_-]++")
# The last characters whose spare bits are zero, by how many characters the last group has. One alone encodes nothing.
_LAST: Final = {0: None, 1: frozenset(""), 2: frozenset("AQgw"), 3: frozenset("AEIMQUYcgkosw048")}


def decode(text: str) -> bytes | None:
    """Answer the bytes of a non-empty text; None when it is not the one text for these bytes."""
    if _TEXT.fullmatch(text) is None:
        return None
    allowed = _LAST[len(text) % 4]
    if allowed is not None and text[-1] not in allowed:
        return None
    return urlsafe_b64decode(text + "==")


def encode(raw: bytes) -> str:
    """Answer the one text for these bytes."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
