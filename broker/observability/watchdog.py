"""Whether the event loop turns: how late it is, a line with the place when it stands still, and a sign to systemd."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Final

import structlog

from broker.model import Health, Measure

BEAT: Final = 0.1
BLOCKED: Final = 2.0
"""Seconds without a turn after which the loop counts as blocked."""
_CONVALESCENCE: Final = 10.0
"""For so many seconds after that the component is not ready: what waited meanwhile comes all at once."""
_FRAMES: Final = 12
_log = structlog.get_logger("broker.service")


class Watchdog:
    """Watches the event loop from a thread of its own, and the thread from the loop's side."""

    def __init__(self, environment: Mapping[str, str] | None = None, blocked: float = BLOCKED) -> None:
        self._tell = Systemd(os.environ if environment is None else environment)
        self._blocked = blocked
        self._beat = monotonic()
        self._lag = 0.0
        self._blocked_at = float("-inf")
        self._stop = threading.Event()
        self._leaving = False
        self._told: list[Callable[[float], object]] = []

    def tell(self, whom: Callable[[float], object]) -> None:
        """Tell somebody at every beat by how many seconds it was late."""
        self._told.append(whom)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[Watchdog]:
        """Watch the running loop until the context ends."""
        thread = threading.Thread(target=self._watch, args=(threading.get_ident(),), name="watchdog", daemon=True)
        beating = asyncio.create_task(self._beat_on())
        thread.start()
        try:
            yield self
        finally:
            beating.cancel()
            self._stop.set()
            await asyncio.to_thread(thread.join)

    def ready(self) -> None:
        """Tell systemd that all is up."""
        self._tell("READY=1")

    def leave(self) -> None:
        """The service is about to stop: not ready from now on, so that nobody sends it more."""
        self._leaving = True
        self._tell("STOPPING=1")

    def health(self) -> Health:
        """Tell whether the process serves as it should."""
        if self._leaving:
            return Health("process", ready=False, detail="The service is stopping.")
        if monotonic() - self._blocked_at < _CONVALESCENCE:
            return Health("process", ready=False, detail="The event loop stood still a moment ago.")
        return Health("process", ready=True)

    def measures(self) -> Iterator[Measure]:
        """Answer the longest stop since this was asked last."""
        lag, self._lag = self._lag, 0.0
        yield Measure("event_loop_lag_seconds", lag)

    async def _beat_on(self) -> None:
        last_sign = monotonic()
        while True:
            await asyncio.sleep(BEAT)
            now = monotonic()
            late = now - self._beat - BEAT
            self._lag = max(self._lag, late)
            self._beat = now
            for tell in self._told:
                tell(late)
            if now - last_sign > self._tell.watchdog_seconds / 3:
                last_sign = now
                self._tell("WATCHDOG=1")

    def _watch(self, loop_thread: int) -> None:
        is_blocked = False
        while not self._stop.wait(self._blocked / 4):
            late = monotonic() - self._beat
            if late < self._blocked:
                is_blocked = False
                continue
            self._blocked_at = monotonic()
            if not is_blocked:  # one line for each time
                is_blocked = True
                _log.error("the event loop stands still", seconds=round(late, 1), frames=_where(loop_thread))


def _where(thread: int) -> list[str]:
    """Answer the places where a thread is, without any value."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001 -- the way that the documentation names for this
    return [f"{each.filename.rpartition('/')[2]}:{each.lineno} {each.name}" for each in traceback.extract_stack(frame)][
        -_FRAMES:
    ]


class Systemd:
    """Tells the service manager (sd_notify(3)); says nothing where there is none."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        microseconds = environment.get("WATCHDOG_USEC", "")
        self.watchdog_seconds = int(microseconds) / 1_000_000 if microseconds.isdigit() else float("inf")

    def __call__(self, state: str) -> None:
        """Send one line, such as `READY=1`."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(address)
            sender.sendall(state.encode())
