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
    from typing import Self, TextIO, TypeVar

    Item = TypeVar("Item", bound=Mapping[str, object])

_BOLD, _DIM, _RED, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[0m"


def plain(text: object) -> str:
    """Leave out control, format and bidirectional characters: foreign text cannot move a terminal's cursor."""
    return "".join(filter(str.isprintable, str(text)))


def talk(sentence: str) -> None:
    """Say something to the person, on stderr."""
    sys.stderr.write(f"broker: {plain(sentence)}\n")


def complain(sentence: str) -> None:
    """Say on stderr what went wrong; on a terminal that likes colours the label is red."""
    sys.stderr.write(_folded(f"broker: {plain(sentence)}").replace("broker:", red("broker:", sys.stderr), 1) + "\n")


def advise(label: str, text: str) -> None:
    """Say more about what went wrong, beneath it, such as what to do now."""
    sys.stderr.write(_folded(f"broker:   {label}: {plain(text)}") + "\n")


def _folded(line: str) -> str:
    """Break a line between words where the terminal would break it anywhere; what is piped is one line."""
    columns = terminal_width(sys.stderr)
    if not columns or len(line) < columns:
        return line
    from textwrap import wrap

    indent = " " * len("broker:     ")
    return "\n".join(wrap(line, columns - 1, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False))


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


def red(text: str, stream: TextIO) -> str:
    """Mark an error where colours are welcome."""
    return f"{_RED}{text}{_PLAIN}" if coloured(stream) else text


def terminal_width(stream: TextIO) -> int:
    """Answer the columns of a terminal, of which `COLUMNS` knows best; 0 where there is none."""
    if not stream.isatty():
        return 0
    named = os.environ.get("COLUMNS", "")
    try:
        return int(named) if named.isdecimal() else os.get_terminal_size(stream.fileno()).columns
    except OSError:
        return 0


class Progress:
    """What is waited for: one line of a terminal, written anew every second; plain lines where there is none.

    As a context manager it leaves no trace on the terminal, however it ends. No escape sequence is used.

    Args:
        seconds: how long is waited at most, to say what is left of it.
        stream: where people read.
    """

    def __init__(self, seconds: float, stream: TextIO | None = None) -> None:
        from time import monotonic, sleep

        self._clock, self._sleep = monotonic, sleep
        self._stream = stream or sys.stderr
        self._ends = monotonic() + seconds
        self._sentence = ""
        self._shown = False
        self._columns = 0 if os.environ.get("TERM") == "dumb" else terminal_width(self._stream)

    def notice(self, sentence: str) -> None:
        """Say what is waited for."""
        if not self._columns:
            self._stream.write(f"broker: {plain(sentence)}\n")
            self._stream.flush()
            return
        self._sentence = plain(sentence)
        self._draw()

    def sleep(self, seconds: float) -> None:
        """Sleep, and count what is left."""
        until = self._clock() + seconds
        while (rest := until - self._clock()) > 0:
            self._sleep(min(rest, 1.0) if self._columns else rest)
            self._draw()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Wipe the line away."""
        self._replace("")

    def _draw(self) -> None:
        if self._sentence:
            left = max(0, round(self._ends - self._clock()))
            self._replace(f"broker: {self._sentence}", f", {left // 60}m{left % 60:02}s left")

    def _replace(self, text: str, end: str = "") -> None:
        """Write over what is there. The last columns stay free, for the `^C` that the terminal shows of a Ctrl-C."""
        if not self._columns or not (text or self._shown):
            return
        from broker.cli.tables import shortened, width_of

        line = shortened(text, max(1, self._columns - 3 - len(end))) + end if text else ""
        rest = " " * max(0, self._columns - 1 - width_of(line))
        self._shown = bool(line)  # before it is written: Ctrl-C may come at any moment
        self._stream.write(f"\r{line}{rest}\r{line}")
        self._stream.flush()


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
        columns: the headings; one that begins with `>` is of numbers and goes to the right, one that begins with
            `!` is never shortened to what fits on a terminal, of one that begins with `/` the instance's name stays.
        row: an item's cells.
        none: what to say, on stderr, when a table would be empty.
    """
    listed = items if isinstance(items, Sized) else list(items)
    if form == "json":
        _print_list(listed)
    elif form == "yaml":
        _print_yaml(listed)
    elif len(listed):
        from broker.cli.tables import print_table

        print_table(columns, lambda: ([plain(cell) for cell in row(item)] for item in listed))
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
