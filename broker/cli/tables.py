"""Tables in columns. On a terminal they keep within its width; what is piped is whole.

A heading that begins with `>` is of numbers, which go to the right; one that begins with `!` is of what means nothing
when a part of it is missing, such as a time or a fingerprint. Neither is shortened.
"""

from __future__ import annotations

import sys

from broker.cli.output import dim, terminal_width, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

GAP = "  "
ELLIPSIS = "…"
_COMFORT, _LEAST = 8, 4
"""Columns that are left of a cell while others can give more, and however narrow the terminal is."""


def print_table(columns: Sequence[str], rows: Callable[[], Iterable[Sequence[str]]]) -> None:
    """Print headings and rows, which are gone through twice; of an item that is too long, what fits."""
    headings = [column.lstrip(">!") for column in columns]
    widths = [width_of(heading) for heading in headings]
    for cells in rows():
        widths = list(map(max, widths, map(width_of, cells)))
    if available := terminal_width(sys.stdout):
        widths = fitted(columns, widths, available)

    def line(cells: Sequence[str]) -> str:
        placed = zip(cells, widths, columns, strict=True)
        return GAP.join(_placed(cell, width, column) for cell, width, column in placed).rstrip()

    write(dim(line(headings), sys.stdout))
    for cells in rows():
        write(line(cells))


def fitted(columns: Sequence[str], widths: Sequence[int], available: int) -> list[int]:
    """Take what is too much from the widest columns.

    The first one says what a row is of: only what is too much for it alone is taken from it.
    """
    taken = list(widths)
    taken[0] = min(taken[0], available)
    loose = [index for index in range(1, len(columns)) if columns[index][0] not in ">!"]
    for least in ([max(_COMFORT, width_of(column)) for column in columns], [_LEAST] * len(columns)):
        while sum(taken) + len(GAP) * (len(taken) - 1) > available:
            spare = [index for index in loose if taken[index] > least[index]]
            if not spare:
                break
            taken[max(spare, key=taken.__getitem__)] -= 1
    return taken


def width_of(text: str) -> int:
    """Count the columns of a terminal that a text takes: East Asian wide characters take two (UAX #11), marks none."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(each) else 2 if east_asian_width(each) in "WF" else 1 for each in text)


def shortened(text: str, width: int) -> str:
    """Answer what fits, and an ellipsis; of a path-like name (`account/region/name`) the end, which tells most."""
    if width_of(text) <= width:
        return text
    keeps_end = "/" in text and " " not in text
    kept, room = "", width - len(ELLIPSIS)
    for character in reversed(text) if keeps_end else text:
        room -= width_of(character)
        if room < 0:
            break
        kept = character + kept if keeps_end else kept + character
    return ELLIPSIS + kept if keeps_end else kept.rstrip() + ELLIPSIS


def _placed(cell: str, width: int, column: str) -> str:
    text = shortened(cell, width)
    padding = " " * (width - width_of(text))
    return padding + text if column[0] == ">" else text + padding
