"""Listening: a bound socket, and the application behind it."""

from __future__ import annotations

import socket
import ssl

from aiohttp import web

from broker.web.connections import Listening, Room, Runner, Site

HEADER_SECONDS = 10
"""aiohttp cuts the header phase, of the first request too, at its keep-alive time."""
DRAIN_SECONDS = 25
BACKLOG = 128
MAX_HEADER = 9 * 1024
"""Bytes of one header: a token of 8 KiB, which is the most that `identity` looks at, and its scheme."""


def bind(host: str, port: int) -> Listening:
    """Take an address, without listening on it yet; port 0 lets the system choose.

    Raises:
        OSError: it is taken, or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = Listening(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as problem:
        bound.close()
        raise OSError(problem.errno, problem.strerror, f"{host}:{port}") from None
    return bound


class Listener:
    """One bound socket and the application behind it."""

    def __init__(
        self,
        application: web.Application,
        bound: Listening,
        tls: ssl.SSLContext | None,
        room: Room | None = None,
    ) -> None:
        self._runner = Runner(
            application,
            access_log=None,
            keepalive_timeout=HEADER_SECONDS,
            shutdown_timeout=DRAIN_SECONDS,
            handle_signals=False,
            auto_decompress=False,  # such a body is refused, not unpacked
            max_field_size=MAX_HEADER,
        )
        self._bound, self._tls = bound, tls
        bound.room = room or Room()
        self.application = application

    async def start(self) -> str:
        """Listen, and answer the URL."""
        await self._runner.setup()
        await Site(self._runner, self._bound, ssl_context=self._tls, backlog=BACKLOG).start()
        host, port = self._bound.getsockname()[:2]
        return f"{'https' if self._tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"

    async def stop(self) -> None:
        """Stop accepting, let running requests end, close."""
        await self._runner.cleanup()
