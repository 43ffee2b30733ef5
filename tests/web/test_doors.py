"""The doors: no route without one, and who is behind a proxy."""

from __future__ import annotations

import asyncio
import ipaddress
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
from aiohttp import ClientSession, web

from broker import settings, state, wiring
from broker.errors import Overloaded
from broker.web.app import Edge
from broker.web.doors import FEWEST, Admission
from broker.web.parsing import source_ip
from broker.web.routes import Guarded, Open, SignedIn

OPEN = {
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/.well-known/oauth-protected-resource"),
    ("GET", "/console/sign-in"),
    ("GET", "/console/assets/{name}"),
}
SIGN_IN = {("POST", "/console/sign-in"), ("GET", "/console/start"), ("GET", "/console/callback")}
"""Open, and lets nobody in without a link that somebody made, or a provider that vouches for them."""

SETTINGS = """\
server.listen = "127.0.0.1:0"
audit.origin = "test.example/audit"
[[issuers]]
name = "corp"
issuer = "https://id.example.com"
audience = "lightsail-broker"
jwks_file = "jwks.json"
[[accounts]]
name = "main"
regions = ["eu-west-1"]
endpoint_url = "http://127.0.0.1:9"
"""


def behind(handler: object) -> object:
    """Answer the route that a mounted handler was made from; None when it was made in any other way."""
    if isinstance(handler, partial) and handler.func is vars(Edge)["_handle"]:
        return handler.args[1]
    return None


def test_the_walk_notices_a_handler_that_was_mounted_without_a_door() -> None:
    async def sneaked_in(request: web.Request) -> web.Response:
        raise NotImplementedError

    assert behind(sneaked_in) is None
    assert behind(partial(sneaked_in)) is None


async def test_every_mounted_route_has_a_door_and_only_the_listed_ones_stand_open(tmp_path: Path) -> None:
    (tmp_path / "broker.toml").write_text(SETTINGS)
    (tmp_path / "jwks.json").write_text('{"keys": []}')
    (tmp_path / "policies").mkdir()
    loaded = settings.load(tmp_path / "broker.toml", {})
    list(state.create(loaded))
    async with wiring.service(loaded) as service, ClientSession() as session:
        mounted = list(service.listener.application.router.routes())
        assert len(mounted) > len(OPEN)
        without_token: dict[tuple[str, str], int] = {}
        for each in mounted:
            route = behind(each.handler)
            assert isinstance(route, Open | Guarded | SignedIn), each
            assert isinstance(route, Open) == ((route.method, route.path) in OPEN | SIGN_IN)
            assert each.resource is not None
            assert (route.method, route.path) == (each.method, each.resource.canonical)
            path = route.path.format(account="main", region="eu-west-1", name="console.css", index="0", id="1")
            async with session.request(route.method, service.url + path, allow_redirects=False) as response:
                status = response.status
                if response.headers.get("Location", "").startswith("/console/sign-in?"):
                    status = 401
                without_token[route.method, route.path] = status
    assert {where for where, status in without_token.items() if status not in {401, 404}} == OPEN
    assert {where for where, status in without_token.items() if status == 404} <= SIGN_IN  # there is no provider
    assert set(without_token.values()) <= {200, 401, 404, 503}  # nothing behind /readyz works here


A, B, PROXY, OUTER, CLIENT = "10.0.0.1", "10.0.0.2", "192.0.2.1", "192.0.2.2", "203.0.113.7"
TRUSTED = [ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("2001:db8::/32")]

