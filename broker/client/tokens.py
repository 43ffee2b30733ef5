"""What to do when the service does not take a token. It never says why; the owner may look into their own."""

from __future__ import annotations

import base64
import json

_UNITS = ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def advice(token: str, now: float, remedy: str) -> str:
    """Say what to do about a refused token; its `exp` (RFC 7519, section 4.1.4) is read and nothing is verified.

    `remedy` is what the owner of such a token does to have another one.
    """
    expiry = _expiry(token)
    if expiry is not None and expiry <= now:
        return f"your token expired {_span(int(now - expiry))} ago; {remedy}"
    return f"{remedy}; if that is refused too, give an operator the request id"


def _expiry(token: str) -> float | None:
    """Answer the seconds since 1970, or None when the token does not tell."""
    try:
        _, claims, _ = token.split(".")
        found = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["exp"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return found if isinstance(found, int | float) and not isinstance(found, bool) and found > 0 else None


def _span(seconds: int) -> str:
    """Write a time down in the largest unit of which there are two, so that little is lost by rounding."""
    size, unit = next(((size, unit) for size, unit in _UNITS if seconds >= 2 * size), _UNITS[-1])
    count = seconds // size
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"
