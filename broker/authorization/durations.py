"""Durations as people write them: `90s`, `15m`, `1h30m` (pure)."""

from __future__ import annotations

import re
from datetime import timedelta

MAX_DURATION = timedelta(days=30)
_DURATION = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s)?", re.ASCII)


def parse_duration(text: str) -> timedelta:
    """Read a duration of one second to thirty days.

    Raises:
        ValueError: not of that form, nothing, or too long. The message is fit for people.
    """
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise ValueError(f"not a duration such as 90s, 15m or 1h30m: {text!r}")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    duration = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    if not timedelta(0) < duration <= MAX_DURATION:
        raise ValueError(f"a duration is longer than nothing and at most 30d: {text!r}")
    return duration
