"""Faults of an issuer's web server, over real sockets."""

import asyncio
import gzip
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from socket import AddressFamily

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.test_utils import TestServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from broker.identity.authenticator import Authenticator
from broker.identity.fetching import FetchFailed, GuardedResolver, check_url, fetch, open_session
from broker.identity.issuers import Issuer
from broker.identity.keys import MAX_KEY_SET
from broker.identity.keysets import KeyRing
from broker.identity.sources import DiscoverySource
from tests.doubles.identity import CORP, Mint, SigningKey, StillClock, accepted, as_json, cause_of, key_set_document

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class IssuerSite:
    """A web server on a real socket that answers what the test tells it to."""

    url: str = ""
    calls: list[str] = field(default_factory=list)
    handlers: dict[str, Handler] = field(default_factory=dict)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.calls.append(request.path)
        return await self.handlers[request.path](request)

    def answer(self, path: str, body: bytes, status: int = 200, /, **headers: str) -> None:
        names = {name.replace("_", "-"): value for name, value in headers.items()}

        async def handler(_: web.Request) -> web.StreamResponse:
            return web.Response(body=body, status=status, headers=names)

        self.handlers[path] = handler

    @property
    def keys_uri(self) -> str:
        return f"{self.url}/keys"

    def issuer(self) -> Issuer:
        return replace(CORP, jwks_uri=self.keys_uri)


@pytest.fixture
async def site(rsa_key: SigningKey) -> AsyncIterator[IssuerSite]:
    site = IssuerSite()
    app = web.Application()
    app.router.add_get("/{path:.*}", site.handle)
    async with TestServer(app, host="127.0.0.1") as server:
        site.url = f"http://127.0.0.1:{server.port}"
        site.answer("/keys", key_set_document(rsa_key))
        yield site


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session() as session:
        yield session


async def failure(session: aiohttp.ClientSession, url: str) -> str:
    with pytest.raises(FetchFailed) as problem:
        await fetch(session, url)
    return str(problem.value)


async def test_a_document_arrives_with_the_time_it_stays_fresh(
    site: IssuerSite, session: aiohttp.ClientSession
) -> None:
    site.answer("/keys", b"{}", Cache_Control="public, max-age=600", Age="100")
    document = await fetch(session, site.keys_uri)
    assert (document.body, document.max_age) == (b"{}", 500)
    for headers, expected in [
        ({}, None),
        ({"Cache_Control": "no-store"}, None),
        ({"Cache_Control": "s-maxage=9, MAX-AGE = 7"}, 7),
        ({"Cache_Control": "max-age=nonsense"}, None),
        ({"Cache_Control": "max-age=60", "Age": "x"}, 60),
    ]:
        site.answer("/keys", b"{}", **headers)
        assert (await fetch(session, site.keys_uri)).max_age == expected


@pytest.mark.parametrize("status", [201, 204, 301, 302, 304, 307, 308, 401, 404, 429, 500, 503])
async def test_any_status_but_200_is_a_failure_and_no_redirect_is_followed(
    site: IssuerSite, session: aiohttp.ClientSession, status: int
) -> None:
    site.answer("/keys", b"", status, Location=f"{site.url}/elsewhere")
    assert await failure(session, site.keys_uri) == f"status {status}"
    assert site.calls == ["/keys"]


async def test_a_document_is_cut_at_256_kib(site: IssuerSite, session: aiohttp.ClientSession) -> None:
    site.answer("/keys", b"x" * MAX_KEY_SET)
    assert len((await fetch(session, site.keys_uri)).body) == MAX_KEY_SET
    site.answer("/keys", b"x" * (MAX_KEY_SET + 1))
    assert await failure(session, site.keys_uri) == "too large"


async def test_an_endless_answer_is_cut_and_not_read_to_its_end(
    site: IssuerSite, session: aiohttp.ClientSession
) -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while sent < 100 * 1024 * 1024:
            await response.write(b"x" * 65536)
            sent += 65536
        return response

    site.handlers["/keys"] = endless
    assert await failure(session, site.keys_uri) == "too large"
    assert sent < 20 * 1024 * 1024


async def test_a_gzip_bomb_is_not_unpacked(site: IssuerSite, session: aiohttp.ClientSession) -> None:
    site.answer("/keys", gzip.compress(b" " * 50_000_000), Content_Encoding="gzip")
    started = time.thread_time()
    assert await failure(session, site.keys_uri) == "compressed although nobody asked for it"
    assert time.thread_time() - started < 0.05


