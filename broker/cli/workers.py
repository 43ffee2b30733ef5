"""Several processes that do the same work, and a parent that looks after them: no loop and no thread in it.

Every process is a fork of the parent, which has done no more than read its settings and take its address. A worker that
dies is replaced; one that dies before it ever worked shows a mistake that all share, and ends them all.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from broker.cli.output import talk

_STOP = {signal.SIGTERM, signal.SIGINT}
_SIGNALS = {*_STOP, signal.SIGHUP, signal.SIGCHLD}
_LONGEST_WAIT = 30.0
_STEADY = 60.0
"""Whoever has worked for so many seconds has not failed at the start."""
_LOOK = 0.1


@dataclass(frozen=True, slots=True)
class Worker:
    """What a worker knows of its parent: `alive` can be read when the parent is gone, `ready` is told when it works."""

    alive: int
    ready: int

    def works(self) -> None:
        """Tell the parent that all is up."""
        os.write(self.ready, b"!")


class Workers:
    """A parent of `count` processes. `name` is what it says that they serve on."""

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._name = name
        self._alive, self._held = os.pipe()
        self._heard, self._ready = os.pipe()
        os.set_blocking(self._heard, False)
        self._began: dict[int, float] = {}
        self._due: list[float] = [0.0] * count
        self._failures = 0
        self._working = 0
        self._stopping = False
        self._code = 0

    def run(self) -> Worker | int:
        """Look after the workers until all are gone, and answer the exit code; answers a `Worker` in each of them."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        while self._began or not self._stopping:
            if self._fork_those_due():
                os.close(self._held)
                os.close(self._heard)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
                return Worker(self._alive, self._ready)
            received = signal.sigtimedwait(_SIGNALS, _LOOK)
            self._take(signal.Signals(received.si_signo) if received else None)
            self._hear()
            self._reap()
        return self._code

    def _fork_those_due(self) -> bool:
        """Fork every worker whose time has come; True in a fork."""
        now = monotonic()
        for due in [due for due in self._due if due <= now and not self._stopping]:
            self._due.remove(due)
            pid = os.fork()
            if not pid:
                return True
            self._began[pid] = now
        return False

    def _take(self, received: signal.Signals | None) -> None:
        if received in _STOP:
            self._stop()
        elif received == signal.SIGHUP:
            self._send(signal.SIGHUP)

    def _stop(self) -> None:
        self._stopping = True
        self._send(signal.SIGTERM)

    def _send(self, number: signal.Signals) -> None:
        for pid in self._began:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _hear(self) -> None:
        """Count who works by now, and say once that all do."""
        with suppress(BlockingIOError):
            before = self._working
            self._working += len(os.read(self._heard, 64))
            if before < self._count <= self._working:
                talk(f"serving on {self._name} by {self._count} processes")

    def _reap(self) -> None:
        for pid in list(self._began):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._ended(os.waitstatus_to_exitcode(status), monotonic() - self._began.pop(pid))

    def _ended(self, code: int, lived: float) -> None:
        if self._stopping:
            self._code = self._code or abs(code)
        elif not self._working:
            self._code = abs(code) or 1
            self._stop()
        else:
            self._failures = 1 if lived > _STEADY else self._failures + 1
            wait = min(_LONGEST_WAIT, 2.0 ** (self._failures - 1) / 2)
            talk(f"a worker ended by itself ({code}); another one begins in {wait:g} s")
            self._due.append(monotonic() + wait)
