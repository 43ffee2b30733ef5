"""The strict shape of a compact JWS (RFC 7515 section 7.1), checked before any library sees it (pure).

Everything here happens before a signature was looked at, so it is cheap for hostile input: length first, then one
linear expression for the alphabet, then base64, then JSON. What comes out has one meaning only, and is worth nothing
yet: `tokens.verify` decides on that.
"""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64decode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from broker.identity.faults import Fault, refused
from broker.identity.strictjson import NotStrictJson, parse_object

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_TOKEN: Final = 8192
"""Bytes of a whole token. Longer ones are refused unread."""
MAX_NAME: Final = 256
"""Characters of a key id, a subject, a group."""
_MAX_DEPTH: Final = 16

_ALPHABET: Final = "[A-Za-z0-9_-]"
# Unpadded base64url in its only canonical form: the bits that the last character has to spare are zero.
SEGMENT: Final = f"(?=[^.])(?:{_ALPHABET}{{4}})*+(?:{_ALPHABET}[AQgw]|{_ALPHABET}{{2}}[AEIMQUYcgkosw048])?"
_COMPACT: Final = re.compile(rf"({SEGMENT})\.({SEGMENT})\.({SEGMENT})")

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
    shape = _COMPACT.fullmatch(token) if len(token) <= MAX_TOKEN else None
    if shape is None:
        raise refused(Fault.MALFORMED)
    header, claims = _object(shape[1]), _object(shape[2])
    _check_header(header)
    _check_dates(claims)
    text = token.encode("ascii")
    return UnverifiedToken(
        sha256=hashlib.sha256(text).digest(),
        algorithm=str(header["alg"]),
        key_id=None if "kid" not in header else str(header["kid"]),
        type=str(header.get("typ", "")),
        claims=claims,
        signing_input=text[: shape.end(2)],
        signature=urlsafe_b64decode(shape[3] + "=="),
    )


def _object(segment: str) -> dict[str, object]:
    try:
        return parse_object(urlsafe_b64decode(segment + "=="), max_depth=_MAX_DEPTH)
    except NotStrictJson:
        raise refused(Fault.MALFORMED) from None


def _check_header(header: Mapping[str, object]) -> None:
    known = "alg" in header and header.keys() <= _HEADER_MEMBERS
    if not known or not all(isinstance(value, str) and 0 < len(value) <= MAX_NAME for value in header.values()):
        raise refused(Fault.BAD_HEADER)


def _check_dates(claims: Mapping[str, object]) -> None:
    """Check NumericDates (RFC 7519 section 2) as integers: no text, no fraction, no true."""
    for name in _DATES:
        if name in claims and not is_numeric_date(claims[name]):
            raise refused(Fault.BAD_DATE)


def is_numeric_date(value: object) -> bool:
    """Say whether this is a whole number of seconds between 2001 and 5138."""
    return type(value) is int and _EARLIEST <= value <= _LATEST
