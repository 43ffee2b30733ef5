"""Lay policies out in one way, in a process of its own: `python -I -m broker.authorization.formatting`.

Cedar's formatter lays out one policy at a time, which is linear where a whole file would be quadratic; what stands
between policies, comments above all, is kept here. The parser can take a process with it, hence a child: it reads
`{name: text}` on stdin and writes a JSON line per file, with `text` or with `line`, `column` and `message`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from cedarpy import format_policies, policies_to_json_str

from broker.authorization.rules import PolicyProblem
from broker.authorization.syntax import TOKEN, Piece, Places, pieces

if TYPE_CHECKING:
    from collections.abc import Mapping

WIDTH = 100
INDENT = 2
SECONDS = 180

_CHILD = [sys.executable, "-I", "-B", "-m", "broker.authorization.formatting"]


class Unformattable(Exception):
    """A policy that has no form; `offset` is where in its file."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset


def formatted(texts: Mapping[str, str]) -> tuple[dict[str, str], list[PolicyProblem]]:
    """Answer the form of each text by its name, and why some have none. A child does it; blocks."""
    try:
        child = subprocess.run(  # noqa: S603 - our own interpreter and module, no shell, no argument from outside
            _CHILD,
            input=json.dumps(dict(texts)).encode(),
            capture_output=True,
            timeout=SECONDS,
            check=False,
            env={},
            cwd="/",
        )
    except subprocess.TimeoutExpired:
        return {}, [PolicyProblem("*.cedar", 0, 0, f"formatting took longer than {SECONDS} s")]
    answers = [json.loads(line) for line in child.stdout.splitlines()]
    done = {each["file"]: each["text"] for each in answers if "text" in each}
    problems = [
        PolicyProblem(each["file"], each["line"], each["column"], each["message"])
        for each in answers
        if "message" in each
    ]
    silent = texts.keys() - {each["file"] for each in answers}
    problems += [
        PolicyProblem(name, 1, 1, "the Cedar parser did not survive a file; `broker policy check` says where")
        for name in sorted(silent)
    ]
    return done, problems


def main() -> None:
    """Format what stdin brings."""
    for name, text in json.load(sys.stdin).items():
        print(json.dumps({"file": name, **_answer(text)}), flush=True)  # noqa: T201 - stdout is how this process answers


def _answer(text: str) -> dict[str, Any]:
    try:
        return {"text": format_text(text)}
    except Unformattable as fault:
        line, column = Places(text)(fault.offset)
        return {"line": line, "column": column, "message": fault.message}


def format_text(text: str) -> str:
    """Answer the one form of a file of policies.

    Raises:
        Unformattable: it does not parse, or would not mean the same.
    """
    parts, end, first = [], 0, True
    for piece in pieces(text):
        parts.append(_between(text[end : piece.offset], first=first))
        parts.append(_laid_out(piece))
        end, first = piece.offset + len(piece.text), False
    parts.append(_between(text[end:], first=first))
    return "".join(parts).rstrip("\n") + "\n"


def _between(gap: str, *, first: bool) -> str:
    """Keep the comments between two policies; blank lines become one, and one parts a policy from what is before."""
    lines = [line.strip() for line in gap.splitlines()]
    tail = f" {lines[0]}" if lines and lines[0] and not first else ""  # a remark behind the `;`
    kept: list[str] = []
    for line in lines[1:] if not first else lines:
        if line or (kept and kept[-1]):
            kept.append(line)
    body = "\n".join(kept).strip("\n")
    apart = "\n" if kept and not kept[-1] and body else ""  # a comment that is of the file, not of the policy below
    start = "" if first else f"{tail}\n\n"
    return f"{start}{body}\n{apart}" if body else start


def _laid_out(piece: Piece) -> str:
    """Have Cedar lay out one policy; where it would lose a comment or settle in no form, the policy stays as it is."""
    if piece.fault:
        raise Unformattable(piece.fault, piece.offset)
    try:
        once = format_policies(piece.text, WIDTH, INDENT).strip()
        if once == piece.text:
            return once
        again = format_policies(once, WIDTH, INDENT).strip()
        same = json.loads(policies_to_json_str(piece.text)) == json.loads(policies_to_json_str(once))
    except ValueError as error:
        raise Unformattable(f"{error}; `broker policy check` says more", piece.offset) from error
    if not same:
        raise Unformattable("the policy would not mean the same; it stays as it is", piece.offset)
    return once if again == once and _comments(once) == _comments(piece.text) else piece.text


def _comments(text: str) -> list[str]:
    return [token[0].strip() for token in TOKEN.finditer(text) if token[0].startswith("//")]


if __name__ == "__main__":
    main()
