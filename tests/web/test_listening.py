"""The socket: whatever bytes come, the answer is none of the server's fault, and it goes on serving."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import random
import re
import resource
from collections.abc import AsyncIterator
from contextlib import closing
from io import BytesIO
from pathlib import Path

import pytest

from broker.observability import Watchdog
from broker.web.rates import RateLimit
from broker.web.server import Listener, bind
from tests.web.conftest import Hall

GET = b"GET /healthz HTTP/1.1\r\nHost: broker\r\n\r\n"
LAST = b"GET /healthz HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n\r\n"
ASK = b"POST /v1/credentials HTTP/1.1\r\nHost: broker\r\nAuthorization: Bearer good\r\n"
QUIET_SECONDS = 0.5
SIZE_OF_FUZZ = 150


class Address:
    """Where a listener listens."""

    def __init__(self, url: str) -> None:
        self.host, _, port = url.removeprefix("http://").rpartition(":")
        self.port = int(port)

    async def send(self, *parts: bytes, pause: float = 0, patience: float = QUIET_SECONDS) -> bytes:
        """Send bytes, and answer all that comes back until the other side closes or falls silent."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        with closing(writer):
            answer = b""
            try:
                for part in parts:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(pause)
                while True:
                    async with asyncio.timeout(patience):
                        if not (more := await reader.read(65536)):
                            break
                        answer += more
            except (TimeoutError, ConnectionError):
                pass
            return answer


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/\d\.\d (\d{3}) ", answer)]


@pytest.fixture
async def address(hall: Hall) -> AsyncIterator[Address]:
    hall.body_seconds, hall.rate = 0.3, RateLimit(1_000_000)
    listener = Listener(hall.application(), bind("127.0.0.1", 0), None)
    yield Address(await listener.start())
    await listener.stop()


BAD = {
    "no HTTP": b"hello\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "zeros": bytes(2000),
    "a line without end": b"G" * 20_000,
    "a huge header": b"GET /healthz HTTP/1.1\r\nHost: broker\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
    "a bare line feed in a header": b"GET /healthz HTTP/1.1\r\nHost: broker\r\nX: a\rb\r\n\r\n",
    "a NUL in a header": b"GET /healthz HTTP/1.1\r\nHost: broker\r\nX: a\x00b\r\n\r\n",
    "two lengths": ASK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n{}  ",
    "length and chunks": ASK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a negative length": ASK + b"Content-Length: -1\r\n\r\n",
    "a length in words": ASK + b"Content-Length: many\r\n\r\n",
    "chunks that are none": ASK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
    "an unknown coding": ASK + b"Transfer-Encoding: wonder\r\n\r\n",
    "bad gzip": ASK + b"Content-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
    "HTTP 0.9": b"GET /healthz HTTP/0.9\r\nHost: broker\r\n\r\n",
    "HTTP 2": b"GET /healthz HTTP/2.0\r\nHost: broker\r\n\r\n",
    "HTTP 2 by prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a tunnel to a route": b"CONNECT /v1/credentials HTTP/1.1\r\nHost: broker\r\nAuthorization: Bearer good\r\n\r\n",
    "HTTP 3": b"GET /healthz HTTP/3.0\r\nHost: broker\r\n\r\n",
    "two hosts": b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "an unknown expectation": b"GET /nowhere HTTP/1.1\r\nHost: broker\r\nExpect: <script>\r\n\r\n",
    "a proxy's request": b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n",
    "a broken escape": b"GET /v1/instances/%ff/%zz/%00?x=%ff HTTP/1.1\r\nHost: broker\r\n"
    b"Authorization: Bearer good\r\n\r\n",
}


@pytest.mark.parametrize("sent", BAD.values(), ids=BAD.keys())
async def test_what_is_no_good_request_is_refused_without_a_5xx(address: Address, sent: bytes, log: BytesIO) -> None:
    answer = await address.send(sent)
    assert statuses(answer)
    assert all(400 <= status < 500 for status in statuses(answer)), answer
    for head, _, body in (part.partition(b"\r\n\r\n") for part in re.split(rb"HTTP/\d\.\d ", answer)[1:]):
        assert b"aiohttp" not in head.lower()
        assert b"X-Request-Id: " in head
        assert json.loads(body)["code"] in {"invalid_request", "not_found"}
    assert b"script" not in answer
    assert b'"level":"error"' not in log.getvalue()
    assert statuses(await address.send(LAST, patience=5)) == [200]


async def test_an_unknown_expectation_is_ignored_and_a_known_one_answered(address: Address) -> None:
    known = b"GET /healthz HTTP/1.1\r\nHost: broker\r\nExpect: 100-continue\r\n\r\n"
    assert statuses(await address.send(known)) == [100, 200]
    assert statuses(await address.send(known.replace(b"100-continue", b"wonders"))) == [200]


