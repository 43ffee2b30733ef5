"""Data on stdout, talk on stderr, and nothing on a terminal that could play tricks with it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sized

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import TextIO, TypeVar

    Item = TypeVar("Item", bound=Mapping[str, object])

_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"
_GAP = "  "


def plain(text: object) -> str:
    """Leave out control, format and bidirectional characters: foreign text cannot move a terminal's cursor."""
    return "".join(filter(str.isprintable, str(text)))


def talk(sentence: str) -> None:
    """Say something to the person, on stderr."""
    sys.stderr.write(f"broker: {plain(sentence)}\n")


def write(line: str) -> None:
    """Put a line of data on stdout."""
    sys.stdout.write(line + "\n")


def coloured(stream: TextIO) -> bool:
    """Tell whether a stream is a terminal on which colours are welcome (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def bold(text: str, stream: TextIO) -> str:
    """Make a heading stand out where colours are welcome."""
    return f"{_BOLD}{text}{_PLAIN}" if coloured(stream) else text


def dim(text: str, stream: TextIO) -> str:
    """Let a remark step back where colours are welcome."""
    return f"{_DIM}{text}{_PLAIN}" if coloured(stream) else text


def add_format(parser: ArgumentParser, *choices: str) -> None:
    """Add `--format` with the given choices, of which the first is the default."""
    parser.add_argument("--format", choices=choices, default=choices[0], help=f"default: {choices[0]}")


def show(
    items: Iterable[Item], form: str, columns: Sequence[str], row: Callable[[Item], Sequence[object]], none: str
) -> None:
    """Print a listing as a table, or its items as they are in JSON or YAML. Only one item is held at a time.

    Args:
        items: what to list; what has a length can be gone through twice, other iterables are kept.
        form: `table`, `json` or `yaml`.
        columns: the headings; one that begins with `>` is of numbers and goes to the right.
        row: an item's cells.
        none: what to say, on stderr, when a table would be empty.
    """
    listed = items if isinstance(items, Sized) else list(items)
    if form == "json":
        _print_list(listed)
    elif form == "yaml":
        _print_yaml(listed)
    elif len(listed):
        _print_table(columns, lambda: ([plain(cell) for cell in row(item)] for item in listed))
    else:
        talk(none)


def print_json(document: object) -> None:
    """Print indented JSON in ASCII: the same on every terminal and in every locale."""
    write(json.dumps(document, indent=2))


def _print_list(items: Iterable[object]) -> None:
    """Print the same as `print_json` of a list."""
    before = "["
    for item in items:
        sys.stdout.write(f"{before}\n  " + json.dumps(item, indent=2).replace("\n", "\n  "))
        before = ","
    write("[]" if before == "[" else "\n]")


def _print_yaml(items: Iterable[object]) -> None:
    import yaml

    empty = True
    for item in items:
        sys.stdout.write(yaml.safe_dump([item], sort_keys=False))
        empty = False
    if empty:
        write("[]")


def _print_table(columns: Sequence[str], rows: Callable[[], Iterable[Sequence[str]]]) -> None:
    headings = [column.lstrip(">") for column in columns]
    widths = [len(heading) for heading in headings]
    for cells in rows():
        widths = list(map(max, widths, map(len, cells)))

    def line(cells: Sequence[str]) -> str:
        placed = zip(cells, widths, columns, strict=True)
        return _GAP.join(f"{cell:{'>' if column[0] == '>' else '<'}{width}}" for cell, width, column in placed).rstrip()

    heading = line(headings)
    write(dim(heading, sys.stdout))
    for cells in rows():
        write(line(cells))