HEADERS: dict[str, tuple[str, list[str], list[str], str]] = {
    # what the peer is, X-Forwarded-For, the `for` of Forwarded, and who it is then
    "nobody in between": (CLIENT, [], [], CLIENT),
    "a stranger who makes up a header": (CLIENT, [A], [], CLIENT),
    "a stranger who makes up the other header": (CLIENT, [], [A], CLIENT),
    "one proxy": (PROXY, [CLIENT], [], CLIENT),
    "one proxy that speaks RFC 7239": (PROXY, [], [CLIENT], CLIENT),
    "a client that made up what stands before it": (PROXY, [f"{A}, {CLIENT}"], [], CLIENT),
    "the same in a line of its own": (PROXY, [A, CLIENT], [], CLIENT),
    "two proxies": (PROXY, [f"{CLIENT}, {OUTER}"], [], CLIENT),
    "two proxies and a made-up start": (PROXY, [f"{A}, {CLIENT}, {OUTER}"], [], CLIENT),
    "a stranger's address between proxies": (PROXY, [f"{A}, {CLIENT}, {B}"], [], B),
    "proxies alone": (PROXY, [OUTER], [], OUTER),
    "nothing in the header": (PROXY, [""], [], PROXY),
    "no address in the header": (PROXY, [f"{CLIENT}, unknown"], [], PROXY),
    "a name in the header": (PROXY, ["localhost"], [], PROXY),
    "a port behind the address": (PROXY, [f"{CLIENT}:4711"], [], CLIENT),
    "IPv6": (PROXY, ["2606:4700::1"], [], "2606:4700::1"),
    "IPv6 in brackets with a port": (PROXY, [], ["[2606:4700::1]:4711"], "2606:4700::1"),
    "IPv6 in another spelling": (PROXY, ["2606:4700:0:0::1"], [], "2606:4700::1"),
    "IPv4 in a socket of IPv6": (f"::ffff:{CLIENT}", [], [], CLIENT),
    "a proxy by IPv4 in a socket of IPv6": (f"::ffff:{PROXY}", [CLIENT], [], CLIENT),
    "a proxy by IPv6": ("2001:db8::9", [CLIENT], [], CLIENT),
    "an obfuscated name": (PROXY, [], ["_hidden"], PROXY),
    "both headers, agreeing": (PROXY, [CLIENT], [CLIENT], CLIENT),
    "both headers, of which the client made up one": (PROXY, [CLIENT], [A], PROXY),
    "a scope": ("fe80::1%eth0", [CLIENT], [], "fe80::1%eth0"),
    "a leading zero": (PROXY, ["010.0.0.1"], [], PROXY),
    "text that is no address": (PROXY, ["1.2.3.4\x00"], [], PROXY),
}


@pytest.mark.parametrize(("peer", "lines", "forwarded", "expected"), HEADERS.values(), ids=HEADERS.keys())
def test_the_address_that_counts_is_the_nearest_that_is_not_ours(
    peer: str, lines: list[str], forwarded: list[str], expected: str
) -> None:
    assert source_ip(peer, lines, forwarded, TRUSTED) == expected


def test_without_proxies_no_header_counts() -> None:
    assert source_ip(PROXY, [CLIENT], [CLIENT]) == PROXY


async def test_a_place_is_free_again_whatever_happened_inside() -> None:
    admission = Admission(1, patience=0.01)
    for _ in range(3):
        with pytest.raises(KeyError):
            async with admission:
                raise KeyError
    async with admission:
        with pytest.raises(Overloaded):
            async with admission:
                pass
    async with admission:
        pass


async def test_under_overload_the_newest_goes_first_and_the_oldest_is_turned_away() -> None:
    admission = Admission(1, waiting=2, patience=5)
    order: list[str] = []

    async def visit(name: str) -> None:
        try:
            async with admission:
                order.append(name)
                await asyncio.sleep(0)
        except Overloaded:
            order.append(f"{name} is turned away")

    async with admission:
        visits = []
        for name in ("first", "second", "third"):
            visits.append(asyncio.create_task(visit(name)))
            await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.gather(*visits)
    assert order == ["first is turned away", "third", "second"]


async def test_while_the_loop_is_late_fewer_are_served_at_once() -> None:
    admission = Admission(4 * FEWEST, waiting=0)
    limit = {measure.name: measure.value for measure in admission.measures()}["requests_in_service_limit"]
    assert limit == 4 * FEWEST
    for _ in range(10):
        admission.heed(0.2)
    async with AsyncExitStack() as inside:
        for _ in range(FEWEST):
            await inside.enter_async_context(admission)
        with pytest.raises(Overloaded):
            await inside.enter_async_context(admission)
        admission.heed(0.0)
        await inside.enter_async_context(admission)
        for _ in range(40):
            admission.heed(0.0)
        for _ in range(3 * FEWEST - 1):
            await inside.enter_async_context(admission)
        with pytest.raises(Overloaded):
            await inside.enter_async_context(admission)


async def test_who_waits_is_let_in_as_soon_as_the_loop_is_well_again() -> None:
    admission = Admission(FEWEST + 1, patience=5)
    for _ in range(5):
        admission.heed(1.0)
    async with AsyncExitStack() as inside:
        for _ in range(FEWEST):
            await inside.enter_async_context(admission)
        waiting = asyncio.create_task(inside.enter_async_context(admission))
        await asyncio.sleep(0)
        assert not waiting.done()
        admission.heed(0.0)
        async with asyncio.timeout(1):
            await waiting


async def test_who_leaves_the_queue_keeps_nobody_s_place() -> None:
    admission = Admission(1, patience=5)

    async def visit() -> None:
        async with admission:
            pass

    for given in (False, True):
        await admission.__aenter__()
        waiting = asyncio.create_task(visit())
        await asyncio.sleep(0)
        if given:
            await admission.__aexit__()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        if not given:
            await admission.__aexit__()
        async with asyncio.timeout(1):
            await visit()
