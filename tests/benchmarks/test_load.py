"""The loads against a small server: what they count, and that they notice what is wrong."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from benchmarks.world import Loaded, load


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(float(request.query.get("seconds", "0")))
        if "hang" in request.query:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({}, status=int(request.query.get("status", "201")))

    app = web.Application()
    app.router.add_get("/", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


def asked(folder: Path, *queries: str) -> Path:
    path = folder / "requests"
    path.write_bytes(b"\0".join(f"GET /?{query} HTTP/1.1\r\nHost: here\r\n\r\n".encode() for query in queries))
    return path


async def run(which: str, url: str, **options: Any) -> Loaded:
    return await load(which, url, {"seconds": 0.3, "connections": 4, **options})


async def test_a_closed_load_asks_again_as_soon_as_it_is_answered(url: str, tmp_path: Path) -> None:
    loaded = (await run("closed", url, requests=asked(tmp_path, "seconds=0.05"))).only()
    assert 4 <= loaded.good <= 4 * 0.3 / 0.05 + 4
    assert loaded.p50 >= 50
    assert sum(loaded.statuses.values()) >= loaded.answered


@pytest.mark.parametrize("count", [3, 40])
async def test_a_load_by_count_asks_that_often_and_no_more(url: str, tmp_path: Path, count: int) -> None:
    loaded = await run("closed", url, requests=asked(tmp_path, "seconds=0.02"), count=count)
    assert loaded.only().statuses == {"201": count}
    assert loaded.good == count


async def test_an_open_load_counts_the_time_in_which_nobody_was_free_to_ask(url: str, tmp_path: Path) -> None:
    slow = asked(tmp_path, "seconds=0.2")
    crowded = await run("open", url, requests=slow, connections=1, rate=100, seconds=1)
    assert crowded.p99 > 400  # by itself each answer takes 200 ms


async def test_every_status_is_counted_and_only_the_good_one_is_timed(url: str, tmp_path: Path) -> None:
    mixed = asked(tmp_path, "status=201", "status=503")
    loaded = await run("closed", url, requests=mixed)
    assert set(loaded.statuses) == {"201", "503"}
    assert loaded.good < loaded.answered
    with pytest.raises(AssertionError):
        loaded.only()


async def test_a_connection_that_goes_is_counted(url: str, tmp_path: Path) -> None:
    now_and_then = asked(tmp_path, *["seconds=0.02"] * 150, "hang")
    loaded = await run("closed", url, requests=now_and_then, seconds=1.5)
    assert 1 <= loaded.statuses["0"] <= 4


async def test_a_load_without_one_good_answer_is_no_measurement(url: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        await run("closed", url, requests=asked(tmp_path, "status=500"))


async def test_a_meter_tells_of_the_measured_time_alone(url: str, tmp_path: Path) -> None:
    readings = iter((10.0, 17.0))
    options = {"requests": asked(tmp_path, ""), "seconds": 0.1, "connections": 1}
    loaded = await load("closed", url, options, meter=lambda: next(readings))
    assert json.loads(json.dumps(loaded.spent)) == 7
