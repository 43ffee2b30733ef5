"""Small agreements on how things are written in JSON (pure)."""

from __future__ import annotations

import base64
import binascii

from broker.errors import InvalidRequest


def base64_text(data: bytes) -> str:
    """Write a hash: standard base64 with padding (RFC 4648, section 4)."""
    return base64.b64encode(data).decode("ascii")


def cursor(position: str) -> str:
    """Wrap a position in a listing, so that nobody builds one by hand."""
    return base64.urlsafe_b64encode(position.encode()).decode("ascii")


def position(cursor: str) -> str:
    """Unwrap a cursor.

    Raises:
        InvalidRequest: it is not one of ours.
    """
    try:
        return base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True).decode()
    except (UnicodeError, binascii.Error):
        raise InvalidRequest(detail="cursor: not a cursor of this listing") from None
