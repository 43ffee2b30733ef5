"""Durations on the command line: `90s`, `1h30m`."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError

_DURATION = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?", re.ASCII)
_UNITS = (86400, 3600, 60, 1)


def seconds(text: str) -> int:
    """Read a duration into seconds; an argparse type."""
    match = _DURATION.fullmatch(text)
    if not text or not match:
        raise ArgumentTypeError("write a duration like 90s, 5m or 1h30m")
    return sum(int(number or 0) * unit for number, unit in zip(match.groups(), _UNITS, strict=True))
