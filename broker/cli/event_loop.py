"""The service's event loop: names are looked up beside everything else, and a DNS that hangs holds up nobody else."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

Addresses = list[tuple[Any, ...]]


class ServiceLoop(asyncio.SelectorEventLoop):
    """Looks each name up in a thread of its own, for which nothing waits at the end.

    The loop of the standard library shares a handful of threads among lookups and everything else that may block:
    twenty regions of which no name is answered keep changed policies and removed keys waiting, and a stop.
    Whoever connects looks the same name up once at a time, so there are as many threads as places to reach, at most.

    Args:
        look_up: the resolver.
    """

    def __init__(self, look_up: Callable[..., Addresses] = socket.getaddrinfo) -> None:
        super().__init__()
        self._look_up = look_up

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 - same
        proto: int = 0,
        flags: int = 0,
    ) -> Addresses:
        """Answer the addresses of a name."""
        found: asyncio.Future[Addresses] = self.create_future()
        looking = partial(self._look_up, host, port, family, type, proto, flags)
        threading.Thread(target=self._bring, args=(looking, found), name="lookup", daemon=True).start()
        return await found

    def _bring(self, looking: Callable[[], Addresses], found: asyncio.Future[Addresses]) -> None:
        try:
            deliver = partial(found.set_result, looking())
        except Exception as failure:  # noqa: BLE001 - whoever waits gets it, whatever it is
            deliver = partial(found.set_exception, failure)
        with suppress(RuntimeError):  # the loop is closed
            self.call_soon_threadsafe(_unless_nobody_waits, found, deliver)


def _unless_nobody_waits(found: asyncio.Future[Addresses], deliver: Callable[[], None]) -> None:
    if not found.done():
        deliver()
