"""The strict shape of a compact JWS (RFC 7515 section 7.1), checked before any library sees it (pure).

Everything here happens before a signature was looked at, so it is cheap for hostile input: length first, then the
alphabet, then base64, then JSON. What comes out has one meaning only, and is worth nothing
yet: `tokens.verify` decides on that.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from broker.identity.base64url import decode
from broker.identity.faults import Fault, refused
from broker.identity.strictjson import NotStrictJson, parse_object

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_TOKEN: Final = 8192
"""Bytes of a whole token. Longer ones are refused unread."""
MAX_NAME: Final = 256
"""Characters of a key id, a subject, a group."""
_MAX_DEPTH: Final = 16
_SEGMENTS: Final = 3

# Thumbprints (`x5t`) are allowed because large issuers always send them, and ignored: keys are found by `kid` alone.
# What could bring a key, an extension, compression or encryption along is not here (RFC 8725 3.10, RFC 7515 4.1.11).
_HEADER_MEMBERS: Final = frozenset({"alg", "kid", "typ", "x5t", "x5t#S256"})
_DATES: Final = ("exp", "nbf", "iat", "auth_time")
_EARLIEST: Final = 1_000_000_000  # 2001
_LATEST: Final = 100_000_000_000  # the year 5138; milliseconds since the epoch are beyond it


@dataclass(frozen=True, slots=True, kw_only=True)
class UnverifiedToken:
    """A well-formed token whose signature nobody has checked: worth nothing yet. Its text is never printed."""

    sha256: bytes
    """Of the whole token's text: 32 bytes. A canonical form has exactly one text."""
    algorithm: str
    key_id: str | None
    type: str
    """The `typ` of the header, "" when there is none."""
    claims: Mapping[str, object] = field(repr=False)
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def parse(token: str) -> UnverifiedToken:
    """Take a compact JWS apart.

    Raises:
        InvalidToken: it is not one, or not strictly one. Nothing else is raised, whatever the input.
    """
    segments = token.split(".", 3) if len(token) <= MAX_TOKEN else []
    if len(segments) != _SEGMENTS:
        raise refused(Fault.MALFORMED)
    header, claims, signature = _header(segments[0]), json_object(segments[1]), decode(segments[2])
    _check_dates(claims)
    if signature is None:
        raise refused(Fault.MALFORMED)
    text = token.encode("ascii")
    return UnverifiedToken(
        sha256=hashlib.sha256(text).digest(),
        algorithm=header["alg"],
        key_id=header.get("kid"),
        type=header.get("typ", ""),
        claims=claims,
        signing_input=text[: -len(segments[2]) - 1],
        signature=signature,
    )


def json_object(segment: str) -> dict[str, object]:
    """Answer the strict JSON object that a segment holds; raises InvalidToken."""
    raw = decode(segment)
    if raw is None:
        raise refused(Fault.MALFORMED)
    try:
        return parse_object(raw, max_depth=_MAX_DEPTH)
    except NotStrictJson:
        raise refused(Fault.MALFORMED) from None


@lru_cache(maxsize=64)  # an issuer's tokens share their header
def _header(segment: str) -> Mapping[str, str]:
    members = json_object(segment)
    texts = {name: value for name, value in members.items() if isinstance(value, str) and 0 < len(value) <= MAX_NAME}
    if texts != members or not {"alg"} <= texts.keys() <= _HEADER_MEMBERS:
        raise refused(Fault.BAD_HEADER)
    return texts


def _check_dates(claims: Mapping[str, object]) -> None:
    """Check NumericDates (RFC 7519 section 2) as integers: no text, no fraction, no true."""
    for name in _DATES:
        if name in claims and not is_numeric_date(claims[name]):
            raise refused(Fault.BAD_DATE)


def is_numeric_date(value: object) -> bool:
    """Say whether this is a whole number of seconds between 2001 and 5138."""
    return type(value) is int and _EARLIEST <= value <= _LATEST
