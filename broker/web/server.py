"""Listening: sockets, TLS, and the deadlines that aiohttp leaves to us."""

from __future__ import annotations

import ssl
from pathlib import Path

from aiohttp import web

HEADER_SECONDS = 10
"""aiohttp cuts the header phase, of the first request too, at its keep-alive time."""
DRAIN_SECONDS = 25


def tls_context(certificate: Path, private_key: Path, client_ca: Path | None = None) -> ssl.SSLContext:
    """Build the server's side of TLS: 1.2 or newer, forward secrecy only, client certificates asked for when known.

    Raises:
        OSError: a file is missing or does not hold what it should (ssl.SSLError is one).
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.load_cert_chain(certificate, private_key)
    if client_ca:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


class Listener:
    """One listening socket and the application behind it."""

    def __init__(self, application: web.Application, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self._runner = web.AppRunner(
            application,
            access_log=None,
            keepalive_timeout=HEADER_SECONDS,
            shutdown_timeout=DRAIN_SECONDS,
            handle_signals=False,
        )
        self._host, self._port, self._tls = host, port, tls

    async def start(self) -> str:
        """Listen, and answer the URL.

        Raises:
            OSError: the address is taken or not ours.
        """
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port, ssl_context=self._tls).start()
        port = self._runner.addresses[0][1]
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self._tls else 'http'}://{host}:{port}"

    async def stop(self) -> None:
        """Stop accepting, let running requests end, close."""
        await self._runner.cleanup()
