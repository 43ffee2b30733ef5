"""What people are told while it is measured, beside the results."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """Write a line on stderr."""
    print(text, file=sys.stderr, flush=True)
