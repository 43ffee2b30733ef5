"""A command on a real terminal, to which somebody listens and types."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Mapping
from time import monotonic
from typing import Self

PATIENCE = 30.0


class Conversation:
    """`broker` with its stdin and stderr on a pseudo-terminal, and its stdout in a pipe."""

    def __init__(self, words: tuple[str, ...], environment: Mapping[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "broker", *words],
            env={**environment, "NO_COLOR": "1"},
            stdin=theirs,
            stderr=theirs,
            stdout=subprocess.PIPE,
            text=True,
        )
        os.close(theirs)
        self.heard = ""
        self._understood = 0

    def expect(self, pattern: str) -> re.Match[str]:
        """Wait until something new fits."""
        end = monotonic() + PATIENCE
        while not (found := re.compile(pattern).search(self.heard, self._understood)):
            assert monotonic() < end, self.heard
            if not self._listen(1.0):
                raise AssertionError(f"it ended: {self.heard}")
        self._understood = found.end()
        return found

    def say(self, line: str) -> None:
        """Type a line."""
        os.write(self._ours, f"{line}\n".encode())

    def hang_up(self) -> None:
        """Type the end of all input."""
        os.write(self._ours, b"\x04")

    def end(self) -> tuple[int, str]:
        """Wait for the end; answer the exit code, and stdout."""
        out, _ = self._process.communicate(timeout=PATIENCE)
        while self._listen(0.2):
            pass
        return self._process.returncode, out

    def _listen(self, seconds: float) -> bool:
        """Take in what is said; False when nobody can say anything any more."""
        if not select.select([self._ours], [], [], seconds)[0]:
            return self._process.poll() is None
        try:
            said = os.read(self._ours, 4096)
        except OSError:  # the other side of the terminal is closed
            return False
        self.heard += said.decode(errors="replace").replace("\r\n", "\n")
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        os.close(self._ours)
