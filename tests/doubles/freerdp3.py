"""FreeRDP 3's command line, as strict as its documentation: a program that reads its arguments and notes them.

Derived from the help of FreeRDP 3 (`/args-from:<file>|stdin|fd:<number>|env:<name>`: "This argument can not be
combined with any other. Provide one argument per line.") and from its manual page, sdl-freerdp3(1), for the options
below. What is not in the table is an error, as for the real one. It connects to nothing.

    FREERDP3_NOTES   the file that gets what was read, the password as SHA-256
    FREERDP3_HOLD    a file; while it is there the program goes on, as one with a window does
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import time
from pathlib import Path

USAGE = 131
VALUES = {
    "v": r"(\[[0-9a-f:]+\]|[^:\[\]]+)(:\d{1,5})?",
    "u": r".+",
    "d": r".+",
    "p": r".+",
    "sec": r"nla|tls|rdp|ext|aad",
}
VALUES |= {"cert": r"(deny|ignore|tofu|name:[^,]+|fingerprint:[a-z0-9]+:[0-9A-Fa-f:]+)(,.+)?", "drive": r"[^,]+,.+"}
VALUES |= {"port": r"\d{1,5}", "w": r"\d+", "h": r"\d+", "t": r".+"}
FLAGS = {"f", "admin"}
TOGGLES = {"clipboard", "auth-only", "fonts"}


class Usage(Exception):
    """The real one would print its help and end."""


def parse(arguments: list[str]) -> dict[str, object]:
    """Read arguments in the `/name:value` syntax. Raises Usage."""
    found: dict[str, object] = {}
    for argument in arguments:
        match = re.fullmatch(r"([/+-])([a-z][a-z0-9-]*)(?::(.*))?", argument)
        if match is None:
            raise Usage(f"not an argument: {argument!r}")
        sigil, name, value = match.groups()
        if name in TOGGLES and value is None and sigil in "+-":
            found[name] = sigil == "+"
        elif name in FLAGS and value is None and sigil == "/":
            found[name] = True
        elif name in VALUES and sigil == "/" and value is not None and re.fullmatch(VALUES[name], value):
            found[name] = certificates(value) if name == "cert" else value
        else:
            raise Usage(f"unknown or without its value: {argument!r}")
    return found


def certificates(value: str) -> list[str]:
    """Read `/cert:`'s list."""
    parts = value.split(",")
    if not all(re.fullmatch(VALUES["cert"], part) for part in parts):
        raise Usage("cert")
    return parts


def given(words: list[str]) -> list[str]:
    """Find the arguments: on the command line, or by a descriptor, and then there alone."""
    sources = [word for word in words if word.startswith("/args-from")]
    if not sources:
        return words
    match = re.fullmatch(r"/args-from:fd:(\d+)", sources[0])
    if len(words) != 1 or match is None:
        raise Usage("/args-from can not be combined with any other")
    with os.fdopen(int(match[1]), encoding="utf-8", newline="\n") as lines:
        return [line.rstrip("\r\n") for line in lines]


def main(words: list[str]) -> int:
    """Read, note, and go on for as long as told to."""
    if words == ["--version"]:
        sys.stdout.write("This is FreeRDP version 3.16.0 (3.16.0)\n")
        return 0
    try:
        found = parse(given(words))
    except Usage as error:
        sys.stderr.write(f"{error}\n")
        return USAGE
    found["p"] = hashlib.sha256(str(found.get("p", "")).encode()).hexdigest()
    found["argv"] = words
    notes = Path(os.environ["FREERDP3_NOTES"])
    notes.with_suffix(".new").write_text(json.dumps(found))
    notes.with_suffix(".new").rename(notes)
    while (hold := os.environ.get("FREERDP3_HOLD")) and Path(hold).exists():
        time.sleep(0.02)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