async def test_a_connection_that_breaks_off_is_a_failure(site: IssuerSite, session: aiohttp.ClientSession) -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"keys"')
        assert request.transport is not None
        request.transport.close()
        return response

    site.handlers["/keys"] = broken
    assert await failure(session, site.keys_uri) == "127.0.0.1: ClientPayloadError"
    assert await failure(session, "http://127.0.0.1:9/keys") == "127.0.0.1: ClientConnectorError"


async def test_an_issuer_that_drips_holds_up_neither_itself_nor_the_event_loop(
    site: IssuerSite,
) -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.02)

    site.handlers["/keys"] = drip
    async with open_session() as session:
        session._timeout = aiohttp.ClientTimeout(total=0.3)  # noqa: SLF001 - five seconds are too long for a test
        started = time.monotonic()
        assert await failure(session, site.keys_uri) == "timeout"
        assert time.monotonic() - started < 4


async def test_the_last_good_set_outlives_every_fault(site: IssuerSite, mint: Mint, clock: StillClock) -> None:
    ring = KeyRing([site.issuer()])
    door = Authenticator([site.issuer()], ring, clock)
    await door.start()
    for status, body in [(500, b""), (302, b""), (304, b""), (200, b""), (200, b"<html>"), (200, b"x" * 300_000)]:
        site.answer("/keys", body, status)
        await ring.refresh()
        clock.forward(minutes=2)
        await accepted(door, mint.token())
        assert door.health().ready
        assert "last fetch failed" in door.health().detail
    await door.close()


async def test_a_thousand_cold_verifications_cause_exactly_one_fetch(
    site: IssuerSite, mint: Mint, clock: StillClock
) -> None:
    door = Authenticator([site.issuer()], KeyRing([site.issuer()]), clock)
    tokens = [mint.token(jti=str(number)) for number in range(20)]
    callers = await asyncio.gather(*(accepted(door, tokens[number % 20]) for number in range(1000)))
    assert {caller.subject for caller in callers} == {"alice"}
    assert site.calls == ["/keys"]
    await door.close()


async def test_one_hanging_issuer_leaves_the_others_alone(site: IssuerSite, mint: Mint, clock: StillClock) -> None:
    async def hang(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    site.handlers["/hanging"] = hang
    slow = replace(CORP, name="slow", issuer="https://slow.example.com", jwks_uri=f"{site.url}/hanging")
    door = Authenticator([site.issuer(), slow], KeyRing([site.issuer(), slow]), clock)
    stuck = [asyncio.create_task(accepted(door, Mint(clock, mint.key, slow).token(jti=str(n)))) for n in range(50)]
    await asyncio.sleep(0.05)
    started = time.monotonic()
    await accepted(door, mint.token())
    assert time.monotonic() - started < 4
    assert not door.health().ready
    assert door.health().detail == "slow: no keys (not fetched yet)"
    assert site.calls.count("/hanging") == 1
    for task in stuck:
        task.cancel()
    await asyncio.gather(*stuck, return_exceptions=True)
    await door.close()


async def test_a_start_with_an_unreachable_issuer_succeeds_and_heals(
    site: IssuerSite, mint: Mint, clock: StillClock, rsa_key: SigningKey
) -> None:
    site.answer("/keys", b"", 503)
    door = Authenticator([site.issuer()], KeyRing([site.issuer()]), clock)
    await door.start()
    assert (door.health().component, door.health().ready) == ("issuers", False)
    assert await cause_of(door, mint.token()) == "keys_unavailable"
    site.answer("/keys", key_set_document(rsa_key))
    deadline = time.monotonic() + 10
    while not door.health().ready:  # the first new attempt comes after a second
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    await accepted(door, mint.token())
    assert door.health().ready
    await door.close()


class TestDiscovery:
    @pytest.fixture
    def issuer(self, site: IssuerSite) -> Issuer:
        site.answer("/.well-known/openid-configuration", as_json({"issuer": site.url, "jwks_uri": site.keys_uri}))
        return replace(CORP, issuer=site.url)

    async def test_keys_are_found_by_the_issuer_alone(self, issuer: Issuer, mint: Mint, clock: StillClock) -> None:
        door = Authenticator([issuer], KeyRing([issuer]), clock)
        await accepted(door, mint.token(iss=issuer.issuer))
        await door.close()

    @pytest.mark.parametrize(
        ("metadata", "problem"),
        [
            ({"issuer": "{url}/"}, "another issuer"),
            ({"issuer": "https://id.example.com"}, "another issuer"),
            ({"issuer": None}, "another issuer"),
            ({"jwks_uri": "https://evil.example.com/keys"}, "another host"),
            ({"jwks_uri": "http://127.0.0.1:1/keys"}, "another host"),
            ({"jwks_uri": "http://evil.example.com/keys"}, "neither https"),
            ({"jwks_uri": "file:///etc/passwd"}, "neither https"),
            ({"jwks_uri": None}, "another host"),
            ({"jwks_uri": ["{url}/keys"]}, "another host"),
        ],
    )
    async def test_metadata_that_lead_elsewhere_are_refused(
        self,
        site: IssuerSite,
        issuer: Issuer,
        session: aiohttp.ClientSession,
        metadata: dict[str, object],
        problem: str,
    ) -> None:
        document = {"issuer": site.url, "jwks_uri": site.keys_uri} | metadata
        site.answer("/.well-known/openid-configuration", as_json(document).replace(b"{url}", site.url.encode()))
        with pytest.raises(FetchFailed, match=problem):
            await DiscoverySource(issuer.issuer, lambda: session).load()
        assert "/keys" not in site.calls

    @pytest.mark.parametrize("body", [b"", b"null", b"[]", b"<html>", b'{"issuer":1,"issuer":2}'])
    async def test_metadata_that_are_no_strict_object_are_refused(
        self, site: IssuerSite, issuer: Issuer, session: aiohttp.ClientSession, body: bytes
    ) -> None:
        site.answer("/.well-known/openid-configuration", body)
        with pytest.raises(FetchFailed, match="no strict JSON object"):
            await DiscoverySource(issuer.issuer, lambda: session).load()


@pytest.mark.parametrize(
    "url",
    [
        "http://id.example.com/keys",
        "http://10.0.0.1/keys",
        "http://localhost.example.com/keys",
        "http://127.0.0.1.example.com/keys",
        "ftp://127.0.0.1/keys",
        "file:///etc/passwd",
        "https:///keys",
        "https://user:secret@id.example.com/keys",
        "https://id.example.com/keys#here",
        "https://id.example.com:port/keys",
        "https://[::1/keys",
        "https://169.254.169.254/latest",
        "https://[fd00:ec2::254]/latest",
        "https://[fe80::1]/keys",
        "https://[::ffff:169.254.169.254]/latest",
        "https://0.0.0.0/keys",
        "https://100.100.100.200/keys",
        "",
        "keys",
    ],
)
def test_urls_at_which_no_issuer_lives_are_refused(url: str) -> None:
    with pytest.raises(FetchFailed):
        check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://id.example.com",
        "https://10.1.2.3:8443/keys",
        "http://127.0.0.1:8080/",
        "http://[::1]/",
        "http://localhost/",
    ],
)
def test_https_anywhere_and_http_on_loopback_are_accepted(url: str) -> None:
    assert check_url(url).geturl() == url


