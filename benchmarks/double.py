"""A Lightsail that asks the real emulator once per question, then replays the answer: at once, or after a while.

`python -m benchmarks.double EMULATOR_URL [SECONDS]` prints its own URL and serves until its standard input is closed.
With `SECONDS`, each answer takes so long.
"""

from __future__ import annotations

import asyncio
import sys
from urllib.parse import urlsplit

END_OF_HEAD = b"\r\n\r\n"


def header(head: bytes, name: bytes) -> bytes:
    """Answer the value of a header, or nothing."""
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value.strip()
    return b""


async def forward(host: str, port: int, request: bytes) -> bytes:
    """Ask the emulator; answer its response as bytes."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(request)
    head = await reader.readuntil(END_OF_HEAD)
    body = await reader.readexactly(int(header(head, b"content-length") or 0))
    writer.close()
    return head + body


class Replay(asyncio.Protocol):
    """One connection of the SDK."""

    def __init__(self, upstream: tuple[str, int], answers: dict[tuple[bytes, bytes], bytes], delay: float) -> None:
        self._upstream = upstream
        self._answers = answers
        self._delay = delay
        self._buffer = b""
        self._transport: asyncio.WriteTransport | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to answer."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every whole request in the buffer."""
        self._buffer += data
        while (end := self._buffer.find(END_OF_HEAD)) >= 0:
            head = self._buffer[:end]
            length = end + len(END_OF_HEAD) + int(header(head, b"content-length") or 0)
            if len(self._buffer) < length:
                return
            request, self._buffer = self._buffer[:length], self._buffer[length:]
            # The SDK and the broker write the same JSON with and without spaces.
            key = (header(head, b"x-amz-target"), request[end:].replace(b" ", b""))
            if answer := self._answers.get(key):
                self._answer(answer)
            else:
                task = asyncio.ensure_future(self._learn(key, request))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _learn(self, key: tuple[bytes, bytes], request: bytes) -> None:
        answer = self._answers[key] = await forward(*self._upstream, request)
        self._answer(answer)

    def _answer(self, answer: bytes) -> None:
        assert self._transport is not None
        if self._delay:
            asyncio.get_running_loop().call_later(self._delay, self._transport.write, answer)
        else:
            self._transport.write(answer)


async def main(url: str, delay: str = "0") -> None:
    """Serve until the parent closes our input."""
    parts = urlsplit(url)
    answers: dict[tuple[bytes, bytes], bytes] = {}
    upstream = (parts.hostname or "127.0.0.1", parts.port or 80)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Replay(upstream, answers, float(delay)), "127.0.0.1", 0)
    sys.stdout.write(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
