"""Little to live on: few file descriptors, a log that nobody reads, and a DNS that never answers."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from aiohttp import ClientSession, TCPConnector
from yarl import URL

from tests.end_to_end.places import LINUX, Place, Running, a_place, eventually

CALLERS = 400
REGIONS = ["eu-west-1", "eu-west-2", "eu-west-3", "eu-central-1", "eu-north-1", "us-east-1", "us-east-2", "us-west-2"]
WITH_RESOLVER = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with a_place(tmp_path, [{**LINUX, "name": "web-1"}]) as place:
        place.environment["BROKER__LIMITS__CONNECTIONS_PER_PEER"] = "4096"
        yield place


async def knock(url: URL) -> asyncio.StreamWriter | None:
    """Open a connection that says nothing."""
    try:
        _, writer = await asyncio.open_connection(url.host, url.port)
    except OSError:
        return None
    return writer


async def test_with_few_file_descriptors_callers_are_turned_away_and_the_service_goes_on(place: Place) -> None:
    async with place.serving("prlimit", "--nofile=256:256") as service:
        assert (await service.issue("web-1"))[0] == 201
        silent = [await knock(URL(service.url)) for _ in range(CALLERS)]
        await asyncio.sleep(0.2)
        assert (await service.issue("web-1"))[0] == 201  # by a connection that was there; AWS and the log have theirs
        for writer in filter(None, silent):
            writer.close()

        async def new_ones_are_served() -> bool:
            own = TCPConnector(ssl=place.client_context())
            async with ClientSession(connector=own) as session:
                with suppress(OSError):
                    return (await Running(service.process, service.url, session, place.token).issue("web-1"))[0] == 201
            return False

        await eventually(new_ones_are_served)
        assert "RLIMIT_NOFILE is too low" in place.log
        assert "Too many open files" not in place.log
        assert await service.stop() == 0
    assert (await place.verify("--require-sealed")).code == 0


class Reader:
    """Reads the service's log from a pipe, or leaves it."""

    def __init__(self) -> None:
        self.end, self.other_end = os.pipe()
        fcntl.fcntl(self.end, fcntl.F_SETPIPE_SZ, 1 << 16)
        os.set_blocking(self.end, False)
        self.text = b""

    def read(self) -> bytes:
        """Take what is there."""
        with suppress(BlockingIOError):
            while part := os.read(self.end, 1 << 16):
                self.text += part
        return self.text


async def lines_lost(session: ClientSession, url: str) -> int:
    async with session.get(f"{url}/metrics") as response:
        page = await response.text()
    [line] = [line for line in page.splitlines() if line.startswith("broker_log_lines_lost ")]
    return int(float(line.split()[1]))


async def test_a_log_that_nobody_reads_holds_nobody_up_and_says_what_is_lost(place: Place) -> None:
    reader, context = Reader(), ssl.create_default_context(cafile=str(place.folder / "ca.pem"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "broker", "serve", stderr=reader.other_end, env={**os.environ, **place.environment}
    )
    os.close(reader.other_end)
    try:

        async def it_serves() -> bool:
            return b"serving on " in reader.read() and reader.text.endswith(b"\n")

        await eventually(it_serves, 30)
        url = reader.text.rpartition(b"serving on ")[2].split()[0].decode()
        async with ClientSession(connector=TCPConnector(ssl=context, limit=16)) as session:
            service = Running(process, url, session, place.token)

            async def many() -> None:
                for _ in range(250):
                    async with session.get(f"{url}/nowhere/{'x' * 1000}") as response:
                        assert response.status == 404

            async with asyncio.timeout(60):
                while not await lines_lost(session, url):
                    await asyncio.gather(*(many() for _ in range(16)))
                assert (await service.issue("web-1"))[0] == 201
            already = len(reader.text)

            async def all_is_told() -> bool:
                return b"log lines were lost" in reader.read()

            await eventually(all_is_told)
            lost = await lines_lost(session, url)
            assert await service.stop() == 0
        lines = [json.loads(line) for line in reader.read()[already:].splitlines() if line.startswith(b"{")]
        told = [line["lines"] for line in lines if line["event"] == "log lines were lost"]
        assert sum(told) == lost > 0
        assert len(lines) > 1000
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        os.close(reader.end)


@pytest.fixture
def silent_dns(tmp_path: Path) -> Iterator[Path]:
    """A name server that takes questions and answers none; the file that names it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.99", 53))
        (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.99\noptions timeout:30 attempts:2\n")
        yield tmp_path / "resolv.conf"


@pytest.mark.real("unshare")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root takes the port of a name server")
async def test_while_no_name_is_answered_all_else_goes_on_and_it_stops_at_once(place: Place, silent_dns: Path) -> None:
    config = place.folder / "broker.toml"
    text = config.read_text().replace('["eu-west-1"]', json.dumps(REGIONS))
    config.write_text("".join(line for line in text.splitlines(keepends=True) if "endpoint_url" not in line))
    apart = ("unshare", "--mount", "--propagation", "private", "sh", "-c", WITH_RESOLVER, str(silent_dns))
    async with place.serving(*apart) as service:
        assert (await service.ask("/healthz"))[0] == 200
        status, readiness = await service.ask("/readyz")
        assert status == 503
        assert "no answer yet" in readiness["components"]["lightsail"]["detail"]
        status, document = await service.issue("web-1")
        assert (status, document["code"]) == (503, "upstream_unavailable")
        before = place.log.count('"policies loaded"')
        (place.folder / "policies" / "more.cedar").write_text('@id("none")\nforbid(principal, action, resource);\n')

        async def taken_in() -> bool:
            return place.log.count('"policies loaded"') > before

        await eventually(taken_in)
        assert await service.stop() == 0
    assert (await place.verify("--require-sealed")).code == 0
