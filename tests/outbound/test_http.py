from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from broker.outbound.http import MAX_ANSWER, SendingFailed, check_place, open_session, post
from tests.doubles.outbound import Resolver

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Site:
    """A web server on a real socket that answers what the test tells it to."""

    port: int = 0
    calls: list[str] = field(default_factory=list)
    handler: Handler | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.calls.append(request.path)
        return await self.handler(request) if self.handler else web.Response(body=b"fine", headers={"X-Mark": "1"})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/here"


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", site.handle)
    async with TestServer(app, host="127.0.0.1") as server:
        assert server.port
        site.port = server.port
        yield site


async def failure(session: aiohttp.ClientSession, url: str) -> str:
    with pytest.raises(SendingFailed) as problem:
        await post(session, url, b"{}", {})
    return str(problem.value)


async def test_the_answer_comes_as_it_is_whatever_its_status(site: Site) -> None:
    async with open_session(allow_private=True) as session:
        answer = await post(session, site.url, b"{}", {})
        assert (answer.status, answer.body, answer.headers["X-Mark"]) == (200, b"fine", "1")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(site: Site, status: int) -> None:
    async def elsewhere(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": f"http://127.0.0.1:{site.port}/elsewhere"})

    site.handler = elsewhere
    async with open_session(allow_private=True) as session:
        assert (await post(session, site.url, b"{}", {})).status == status
    assert site.calls == ["/here"]


async def test_an_answer_is_cut_at_64_kib(site: Site) -> None:
    async def large(request: web.Request) -> web.Response:
        return web.Response(body=b"x" * int(await request.read()))

    site.handler = large
    async with open_session(allow_private=True) as session:
        assert len((await post(session, site.url, str(MAX_ANSWER).encode(), {})).body) == MAX_ANSWER
        with pytest.raises(SendingFailed, match="too large"):
            await post(session, site.url, str(MAX_ANSWER + 1).encode(), {})


async def test_whoever_hangs_or_drips_is_given_up_at_the_deadline(site: Site) -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.01)

    site.handler = drip
    async with open_session(allow_private=True, seconds=0.2) as session:
        assert await failure(session, site.url) == "timeout"


async def test_messages_that_follow_each_other_share_a_connection(site: Site) -> None:
    async def peer(request: web.Request) -> web.Response:
        assert request.transport
        return web.Response(text=str(request.transport.get_extra_info("peername")))

    site.handler = peer
    async with open_session(allow_private=True) as session:
        assert len({(await post(session, site.url, b"", {})).body for _ in range(3)}) == 1


async def test_nobody_there_is_a_failure_that_names_its_kind() -> None:
    async with open_session(allow_private=True) as session:
        assert await failure(session, "http://127.0.0.1:9/") == "ClientConnectorError"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[2002:7f00:1::]", "10.0.0.1", "localhost"]
)
async def test_a_url_with_a_private_address_is_not_connected_to(site: Site, host: str) -> None:
    async with open_session() as session:
        assert await failure(session, f"http://{host}:{site.port}/") == "a private address, which is not allowed"
    assert site.calls == []


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.1", "0177.0.0.1", "0x7f000001"])
async def test_an_address_in_an_odd_notation_does_not_get_past(site: Site, host: str) -> None:
    async with open_session() as session:
        await failure(session, f"http://{host}:{site.port}/")
    assert site.calls == []


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "fd00:ec2::254", "::ffff:169.254.169.254"])
async def test_metadata_services_are_not_connected_to_even_where_private_addresses_are(address: str) -> None:
    async with open_session(allow_private=True, resolver=Resolver([address])) as session:
        said = await failure(session, "http://receiver.example/")
    assert said == "an address at which nobody can be told anything"


async def test_a_name_that_comes_to_point_inside_is_not_followed_there(site: Site) -> None:
    """DNS rebinding: the look-up of the check says one thing, that of the connection another."""
    resolver = Resolver(["203.0.113.7"], ["127.0.0.1"])
    await check_place("https://receiver.example/", allow_private=True, resolver=resolver)
    async with open_session(resolver=resolver) as session:
        said = await failure(session, f"http://receiver.example:{site.port}/")
    assert said == "a private address, which is not allowed"
    assert resolver.asked == 2
    assert site.calls == []


async def test_every_connection_is_judged_anew(site: Site) -> None:
    async def closing(_: web.Request) -> web.Response:
        return web.Response(headers={"Connection": "close"})

    site.handler = closing
    resolver = Resolver(["127.0.0.1"], ["169.254.169.254"])
    async with open_session(allow_private=True, resolver=resolver) as session:
        url = f"http://receiver.example:{site.port}/"
        assert (await post(session, url, b"", {})).status == 200
        assert isinstance(session.connector, aiohttp.TCPConnector)
        session.connector.clear_dns_cache()
        assert await failure(session, url) == "an address at which nobody can be told anything"


async def test_no_proxy_of_the_environment_and_no_cookie_is_used(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def baking(request: web.Request) -> web.Response:
        response = web.Response(text=request.headers.get("Cookie", ""))
        response.set_cookie("a", "b")
        return response

    site.handler = baking
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with open_session(allow_private=True) as session:
        await post(session, site.url, b"", {})
        assert (await post(session, site.url, b"", {})).body == b""


async def test_the_check_of_a_place_connects_to_nobody_and_names_what_is_wrong(site: Site) -> None:
    await check_place(site.url, allow_private=True)
    for url, resolver, said in [
        (site.url, None, "127.0.0.1 has a private address, which is not allowed"),
        ("https://a.example/", Resolver(["8.8.8.8", "10.0.0.1"]), "a.example has a private address"),
        ("https://a.example/", Resolver(["224.0.0.1"]), "a.example has an address at which nobody"),
        ("https://nowhere.invalid/", None, "nowhere.invalid cannot be found"),
    ]:
        with pytest.raises(SendingFailed, match=said):
            await check_place(url, allow_private=False, resolver=resolver)
    assert site.calls == []
