"""Durations as people say them."""

from __future__ import annotations

_SOME_MINUTES = 120


def span(seconds: float) -> str:
    """Write a duration in the unit that tells enough: `40 s`, `3 min`, `2 h 5 min`, `3 d`."""
    whole = round(seconds)
    if whole < _SOME_MINUTES:
        return f"{whole} s"
    minutes = round(whole / 60)
    hours, rest = divmod(minutes, 60)
    if not hours:
        return f"{minutes} min"
    if hours >= 48:  # noqa: PLR2004  # two days
        return f"{round(hours / 24)} d"
    return f"{hours} h {rest} min" if rest else f"{hours} h"
