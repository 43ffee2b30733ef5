"""Where log lines go: a stream that holds nobody up and takes no service down."""

from __future__ import annotations

import atexit
import os
import select
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Lock, Thread
from typing import BinaryIO, Final

_MOST_WAITING: Final = 1 << 20
"""Bytes of lines that wait for a reader who does not read."""
_LAST_WORDS_SECONDS: Final = 1.0


class Sink:
    """Writes at once while the other side takes it. When a pipe is full, lines wait for a thread, up to 1 MiB.

    Beyond that they are lost, as is what cannot be written, on a full disk or a closed pipe; that is counted.

    Args:
        stream: where to; without a file descriptor, as in tests, it is written to directly.
        gap: makes the line that says how many were lost, once there is a way for it.
    """

    def __init__(self, stream: BinaryIO, gap: Callable[[int], bytes]) -> None:
        self._stream = stream
        self._gap = gap
        self._descriptor = _descriptor(stream)
        self._poll = select.poll()
        if self._descriptor is not None:
            self._poll.register(self._descriptor, select.POLLOUT)
        self._lock = Lock()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._writer: Thread | None = None
        self._untold = 0
        self.lost = 0

    def write(self, line: bytes) -> int:
        """Write a line, or leave it to the thread."""
        if self._descriptor is None:
            with suppress(OSError, ValueError):
                self._stream.write(line)
            return len(line)
        with self._lock:
            if self._writer is None and len(line) <= select.PIPE_BUF and self._poll.poll(0):
                self._write(self._descriptor, line)
            else:
                self._leave(self._descriptor, line)
        return len(line)

    def flush(self) -> None:
        """Nothing is kept back."""

    def _write(self, descriptor: int, line: bytes) -> None:
        """Write all of a line, for as long as that takes."""
        try:
            while line:
                line = line[os.write(descriptor, line) :]
        except OSError:
            self._lose()

    def _lose(self) -> None:
        self.lost += 1
        self._untold += 1

    def _leave(self, descriptor: int, line: bytes) -> None:
        if self._waiting_bytes + len(line) > _MOST_WAITING:
            self._lose()
            return
        self._waiting.append(line)
        self._waiting_bytes += len(line)
        if self._writer is None:
            self._writer = Thread(target=self._drain, args=(descriptor,), name="log", daemon=True)
            self._writer.start()
            atexit.unregister(self._last_words)
            atexit.register(self._last_words)

    def _drain(self, descriptor: int) -> None:
        while line := self._next():
            self._write(descriptor, line)

    def _next(self) -> bytes:
        """Answer what to write next; nothing ends the thread."""
        with self._lock:
            if self._waiting:
                line = self._waiting.popleft()
                self._waiting_bytes -= len(line)
                return line
            if self._untold:
                untold, self._untold = self._untold, 0
                return self._gap(untold)
            self._writer = None
            return b""

    def _last_words(self) -> None:
        """Give the thread a moment at the end of the process."""
        if (writer := self._writer) is not None:
            writer.join(_LAST_WORDS_SECONDS)


def _descriptor(stream: BinaryIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return None
