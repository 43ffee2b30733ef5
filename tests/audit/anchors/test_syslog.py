"""A checkpoint arrives as one line of RFC 5424 at real receivers, and what cannot be sent is told."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from broker.audit.anchors.notes import notes_in
from broker.audit.anchors.syslog import SyslogAnchor
from broker.audit.checkpoints import Signer
from tests.doubles.audit import ManualClock

LINE = re.compile(
    r"<85>1 2026-01-31T09:30:00\.000Z web-7 lightsail-broker (\d+) checkpoint - "
    r"lightsail-broker checkpoint [A-Za-z0-9+/]+={0,2}"
)


def anchor(address: str) -> SyslogAnchor:
    return SyslogAnchor(address, ManualClock(), lambda: "web-7")


def check(line: str, note: str) -> None:
    found = LINE.fullmatch(line)
    assert found, line
    assert int(found[1]) == os.getpid()
    assert list(notes_in(line)) == [note]


@asynccontextmanager
async def stream_receiver(*, read: bool = True) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Listen by TCP: read to the end and close, or take connections and never read."""
    taken: list[bytes] = []
    done = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if read:
            taken.append(await reader.read())
        else:
            await done.wait()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], taken
    finally:
        done.set()
        server.close()


async def test_it_goes_to_a_socket_of_this_machine(tmp_path: Path, signer: Signer) -> None:
    note = signer.sign(5, bytes(32))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "log"))
        await anchor(str(tmp_path / "log")).add(5, note, 0)
        check(receiver.recv(65_536).decode(), note)


async def test_it_goes_over_udp(signer: Signer) -> None:
    note = signer.sign(5, bytes(32))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        await anchor(f"udp://127.0.0.1:{receiver.getsockname()[1]}").add(5, note, 0)
        check(receiver.recv(65_536).decode(), note)


async def test_it_goes_over_tcp_with_counted_octets(signer: Signer) -> None:
    note = signer.sign(5, bytes(32))
    async with stream_receiver() as (port, taken):
        await anchor(f"tcp://127.0.0.1:{port}").add(5, note, 0)
        [message] = taken
    length, _, line = message.partition(b" ")
    assert int(length) == len(line)
    check(line.decode(), note)


async def test_a_receiver_that_does_not_read_has_not_taken_it(signer: Signer) -> None:
    async with stream_receiver(read=False) as (port, _):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await anchor(f"tcp://127.0.0.1:{port}").add(5, signer.sign(5, bytes(32)), 0)


async def test_a_local_receiver_whose_queue_is_full_blocks_nobody(tmp_path: Path, signer: Signer) -> None:
    note = signer.sign(5, bytes(32))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "log"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(fill(anchor(str(tmp_path / "log")), note), 0.5)


async def fill(full: SyslogAnchor, note: str) -> None:
    while True:
        await full.add(5, note, 0)


@pytest.mark.parametrize("kind", ["tcp", "local"])
async def test_nobody_there_is_told(tmp_path: Path, signer: Signer, kind: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        address = f"tcp://127.0.0.1:{port}" if kind == "tcp" else str(tmp_path / "nobody")
        with pytest.raises(OSError, match=r"refused|No such file|Connect call failed"):
            await anchor(address).add(5, signer.sign(5, bytes(32)), 0)


async def test_it_cannot_be_read_back() -> None:
    assert await anchor("/dev/log").newest() is None  # type: ignore[func-returns-value]  # what the protocol asks for
