"""Connections: how many there may be, and how long a slow or silent one is kept."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from ipaddress import ip_network
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient

from broker.demo.stage import make_tls
from broker.web.certificate import tls_context
from broker.web.connections import HANDSHAKE_SECONDS, TAKE_SECONDS, Room, Runner, Site
from broker.web.server import HEADER_SECONDS, Listener, bind
from tests.web.conftest import GOOD, Hall

GET = b"GET /healthz HTTP/1.1\r\nHost: broker\r\n\r\n"


@pytest.fixture
async def listen(hall: Hall) -> AsyncIterator[object]:
    listeners: list[Listener] = []

    async def start(room: Room) -> int:
        bound = bind("127.0.0.1", 0)
        listeners.append(Listener(hall.application(), bound, None, room))
        await listeners[-1].start()
        return int(bound.getsockname()[1])

    yield start
    for listener in listeners:
        await listener.stop()


async def open_idle(port: int, count: int) -> list[asyncio.StreamWriter]:
    """Open connections that say nothing; those that the other side closed at once are left out."""
    opened = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            async with asyncio.timeout(0.02):
                await reader.read(1)
            writer.close()
        except TimeoutError:
            opened.append(writer)
        except ConnectionError:
            writer.close()
    return opened


async def status_of(port: int, host: str = "127.0.0.1") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(host, 0))
    with closing(writer), suppress(ConnectionError):
        writer.write(GET)
        return (await reader.read(100)).partition(b"\r\n")[0]
    return b""


DESCRIPTORS = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
from broker.web.connections import fitting
print(fitting(4096), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "connections", "then"),
    [(1024, 8192, 4096, 4608), (1024, 1024, 512, 1024), (256, 256, 128, 256), (1024, 2000, 1488, 2000)],
)
def test_connections_leave_file_descriptors_for_everything_else(
    soft: int, hard: int, connections: int, then: int
) -> None:
    program = DESCRIPTORS.format(soft=soft, hard=hard)
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1].split() == [str(connections), str(then)]


async def test_one_peer_has_so_many_connections_and_others_are_served(listen: object) -> None:
    assert callable(listen)
    port = await listen(Room(total=30, per_peer=10))
    idle = await open_idle(port, 15)
    assert len(idle) == 10
    assert await status_of(port) == b""
    assert await status_of(port, "127.0.0.2") == b"HTTP/1.1 200 OK"
    idle.pop().close()
    await asyncio.sleep(0.05)
    assert await status_of(port) == b"HTTP/1.1 200 OK"
    for each in idle:
        each.close()


async def test_a_proxy_stands_for_many_and_the_whole_is_bounded_all_the_same(listen: object) -> None:
    assert callable(listen)
    port = await listen(Room(total=20, per_peer=5, proxies=(ip_network("127.0.0.0/8"),)))
    idle = await open_idle(port, 25)
    assert len(idle) == 20
    assert await status_of(port, "127.0.0.2") == b""
    for each in idle:
        each.close()


def test_places_are_given_back() -> None:
    room = Room(total=2, per_peer=1)
    assert [room.enter("a"), room.enter("a"), room.enter("b"), room.enter("c")] == [True, False, True, False]
    room.leave("a")
    assert room.enter("c")
    room.leave("b")
    room.leave("c")
    assert [room.enter("a"), room.enter("b")] == [True, True]


@pytest.mark.long
@pytest.mark.parametrize("drips", [False, True], ids=["reads nothing", "reads a byte now and then"])
async def test_a_slow_reader_is_let_go(listen: object, drips: bool) -> None:  # noqa: FBT001 - pytest's way
    assert callable(listen)
    room = Room()
    port = await listen(room)
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        client.setblocking(False)  # noqa: FBT003 - the socket's own way
        await loop.sock_connect(client, ("127.0.0.1", port))
        asked = b"GET /openapi.json HTTP/1.1\r\nHost: broker\r\n\r\n" * 600  # more than all buffers hold
        await loop.sock_sendall(client, asked)
        await asyncio.sleep(1)
        assert room._open  # noqa: SLF001 - nobody else knows
        began = loop.time()
        while loop.time() - began < 3 * TAKE_SECONDS and room._open:  # noqa: SLF001 - nobody else knows
            await asyncio.sleep(1)
            if drips:
                with suppress(ConnectionError):
                    await loop.sock_recv(client, 1)
        assert not room._open  # noqa: SLF001 - as above


SILENT: dict[str, tuple[bytes, bytes]] = {
    "nothing at all": (b"", b""),
    "a header without end": (b"GET /healthz HTTP/1.1\r\nHost: broker\r\nX: ", b"x"),
    "headers without end": (b"GET /healthz HTTP/1.1\r\n", b"X: y\r\n"),
    "empty lines": (b"", b"\r\n"),
    "nothing after an answer": (GET, b""),
    "a second header without end": (GET + b"GET /healthz HTTP/1.1\r\nX: ", b"x"),
    "a tunnel that carries nothing": (b"CONNECT broker:1 HTTP/1.1\r\nHost: broker\r\n\r\n", b""),
    "another protocol that is not spoken here": (GET[:-2] + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n", b""),
}


@pytest.mark.long
@pytest.mark.parametrize("secured", [False, True], ids=["in the open", "within TLS"])
async def test_who_does_not_get_on_is_let_go(hall: Hall, tmp_path: Path, secured: bool) -> None:  # noqa: FBT001 - as above
    make_tls(tmp_path)
    files = tmp_path / "tls.crt", tmp_path / "tls.key"
    listener = Listener(hall.application(), bind("127.0.0.1", 0), tls_context(*files) if secured else None)
    port = int((await listener.start()).rpartition(":")[2])

    async def stay(begins: bytes, goes_on: bytes, tls: ssl.SSLContext | None) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        with closing(writer), suppress(ConnectionError):
            writer.write(begins)
            ended = asyncio.create_task(reader.read())
            while not ended.done():
                writer.write(goes_on)
                await asyncio.wait((ended,), timeout=1)
            await ended

    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem")) if secured else None
    slow = [stay(*said, context) for said in SILENT.values()]
    if secured:  # a handshake that never comes, or comes a byte at a time
        slow += [stay(b"", b"", None), stay(b"\x16\x03\x01\x02\x00", b"\x01", None)]
    async with asyncio.timeout(HEADER_SECONDS + HANDSHAKE_SECONDS + 10):
        await asyncio.gather(*slow)
    await listener.stop()


async def test_the_kernel_lets_go_of_a_peer_that_is_gone(hall: Hall) -> None:
    runner = Runner(hall.application())
    await runner.setup()
    bound = bind("127.0.0.1", 0)
    bound.room = Room()
    await Site(runner, bound).start()
    reader, writer = await asyncio.open_connection(*bound.getsockname()[:2])
    writer.write(GET)
    assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    assert runner.server
    [connection] = runner.server.connections
    assert connection.transport
    sock = connection.transport.get_extra_info("socket")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == TAKE_SECONDS * 1000
    writer.close()
    await runner.cleanup()


async def test_a_handler_that_takes_too_long_is_given_up(hall: Hall) -> None:
    hall.handler_seconds = 0.1
    hall.desk.gate.clear()
    async with TestClient(hall.server()) as client:
        async with client.post("/v1/credentials", json={"instance": "web-1"}, headers=GOOD) as answer:
            assert (answer.status, (await answer.json())["code"]) == (503, "overloaded")
            assert answer.headers["Retry-After"] == "1"
        hall.desk.gate.set()
        async with client.post("/v1/credentials", json={"instance": "web-1"}, headers=GOOD) as answer:
            assert answer.status == 201
