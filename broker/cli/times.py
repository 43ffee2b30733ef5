"""Times for people: by the clock of this machine, with the date only when that is not today."""

from __future__ import annotations

import sys
from datetime import datetime

from broker.cli.output import terminal_width


def clock(text: str, now: datetime | None = None) -> str:
    """Write a time of the service (RFC 3339) as people read it; what is no time stays as it is.

    Args:
        text: such as `2026-03-01T12:13:00.000Z`.
        now: what counts as today, and by its zone as the clock of this machine.
    """
    here = now or datetime.now().astimezone()
    try:
        moment = datetime.fromisoformat(text).astimezone(here.tzinfo)
    except ValueError:
        return text
    return moment.strftime("%H:%M" if moment.date() == here.date() else "%Y-%m-%d %H:%M")


def in_a_table(text: str) -> str:
    """Write a time for a table: short on a terminal, whole in a pipe."""
    return clock(text) if terminal_width(sys.stdout) else text
