"""A proxy that ends TLS before the broker, as load balancers do, and keeps every byte of what it saw in clear."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit


class LoggingProxy:
    """Listens with a certificate of its own and speaks TLS again to the service behind it.

    Args:
        upstream: the URL of the service.
        server: how it proves itself to clients.
        client: how it judges the service.
    """

    def __init__(self, upstream: str, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
        parts = urlsplit(upstream)
        self._to = (parts.hostname or "", parts.port or 443)
        self._server, self._client = server, client
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self._seen = bytearray()
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    @property
    def log(self) -> bytes:
        """Both directions, in clear."""
        with self._lock:
            return bytes(self._seen)

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._listener, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(10)

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]  # any callable
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                self._start(self._serve, self._listener.accept()[0])

    def _serve(self, accepted: socket.socket) -> None:
        self._open.append(accepted)
        with suppress(OSError):
            visitor = self._server.wrap_socket(accepted, server_side=True)
            self._open.append(visitor)
            behind = self._client.wrap_socket(socket.create_connection(self._to), server_hostname=self._to[0])
            self._open.append(behind)
            self._start(self._forward, visitor, behind)
            self._forward(behind, visitor)

    def _forward(self, source: socket.socket, to: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                with self._lock:
                    self._seen += data
                to.sendall(data)
        with suppress(OSError):
            to.shutdown(socket.SHUT_RDWR)
