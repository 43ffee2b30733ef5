"""A proxy that ends TLS before the broker, as load balancers do, and keeps every byte of what it saw in clear."""

from __future__ import annotations

import asyncio
import ssl
import threading
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit


class LoggingProxy:
    """Listens with a certificate of its own and speaks TLS again to the service behind it, in a thread of its own.

    Args:
        upstream: the URL of the service.
        server: how it proves itself to clients.
        client: how it judges the service.
    """

    def __init__(self, upstream: str, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
        parts = urlsplit(upstream)
        self._to = (parts.hostname or "", parts.port or 443)
        self._server, self._client = server, client
        self._seen = bytearray()
        self._writers: list[asyncio.StreamWriter] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.url = ""

    @property
    def log(self) -> bytes:
        """Both directions, in clear."""
        return bytes(self._seen)

    def __enter__(self) -> Self:
        self._thread.start()
        listening = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        self.url = f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _listen(self) -> asyncio.Server:
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._server)
        return self._listening

    async def _close(self) -> None:
        self._listening.close()
        running = asyncio.all_tasks() - {asyncio.current_task()}
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = self._to
        self._writers.append(writer)
        behind_reader, behind_writer = await asyncio.open_connection(host, port, ssl=self._client)
        self._writers.append(behind_writer)
        await asyncio.gather(self._forward(reader, behind_writer), self._forward(behind_reader, writer))

    async def _forward(self, source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        with suppress(OSError, ssl.SSLError):
            while data := await source.read(65536):
                self._seen += data
                to.write(data)
                await to.drain()
        to.close()