class FixedResolver(AbstractResolver):
    """Answers one address for every name."""

    def __init__(self, address: str) -> None:
        self.address = address

    async def resolve(
        self, host: str, port: int = 0, family: AddressFamily = AddressFamily.AF_INET
    ) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host=self.address, port=port, family=family, proto=0, flags=0)]

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("address", ["169.254.169.254", "127.0.0.1", "::1", "fe80::1%eth0", "0.0.0.0", "224.0.0.1"])  # noqa: S104 - refused, not listened on
async def test_a_name_that_comes_to_point_at_a_neighbour_is_not_followed(address: str) -> None:
    with pytest.raises(OSError, match="no issuer lives"):
        await GuardedResolver(FixedResolver(address)).resolve("id.example.com", 443)


@pytest.mark.parametrize(("name", "address"), [("id.example.com", "10.0.0.8"), ("localhost", "127.0.0.1")])
async def test_private_networks_and_localhost_are_followed(name: str, address: str) -> None:
    found = await GuardedResolver(FixedResolver(address)).resolve(name, 443)
    assert [result["host"] for result in found] == [address]


async def test_the_sessions_own_resolver_is_the_guarded_one(session: aiohttp.ClientSession) -> None:
    assert isinstance(session.connector, aiohttp.TCPConnector)
    assert isinstance(session.connector._resolver, GuardedResolver)  # noqa: SLF001 - has no public name
    assert not session.trust_env


async def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    await asyncio.to_thread((tmp_path / "tls.pem").write_bytes, pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.pem")
    server = TestServer(web.Application(), scheme="https", host="127.0.0.1")
    await server.start_server(ssl=context)
    url = f"https://127.0.0.1:{server.port}/"
    trusting = ssl.create_default_context(cadata=certificate.public_bytes(serialization.Encoding.PEM).decode())
    async with session.get(url, ssl=trusting) as response:
        assert response.status == 404, "the server itself works"
    assert await failure(session, url) == "127.0.0.1: ClientConnectorCertificateError"
    await server.close()