async def test_pipelined_requests_are_answered_in_order(address: Address) -> None:
    answer = await address.send(GET * 20 + b"GET /nowhere HTTP/1.1\r\nHost: broker\r\n\r\n" + LAST, patience=5)
    assert statuses(answer) == [200] * 20 + [404, 200]


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate", "identity, gzip", "GZIP", ""])
async def test_an_encoded_body_is_not_unpacked(address: Address, hall: Hall, encoding: str) -> None:
    packed = gzip.compress(b'{"instance": "web-1"}' + b" " * 10_000_000)
    head = f"Content-Type: application/json\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(packed)}\r\n\r\n"
    assert statuses(await address.send(ASK + head.encode() + packed)) == [415]
    assert not hall.desk.asked


async def test_a_token_behind_the_body_is_none(address: Address, hall: Hall, log: BytesIO) -> None:
    asked = WHOLE_IN_CHUNKS.replace(b"Authorization: Bearer good\r\n", b"Trailer: Authorization\r\n")
    behind = b"Authorization: Bearer good\r\n\r\n"
    assert statuses(await address.send(asked + behind)) == [401]
    assert not hall.desk.asked
    assert b"Bearer" not in log.getvalue()
    assert statuses(await address.send(WHOLE_IN_CHUNKS + b"Authorization: Bearer bad\r\nX: y\r\n\r\n")) == [201]


async def test_garbage_behind_a_good_request_ends_the_connection_after_its_answer(address: Address) -> None:
    assert statuses(await address.send(GET + b"\x00\x01garbage\r\n\r\n" + GET)) in ([200, 400], [400])


async def test_a_body_that_does_not_come_is_given_up_after_the_deadline(address: Address, hall: Hall) -> None:
    head = ASK + b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    answer = await address.send(head, *[b"{"] * 6, pause=0.1, patience=2)
    assert statuses(answer) == [400]
    assert b"did not arrive in time" in answer
    assert not hall.desk.asked


async def test_who_leaves_in_the_middle_of_a_body_leaves_no_trace_of_a_failure(
    address: Address, hall: Hall, log: BytesIO
) -> None:
    head = ASK + b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    assert await address.send(head, patience=0.05) == b""
    await asyncio.sleep(0.1)
    assert b'"level":"error"' not in log.getvalue()
    assert statuses(await address.send(LAST, patience=5)) == [200]
    assert not hall.desk.asked


WHOLE_IN_CHUNKS = ASK + (
    b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n15\r\n" + b'{"instance": "web-1"}\r\n0\r\n'
)
WHOLE = ASK + b'Content-Type: application/json\r\nContent-Length: 21\r\n\r\n{"instance": "web-1"}'


def garbage(dice: random.Random) -> bytes:
    """Answer a request that was spoilt in some places, or bytes that were never one."""
    if not dice.randrange(3):
        return dice.randbytes(300)
    request = bytearray(WHOLE)
    for _ in range(dice.randint(1, 6)):
        request[dice.randrange(len(request))] = dice.randrange(256)
    return bytes(request)


async def test_random_bytes_never_make_a_5xx(address: Address, log: BytesIO) -> None:
    dice = random.Random(20260301)  # noqa: S311 - the same garbage in every run
    answers = await asyncio.gather(*(address.send(garbage(dice), patience=0.4) for _ in range(SIZE_OF_FUZZ)))
    seen = [status for answer in answers for status in statuses(answer)]
    assert seen
    assert [status for status in seen if status >= 500] == []
    assert b'"level":"error"' not in log.getvalue()
    assert statuses(await address.send(LAST, patience=5)) == [200]


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_a_storm_of_garbage_leaves_memory_and_loop_as_they_were(address: Address, log: BytesIO) -> None:
    dice = random.Random(20261124)  # noqa: S311 - the same garbage in every run
    sizes = []
    async with Watchdog({}).watching():
        for wave in range(200):
            answers = await asyncio.gather(*(address.send(garbage(dice), patience=0.4) for _ in range(100)))
            assert [status for answer in answers for status in statuses(answer) if status >= 500] == []
            if wave in {20, 199}:
                gc.collect()
                sizes.append(resident())
    assert sizes[1] - sizes[0] <= 32 * 2**20
    assert b"stands still" not in log.getvalue()  # the loop, which sends the storm too
    assert b'"level":"error"' not in log.getvalue()
    assert statuses(await address.send(LAST, patience=5)) == [200]


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_of_ten_thousand_requests_on_one_connection_one_is_worked_on(address: Address, hall: Hall) -> None:
    hall.desk.gate.clear()
    reader, writer = await asyncio.open_connection(address.host, address.port)
    before = resident()
    with closing(writer):
        writer.write(WHOLE * 9_999 + LAST)
        await hall.desk.has_been_asked(1)
        await asyncio.sleep(1)
        assert len(hall.desk.asked) == 1
        assert resident() - before <= 16 * 2**20
        hall.desk.gate.set()
        answered = statuses(await reader.read())
    assert answered == [201] * 9_999 + [200]
    assert len(hall.desk.asked) == 9_999


def resident() -> int:
    """Answer the bytes of memory that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
