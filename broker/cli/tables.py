"""Tables in columns. On a terminal they keep within its width; what is piped is whole.

A heading that begins with `>` is of numbers, which go to the right; one that begins with `!` is of what means nothing
when a part of it is missing, such as a time. Neither is shortened. One that begins with `/` is of instances as
`account/region/name`: they are shortened when nothing else is left to shorten, and then the name stays.
"""

from __future__ import annotations

import sys

from broker.cli.output import dim, terminal_width, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

MARKS = ">!/"
GAP = "  "
ELLIPSIS = "…"
_COMFORT, _LEAST = 8, 4
"""Columns that are left of a cell while others can give more, and however narrow the terminal is."""


def print_table(columns: Sequence[str], rows: Callable[[], Iterable[Sequence[str]]]) -> None:
    """Print headings and rows, which are gone through twice; of an item that is too long, what fits."""
    headings = [column.lstrip(MARKS) for column in columns]
    widths, names = ([width_of(heading) for heading in headings] for _ in range(2))
    for cells in rows():
        widths = list(map(max, widths, map(width_of, cells)))
        names = list(map(max, names, map(_width_of_name, cells)))
    if available := terminal_width(sys.stdout):
        widths = fitted(columns, widths, available, names)

    def line(cells: Sequence[str]) -> str:
        placed = zip(cells, widths, columns, strict=True)
        return GAP.join(_placed(cell, width, column) for cell, width, column in placed).rstrip()

    write(dim(line(headings), sys.stdout))
    for cells in rows():
        write(line(cells))


def fitted(columns: Sequence[str], widths: Sequence[int], available: int, names: Sequence[int] = ()) -> list[int]:
    """Take what is too much from the widest columns; `names` is what the last parts of path-like cells take.

    The first one says what a row is of: only what is too much for it alone is taken from it.
    """
    taken = list(widths)
    if columns[0][0] != "/":
        taken[0] = min(taken[0], available)
    for least in _floors(columns, widths, names):
        while sum(taken) + len(GAP) * (len(taken) - 1) > available:
            spare = [index for index, floor in enumerate(least) if taken[index] > floor]
            if not spare:
                break
            taken[max(spare, key=taken.__getitem__)] -= 1
    return taken


def _floors(columns: Sequence[str], widths: Sequence[int], names: Sequence[int]) -> Iterator[list[int]]:
    """Answer below what no column is taken: at first with some comfort, then names alone, then what must be."""
    comfort = [max(_COMFORT, width_of(column)) for column in columns]
    for texts, places in ((comfort, widths), (comfort, names), ([_LEAST] * len(columns), names)):
        yield [
            places[index] if column[0] == "/" else widths[index] if index == 0 or column[0] in ">!" else texts[index]
            for index, column in enumerate(columns)
        ]


def _width_of_name(cell: str) -> int:
    """Count what the last part of a path-like name takes, with the ellipsis for what stood before it."""
    before, slash, name = cell.rpartition("/")
    return width_of(name) + (len(ELLIPSIS + slash) if before else 0)


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
    keeps_end = "/" in text and not {" ", ":"} & {*text}  # a fingerprint in base64 has slashes, and a colon
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
