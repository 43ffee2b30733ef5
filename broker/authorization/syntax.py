"""Cut policy text into policies and measure how deep they nest, before any parser sees it (pure).

The Cedar parser overflows the stack of the process on deep nesting, so depth is bounded here first.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DEPTH = 64
MAX_POLICY_BYTES = 64 * 1024

# A carriage return ends a comment for Cedar too: what hides behind it is policy, not comment.
TOKEN = re.compile(
    r"""
    (?P<blank>\s+|//[^\r\n]*)
  | (?P<text>"(?:[^"\\]|\\.)*")
  | (?P<end>;)
  | (?P<open>[(\[{])
  | (?P<close>[)\]}])
  | (?P<prefix>[!-])
  | (?P<unclosed>")
  | (?P<other>\w+|.)
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Piece:
    """One policy's text, from its first token to its `;`, and where it stands. `fault` is why not to parse it."""

    text: str
    offset: int
    fault: str = ""


class Places:
    """Line and column, both from 1, of any offset in a text."""

    def __init__(self, text: str) -> None:
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def __call__(self, offset: int) -> tuple[int, int]:
        """Answer the line and column of `offset`."""
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1


def pieces(text: str) -> Iterator[Piece]:
    """Cut `text` at every `;` that is outside strings and comments; Cedar has it nowhere else."""
    start: int | None = None
    depth = _Depth()
    for match in TOKEN.finditer(text):
        kind = match.lastgroup or ""
        if kind == "blank":
            continue
        if start is None:
            start, depth = match.start(), _Depth()
        depth.see(kind)
        if kind == "end":
            yield _piece(text[start : match.end()], start, depth.fault)
            start = None
    if start is not None:
        yield _piece(text[start:].rstrip(), start, depth.fault)


def _piece(text: str, offset: int, fault: str) -> Piece:
    if len(text.encode()) > MAX_POLICY_BYTES:
        fault = f"the policy is longer than {MAX_POLICY_BYTES // 1024} KiB"
    return Piece(text, offset, fault)


class _Depth:
    """Counts open brackets and, on top of them, a run of `!` and `-`, which nests as well."""

    __slots__ = ("_brackets", "_run", "fault")

    def __init__(self) -> None:
        self._brackets = self._run = 0
        self.fault = ""

    def see(self, kind: str) -> None:
        self._run = self._run + 1 if kind == "prefix" else 0
        self._brackets += (kind == "open") - (kind == "close")
        if kind == "unclosed":
            self.fault = "a string is not closed"
        elif self._brackets + self._run > MAX_DEPTH:
            self.fault = f"the policy nests deeper than {MAX_DEPTH} levels"


def tokens(text: str) -> list[re.Match[str]]:
    """Answer the tokens of `text`, blanks and comments left out."""
    return [match for match in TOKEN.finditer(text) if match.lastgroup != "blank"]
