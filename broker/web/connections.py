"""Connections: how many there may be, how long each may take, and what aiohttp says by itself, in our words."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, cast
from uuid import uuid4

import structlog
from aiohttp import web
from aiohttp.http_parser import HttpRequestParser

from broker.errors import InvalidRequest
from broker.web.parsing import Network, address_of
from broker.web.problems import CONTENT_TYPE, problem
from broker.web.rates import network_of

TAKE_SECONDS: Final = 30.0
"""How long a client may take to read an answer; each part of a long one."""
SHORT: Final = 32 * 1024
"""Bytes of an answer that fit into the buffers of a connection, so that nobody has to wait until they are taken."""
HANDSHAKE_SECONDS: Final = 10.0
RESERVED: Final = 512
"""So many file descriptors are no connections of callers: AWS alone may take 256."""
PARSER: Final = HttpRequestParser.__module__
"""Which of aiohttp's parsers reads what comes in: the one in C, or its replacement in Python."""
_MILLISECONDS: Final = 1000
_log = structlog.get_logger("broker.web")


@dataclass(slots=True)
class Room:
    """How many connections are open at once, in all and of one peer.

    Peers that are proxies of ours stand for many people, so only the whole counts for them.
    """

    total: int = 4096
    per_peer: int = 256
    proxies: Sequence[Network] = ()
    _open: Counter[str] = field(default_factory=Counter)
    _taken: int = 0

    def enter(self, peer: str) -> bool:
        """Take a place; False when there is none."""
        key = network_of(peer)
        if self._taken >= self.total or (self._open[key] >= self.per_peer and not self._is_proxy(peer)):
            return False
        self._open[key] += 1
        self._taken += 1
        return True

    def leave(self, peer: str) -> None:
        """Give the place back."""
        key = network_of(peer)
        self._open[key] -= 1
        self._taken -= 1
        if not self._open[key]:
            del self._open[key]

    def _is_proxy(self, peer: str) -> bool:
        address = address_of(peer)
        return address is not None and any(address in network for network in self.proxies)


class Accepted(socket.socket):
    """A connection that has a place, from the first packet on; its TLS handshake is part of its stay."""

    room: Room
    peer = ""

    def close(self) -> None:
        """Close, and give the place back."""
        super().close()
        if self.peer:
            self.room.leave(self.peer)
            self.peer = ""


class Listening(socket.socket):
    """A socket that accepts as many connections as there is room for, and closes the others at once."""

    room: Room

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept one connection.

        Raises:
            ConnectionAbortedError: there was no room for it.
        """
        descriptor, address = self._accept()  # type: ignore[attr-defined] # as `socket.socket` itself does
        connection = Accepted(fileno=descriptor)
        if not self.room.enter(address[0]):
            connection.close()
            raise ConnectionAbortedError
        connection.room, connection.peer = self.room, address[0]
        return connection, address


def fitting(wanted: int) -> int:
    """Answer how many of so many connections the process has file descriptors for, which are raised as far as it may.

    The rest of them is kept for AWS, the log and keys: at least half, where there are few.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted + RESERVED:
        soft = wanted + RESERVED if hard == resource.RLIM_INFINITY else min(hard, wanted + RESERVED)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    possible = min(wanted, max(soft - RESERVED, soft // 2))
    if possible < wanted:
        _log.warning("fewer connections than limits.connections: RLIMIT_NOFILE is too low", connections=possible)
    return possible


class Connection(web.RequestHandler):
    """aiohttp's connection, with an end for slow readers, and our words for what is no HTTP."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        if (sock := transport.get_extra_info("socket")) is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            # Of a peer that is gone, or that reads nothing, the kernel lets go by itself.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(TAKE_SECONDS * _MILLISECONDS))
        super().connection_made(transport)

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
            if transport is not None and not transport.get_write_buffer_size() and _is_short(sent):
                return await super().finish_response(request, sent, start_time)  # it waits for nothing
            async with asyncio.timeout(TAKE_SECONDS):
                return await super().finish_response(request, sent, start_time)
        except TimeoutError:
            _abort(transport)
            return sent, True
        finally:
            if transport is not None and transport.get_write_buffer_size():
                asyncio.get_running_loop().call_later(TAKE_SECONDS, _abort_unless_sent, transport)


def _is_short(response: web.StreamResponse) -> bool:
    return isinstance(response, web.Response) and isinstance(response.body, bytes) and len(response.body) <= SHORT


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

    async def _make_server(self) -> web.Server:
        # aiohttp has no setting for the class of its connections; everything else of the server stays as it made it.
        server = await super()._make_server()
        server.__class__ = _Connections
        return server


class _Connections(web.Server):
    """Makes the connections, as aiohttp itself does."""

    def __call__(self) -> web.RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)


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
