"""The watchdog: a loop that stands still is told of, with the place, and systemd hears how the service is."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
import structlog

from broker.observability import Watchdog, configure_logging


@pytest.fixture
def log() -> Iterator[BytesIO]:
    stream = BytesIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logging(stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def stand_still(secret: str) -> None:
    time.sleep(0.9)
    del secret


async def test_a_loop_that_stands_still_is_told_of_once_with_the_place(log: BytesIO) -> None:
    watchdog = Watchdog({}, blocked=0.3)
    async with watchdog.watching():
        await asyncio.sleep(0.5)
        assert watchdog.health().ready
        stand_still("S3cret")
        await asyncio.sleep(0.5)
        assert not watchdog.health().ready
        [lag] = watchdog.measures()
        assert lag.value > 0.5
        [lag] = watchdog.measures()
        assert lag.value == 0
    [line] = [json.loads(line) for line in log.getvalue().splitlines()]
    assert line["event"] == "the event loop stands still"
    assert any(frame.endswith(" stand_still") for frame in line["frames"])
    assert "S3cret" not in log.getvalue().decode()


async def test_who_wants_to_know_hears_at_every_beat_how_late_it_is() -> None:
    watchdog, told = Watchdog({}), list[float]()
    watchdog.tell(told.append)
    async with watchdog.watching():
        await asyncio.sleep(0.3)
        stand_still("")
        await asyncio.sleep(0.3)
    assert max(told) > 0.5
    assert min(told) < 0.1 < len(told)


async def test_systemd_hears_how_the_service_is(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(5)
        watchdog = Watchdog({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"})
        async with watchdog.watching():
            watchdog.ready()
            await asyncio.sleep(0.5)
            watchdog.leave()
            assert not watchdog.health().ready
        manager.settimeout(0)
        told = []
        while True:
            try:
                told.append(manager.recv(100).decode())
            except BlockingIOError:
                break
    assert told[0] == "READY=1"
    assert told[-1] == "STOPPING=1"
    assert "WATCHDOG=1" in told


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_USEC": "soon"}])
async def test_without_systemd_nothing_is_told(environment: dict[str, str]) -> None:
    watchdog = Watchdog(environment)
    async with watchdog.watching():
        watchdog.ready()
        await asyncio.sleep(0.2)
    assert watchdog.health().ready
