"""Listening: sockets, TLS, and the deadlines that aiohttp leaves to us."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from uuid import uuid4

from aiohttp import web

from broker.errors import InvalidRequest
from broker.web.problems import CONTENT_TYPE, problem

HEADER_SECONDS = 10
"""aiohttp cuts the header phase, of the first request too, at its keep-alive time."""
DRAIN_SECONDS = 25
BACKLOG = 128
MAX_HEADER = 9 * 1024
"""Bytes of one header: a token of 8 KiB, which is the most that `identity` looks at, and its scheme."""


def tls_context(certificate: Path, private_key: Path, client_ca: Path | None = None) -> ssl.SSLContext:
    """Build the server's side of TLS: 1.2 or newer, forward secrecy only, client certificates asked for when known.

    Raises:
        OSError: a file is missing or does not hold what it should; names the files.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    with _naming(f"{certificate} and {private_key}"):
        context.load_cert_chain(certificate, private_key)
    if client_ca:
        with _naming(str(client_ca)):
            context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


@contextmanager
def _naming(files: str) -> Iterator[None]:
    """Say which files an error is about; OpenSSL does not."""
    try:
        yield
    except OSError as error:
        reason = getattr(error, "reason", "") or error.strerror or "not usable"
        raise OSError(error.errno, f"no TLS with this: {reason}", files) from error


class _Connection(web.RequestHandler):
    """aiohttp's connection, but for what it tells about requests that are no HTTP: neither them nor its own name."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        del exc, message
        if request.writer.output_size > 0:
            raise ConnectionError("something was sent already")
        return unreadable(status)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        # What aiohttp refuses by itself, such as an unknown expectation, before the application sees it.
        refused = isinstance(resp, web.HTTPException)
        return await super().finish_response(request, unreadable(resp.status) if refused else resp, start_time)


class _Connections(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Runner(web.AppRunner):
    async def _make_server(self) -> web.Server:
        # aiohttp has no setting for the class of its connections; everything else of the server stays as it made it.
        server = await super()._make_server()
        server.__class__ = _Connections
        return server


def unreadable(status: int) -> web.Response:
    """Answer what could not be read as HTTP, without repeating any of it."""
    request_id = uuid4().hex
    body = problem(InvalidRequest(), request_id, HTTPStatus(status)).model_dump_json(exclude_none=True)
    response = web.Response(status=status, text=body, content_type=CONTENT_TYPE)
    response.headers["X-Request-Id"] = request_id
    response.headers["Server"] = "broker"  # else it would be aiohttp's name and version
    response.force_close()
    return response


def bind(host: str, port: int) -> socket.socket:
    """Take an address, without listening on it yet; port 0 lets the system choose.

    Raises:
        OSError: it is taken, or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as problem:
        bound.close()
        raise OSError(problem.errno, problem.strerror, f"{host}:{port}") from None
    return bound


class Listener:
    """One bound socket and the application behind it."""

    def __init__(self, application: web.Application, bound: socket.socket, tls: ssl.SSLContext | None) -> None:
        self._runner = _Runner(
            application,
            access_log=None,
            keepalive_timeout=HEADER_SECONDS,
            shutdown_timeout=DRAIN_SECONDS,
            handle_signals=False,
            auto_decompress=False,  # such a body is refused, not unpacked
            max_field_size=MAX_HEADER,
        )
        self._bound, self._tls = bound, tls
        self.application = application

    async def start(self) -> str:
        """Listen, and answer the URL."""
        await self._runner.setup()
        await web.SockSite(self._runner, self._bound, ssl_context=self._tls, backlog=BACKLOG).start()
        host, port = self._bound.getsockname()[:2]
        return f"{'https' if self._tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"

    async def stop(self) -> None:
        """Stop accepting, let running requests end, close."""
        await self._runner.cleanup()
