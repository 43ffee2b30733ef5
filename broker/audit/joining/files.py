"""Reading records that others wrote: files, gzip or not, and stdin. Hostile input: every step is bounded."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO, Final, cast

STDIN: Final = "-"
MAX_LINE: Final = 64 * 1024
"""Of a log, in bytes; what follows in a longer line is left out."""
_GZIP: Final = b"\x1f\x8b"


class Unreadable(Exception):
    """A file that is there, but not what it should be; the message says which and why."""


@contextmanager
def opened(name: str) -> Iterator[BinaryIO]:
    """Open a file, or stdin for `-`, and unpack it when it is gzip.

    Raises:
        OSError: when it cannot be opened or read.
        Unreadable: when the gzip is damaged or cut.
    """
    try:
        with nullcontext(sys.stdin.buffer) if name == STDIN else Path(name).open("rb") as file:
            buffered = file if isinstance(file, io.BufferedReader) else io.BufferedReader(cast("io.RawIOBase", file))
            packed = buffered.peek(len(_GZIP))[: len(_GZIP)] == _GZIP
            yield cast("BinaryIO", gzip.GzipFile(fileobj=buffered)) if packed else buffered
    except (gzip.BadGzipFile, EOFError, zlib.error) as damage:
        raise Unreadable(f"{name}: damaged gzip: {damage}") from damage


def lines(file: BinaryIO, limit: int = MAX_LINE) -> Iterator[bytes]:
    """Answer the lines of a file without their ends; of one longer than `limit` only the beginning."""
    while line := file.readline(limit):
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = file.readline(limit)
        yield line.rstrip(b"\r\n")
