"""Small JSON documents from issuers over HTTP, without ever trusting the other side (I/O)."""

from __future__ import annotations

import re
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from broker import addresses
from broker.identity.keys import MAX_KEY_SET

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

TOTAL_SECONDS: Final = 5.0
"""For one document, from the name look-up to the last byte."""
_OK: Final = 200
_MAX_AGE: Final = re.compile(r"(?:^|[\s,])max-age\s*=\s*\"?(\d{1,10})", re.IGNORECASE)
_SECONDS: Final = re.compile(r"\d{1,10}")
_LOCAL_NAME: Final = "localhost"


class FetchFailed(Exception):
    """The document did not arrive. The message names the class of the fault, for the log and for health."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A document, and for how many seconds its sender holds it to be fresh (None when it does not say)."""

    body: bytes
    max_age: int | None


def check_url(url: str) -> SplitResult:
    """Accept https anywhere, and plain http on a loopback address.

    Raises:
        FetchFailed: it is another kind of URL, carries a password or a fragment, or names a forbidden address.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise FetchFailed("not a URL") from None
    address = addresses.parse(host)
    local = host == _LOCAL_NAME or (address is not None and address.is_loopback)
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise FetchFailed("neither https nor http on a loopback address")
    if not host or "@" in parts.netloc or parts.fragment:
        raise FetchFailed("not a URL of an issuer")
    if address is not None and not local:
        _check_address(address)
    return parts


def origin(url: str) -> tuple[str, str, int | None]:
    """Answer scheme, host and port of a URL that `check_url` accepts."""
    parts = check_url(url)
    return parts.scheme, parts.hostname or "", parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def open_session() -> aiohttp.ClientSession:
    """Open the one HTTP session of this room: no proxies from the environment, no cookies, guarded addresses."""
    connector = aiohttp.TCPConnector(
        resolver=GuardedResolver(aiohttp.ThreadedResolver()),
        ssl=ssl.create_default_context(),
        limit=0,  # each issuer has at most one request under way, so none can use up what others need
        limit_per_host=0,
        force_close=True,
    )
    return aiohttp.ClientSession(
        connector=connector,
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=TOTAL_SECONDS),
        auto_decompress=False,
        headers={"Accept": "application/json", "Accept-Encoding": "identity"},
    )


async def fetch(session: aiohttp.ClientSession, url: str) -> Fetched:
    """Get one document of at most 256 KiB.

    Raises:
        FetchFailed: whatever went wrong.
    """
    check_url(url)
    try:
        async with session.get(url, allow_redirects=False) as response:
            if response.status != _OK:
                raise FetchFailed(f"status {response.status}")
            # We asked for none. Unpacking what came anyway would mean unpacking bombs.
            if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise FetchFailed("compressed although nobody asked for it")
            return Fetched(await _bounded(response), _freshness(response))
    except TimeoutError:
        raise FetchFailed("timeout") from None
    except (aiohttp.ClientError, OSError, ValueError) as problem:
        raise FetchFailed(f"{urlsplit(url).hostname}: {type(problem).__name__}") from problem


async def post_form(
    session: aiohttp.ClientSession, url: str, form: Mapping[str, str], headers: Mapping[str, str]
) -> bytes:
    """Send a form, and answer what comes back with status 200, of at most 256 KiB; raises as `fetch` does."""
    check_url(url)
    try:
        async with session.post(url, data=form, headers=headers, allow_redirects=False) as response:
            if response.status != _OK:
                raise FetchFailed(f"status {response.status}")
            if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise FetchFailed("compressed although nobody asked for it")
            return await _bounded(response)
    except TimeoutError:
        raise FetchFailed("timeout") from None
    except (aiohttp.ClientError, OSError, ValueError) as problem:
        raise FetchFailed(f"{urlsplit(url).hostname}: {type(problem).__name__}") from problem


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_KEY_SET:
            raise FetchFailed("too large")
    return bytes(body)


def _freshness(response: aiohttp.ClientResponse) -> int | None:
    """Read `max-age` less the time that the answer spent in caches (RFC 9111, 4.2)."""
    said = _MAX_AGE.search(response.headers.get("Cache-Control", ""))
    age = _SECONDS.fullmatch(response.headers.get("Age", "0"))
    return None if said is None else int(said[1]) - (int(age[0]) if age else 0)


class GuardedResolver(AbstractResolver):
    """Looks names up and drops addresses at which no issuer lives.

    Private networks are allowed, companies keep their identity providers there. Loopback is for the name `localhost`
    alone: another name that suddenly points there is an attack on the neighbours (DNS rebinding).
    """

    def __init__(self, inner: AbstractResolver) -> None:
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Answer the addresses of `host` that may be connected to; raise OSError when one is forbidden."""
        found = await self._inner.resolve(host, port, family)
        for result in found:
            address = addresses.parse(result["host"])
            if address is None or not (host == _LOCAL_NAME and address.is_loopback):
                _check_address(address)
        return found

    async def close(self) -> None:
        """Close the resolver behind."""
        await self._inner.close()


def _check_address(address: addresses.Address | None) -> None:
    if address is None or addresses.is_no_host(address) or addresses.is_loopback(address):
        raise ForbiddenAddress("an address at which no issuer lives")


class ForbiddenAddress(FetchFailed, OSError):
    """The name of an issuer points to a loopback, link-local, multicast or metadata address."""
