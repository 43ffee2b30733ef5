"""Finding checkpoints in what an anchor holds: notes one after the other, or lines of a syslog. Pure, believes nothing.

A note is `origin`, size, root and nothing else, an empty line, and signature lines that begin with a dash (C2SP
signed-note); between two notes in a file stands an empty line. A line of a syslog holds
`lightsail-broker checkpoint <base64 of the note>`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator

MARK = "lightsail-broker checkpoint "
_IN_A_LINE = re.compile(rf"{MARK}([A-Za-z0-9+/]+=*)", re.ASCII)
_NOTE = re.compile("^[^\n]+\n[0-9]+\n[A-Za-z0-9+/=]+\n\n(?:\u2014 [^\n]+\n)+", re.MULTILINE)


def line_of(note: str) -> str:
    """Write a note as one line."""
    return MARK + base64.b64encode(note.encode()).decode()


def notes_in(text: str) -> Iterator[str]:
    """Answer every note in a text, those in lines first; what is no note, such as one that was cut, is passed over.

    Both are looked for always, so that nobody who can add the one hides the other.
    """
    for match in _IN_A_LINE.finditer(text):
        try:
            yield from _NOTE.findall(base64.b64decode(match[1], validate=True).decode())
        except (binascii.Error, UnicodeDecodeError):
            continue
    yield from _NOTE.findall(text)
