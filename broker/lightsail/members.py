"""Strict reading of one AWS structure, member by member (pure).

Every fault is an `UpstreamError` whose cause names the member and what is wrong with it, and never its value: the
structure may hold a private key.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import NoReturn

from broker.errors import UpstreamError

ANY_PRINTABLE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_MAX_NUMBER = 1_000_000_000


class Members:
    """The members of one structure. `where` is how faults call it, such as `accessDetails`."""

    __slots__ = ("_value", "where")

    def __init__(self, value: object, where: str) -> None:
        self.where = where
        if not isinstance(value, dict):
            raise UpstreamError(f"{where} is missing or not a structure")
        self._value: Mapping[str, object] = value

    def has(self, name: str) -> bool:
        """Tell whether the member is there at all; botocore leaves null members out."""
        return self._value.get(name) is not None

    def text(self, name: str, pattern: re.Pattern[str] = ANY_PRINTABLE, *, limit: int = 256) -> str:
        """Answer a required text of at most `limit` characters that `pattern` matches as a whole."""
        value = self._value.get(name)
        if value is None:
            self.fault(name, "is missing")
        if not isinstance(value, str) or len(value) > limit or pattern.fullmatch(value) is None:
            self.fault(name, "is not of its form")
        return value

    def text_or_empty(self, name: str, pattern: re.Pattern[str] = ANY_PRINTABLE, *, limit: int = 256) -> str:
        """Answer a text as `text` does, and an empty one when the member is absent or empty."""
        return self.text(name, pattern, limit=limit) if self._value.get(name) not in (None, "") else ""

    def prose(self, name: str, *, limit: int = 4096) -> str:
        """Answer text for people: absent is empty, control characters become spaces, what is too long is cut."""
        value = self._value.get(name)
        text = value[:limit] if isinstance(value, str) else ""
        return " ".join("".join(char if char.isprintable() else " " for char in text).split())

    def number(self, name: str, default: float | None = None) -> float:
        """Answer a number from 0 to 10^9; without a default the member is required."""
        value = self._value.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MAX_NUMBER:
            self.fault(name, "is not a number in its range")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        """Answer a truth value."""
        value = self._value.get(name, default)
        if not isinstance(value, bool):
            self.fault(name, "is not a boolean")
        return value

    def items(self, name: str, *, limit: int) -> Sequence[object]:
        """Answer a list of at most `limit` items; an absent one is empty."""
        value = self._value.get(name, ())
        if not isinstance(value, list | tuple) or len(value) > limit:
            self.fault(name, "is not a list of its size")
        return value

    def inside(self, name: str) -> Members:
        """Answer the members of a required inner structure."""
        return Members(self._value.get(name), f"{self.where}.{name}")

    def moment(self, name: str) -> datetime | None:
        """Answer a point in time in UTC; None when it is absent. AWS gives seconds since 1970, the SDK datetimes."""
        value = self._value.get(name)
        if value is None:
            return None
        if (moment := _in_utc(value)) is None:
            self.fault(name, "is not a point in time")
        return moment

    def fault(self, name: str, what: str) -> NoReturn:
        """Refuse the structure."""
        raise UpstreamError(f"{self.where}.{name} {what}")


def _in_utc(value: object) -> datetime | None:
    """Answer a point in time in UTC; None for anything else, and for what is beyond the calendar there."""
    with suppress(OverflowError, ValueError, OSError):
        match value:
            case datetime() if value.tzinfo:
                return value.astimezone(UTC)
            case int() | float() if not isinstance(value, bool):
                return datetime.fromtimestamp(value, UTC)
    return None


def strict_base64(text: str) -> bytes | None:
    """Decode canonical, padded standard base64; None when it is anything else."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if base64.b64encode(raw).decode() == text else None
