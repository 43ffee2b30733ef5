"""Connections: how many there may be, how long each may take, and what aiohttp says by itself, in our words."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any, Final, cast
from uuid import uuid4

from aiohttp import web
from aiohttp.http_parser import HttpRequestParser

from broker.errors import InvalidRequest
from broker.web.parsing import Network
from broker.web.problems import CONTENT_TYPE, problem

TAKE_SECONDS: Final = 30.0
"""How long a client may take to read an answer; each part of a long one."""
HANDSHAKE_SECONDS: Final = 10.0
PARSER: Final = HttpRequestParser.__module__
"""Which of aiohttp's parsers reads what comes in: the one in C, or its replacement in Python."""
_MILLISECONDS: Final = 1000


@dataclass(slots=True)
class Room:
    """How many connections are open at once, in all and of one peer.

    Peers that are proxies of ours stand for many people, so only the whole counts for them.
    """

    total: int = 4096
    per_peer: int = 256
    proxies: Sequence[Network] = ()
    _open: Counter[str] = field(default_factory=Counter)

    def enter(self, peer: str) -> bool:
        """Take a place; False when there is none."""
        if self._open.total() >= self.total or (self._open[peer] >= self.per_peer and not self._is_proxy(peer)):
            return False
        self._open[peer] += 1
        return True

    def leave(self, peer: str) -> None:
        """Give the place back."""
        self._open[peer] -= 1
        if not self._open[peer]:
            del self._open[peer]

    def _is_proxy(self, peer: str) -> bool:
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        return any(address in network for network in self.proxies)


class Connection(web.RequestHandler):
    """aiohttp's connection, with a place of its own, an end for slow readers, and our words for what is no HTTP."""

    room: Room
    _peer = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place, or go away at once."""
        peer = str((transport.get_extra_info("peername") or ("",))[0])
        if not self.room.enter(peer):
            cast("asyncio.Transport", transport).abort()
            return
        self._peer = peer
        if (sock := transport.get_extra_info("socket")) is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            # Of a peer that is gone, or that reads nothing, the kernel lets go by itself.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(TAKE_SECONDS * _MILLISECONDS))
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give the place back."""
        if self._peer:
            self.room.leave(self._peer)
            self._peer = ""
            super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP, without aiohttp's name and without a word of it."""
        del exc, message
        if request.writer.output_size > 0:
            raise ConnectionError("something was sent already")
        return unreadable(status)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the answer, for so long and no longer."""
        # What aiohttp refuses by itself, such as an unknown expectation, before the application sees it.
        refused = isinstance(resp, web.HTTPException)
        sent = unreadable(resp.status) if refused else resp
        transport = request.transport
        try:
            async with asyncio.timeout(TAKE_SECONDS):
                return await super().finish_response(request, sent, start_time)
        except TimeoutError:
            _abort(transport)
            return sent, True
        finally:
            if transport is not None and transport.get_write_buffer_size():
                asyncio.get_running_loop().call_later(TAKE_SECONDS, _abort_unless_sent, transport)


def _abort(transport: asyncio.Transport | None) -> None:
    if transport is not None:
        transport.abort()


def _abort_unless_sent(transport: asyncio.Transport) -> None:
    if transport.get_write_buffer_size():
        transport.abort()


def unreadable(status: int) -> web.Response:
    """Answer what could not be read as HTTP, without repeating any of it."""
    request_id = uuid4().hex
    body = problem(InvalidRequest(), request_id, HTTPStatus(status)).model_dump_json(exclude_none=True)
    response = web.Response(status=status, text=body, content_type=CONTENT_TYPE)
    response.headers["X-Request-Id"] = request_id
    response.headers["Server"] = "broker"  # else it would be aiohttp's name and version
    response.force_close()
    return response


class Runner(web.AppRunner):
    """aiohttp's runner, for connections of ours."""

    def __init__(self, application: web.Application, room: Room, **options: Any) -> None:  # noqa: ANN401 - passed on
        super().__init__(application, **options)
        self._connection = type("RoomyConnection", (Connection,), {"room": room})

    async def _make_server(self) -> web.Server:
        # aiohttp has no setting for the class of its connections; everything else of the server stays as it made it.
        server = await super()._make_server()
        server.__class__ = type("Connections", (web.Server,), {"__call__": _made_by(self._connection)})
        return server


def _made_by(connection: type[Connection]) -> Callable[[web.Server], web.RequestHandler]:
    def make(server: web.Server) -> web.RequestHandler:
        return connection(server, loop=server._loop, **server._kwargs)  # noqa: SLF001 - as aiohttp itself does

    return make


class Site(web.SockSite):
    """A bound socket to listen on, whose handshakes have an end."""

    async def start(self) -> None:
        """Listen."""
        await web.BaseSite.start(self)
        server = self._runner.server
        patience = HANDSHAKE_SECONDS if self._ssl_context else None
        self._server = await asyncio.get_running_loop().create_server(
            cast("Callable[[], asyncio.Protocol]", server),
            sock=self._sock,
            ssl=self._ssl_context,
            backlog=self._backlog,
            ssl_handshake_timeout=patience,
            ssl_shutdown_timeout=patience,
        )
