"""Callers who leave at any moment: nothing of theirs stays open, in the log or in the service."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from broker.emulator import parse_faults
from tests.end_to_end.places import LINUX, Place, Running, a_place, eventually

ROOM, LEAVING = 4, 60
BODY = b'{"instance": "web-1"}'
MINT_TAKES = 0.2


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with a_place(tmp_path, [{**LINUX, "name": "web-1"}]) as place:
        place.environment |= {
            "BROKER__LIMITS__PER_CALLER_PER_MINUTE": "100000",
            "BROKER__LIMITS__ISSUES_PER_CALLER_PER_MINUTE": "0",
            "BROKER__LIMITS__CONCURRENT_REQUESTS": str(ROOM),
        }
        slow = {"operation": "GetInstanceAccessDetails", "kind": f"delay:{int(MINT_TAKES * 1000)}ms", "times": 0}
        place.emulator.faults.add(parse_faults([slow]))
        yield place


async def leave(place: Place, service: Running, sent: int | None, after: float) -> None:
    """Send so many bytes of a request, and cut the connection a moment later."""
    head = (
        f"POST /v1/credentials HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {place.token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
    )
    port = urlsplit(service.url).port
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=place.client_context())
    writer.write((head.encode() + BODY)[:sent])
    await asyncio.sleep(after)
    writer.transport.abort()


async def test_who_leaves_at_any_moment_leaves_nothing_open(place: Place) -> None:
    dice = random.Random(20261129)  # noqa: S311 - the same moments in every run
    async with place.serving() as service:
        for _ in range(LEAVING // ROOM):
            sent = [dice.choice([None, None, None, 10, 200, -5]) for _ in range(ROOM)]
            await asyncio.gather(*(leave(place, service, many, dice.random() * 2 * MINT_TAKES) for many in sent))

        async def all_places_are_free() -> bool:
            answers = await asyncio.gather(*(service.issue("web-1") for _ in range(ROOM)))
            return [status for status, _ in answers] == [201] * ROOM

        await eventually(all_places_are_free)
        assert await service.stop() == 0
    assert '"level":"error"' not in place.log
    assert "unexpected" not in place.log
    assert (await place.verify("--require-sealed")).code == 0
    events = await place.events()
    asked = [each["request_id"] for each in events if each["event"] == "credential.requested"]
    ended = [each["request_id"] for each in events if each["event"] in {"credential.issued", "credential.failed"}]
    assert len(asked) > LEAVING / 4
    assert sorted(asked) == sorted(ended)
