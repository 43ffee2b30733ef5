"""Small messages over HTTP to places that operators named, without trusting them or the DNS (I/O).

Addresses are checked where a socket is made for them, after every look-up: whatever a URL says and however often a
name is asked for, nothing is connected to that was not judged.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver

from broker import addresses

TOTAL_SECONDS: Final = 10.0
"""For one message, from the name look-up to the last byte of the answer."""
_IDLE_SECONDS: Final = 2.0
"""A connection serves messages that follow each other; before the other side thinks of closing it, we do."""
MAX_ANSWER: Final = 64 * 1024
"""Bytes of an answer's body that are read."""


class SendingFailed(Exception):
    """No whole answer arrived. The message names the class of the fault, for the log and for health."""


class ForbiddenAddress(OSError):
    """The place has an address that it must not have."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the other side said: the status whatever it is, at most 64 KiB of body, and the headers."""

    status: int
    body: bytes
    headers: Mapping[str, str]


def forbidden(address: addresses.Address, *, allow_private: bool) -> str:
    """Say why this address must not be connected to; empty when it may."""
    if addresses.is_no_host(address):
        return "an address at which nobody can be told anything"
    if not allow_private and not addresses.is_public(address):
        return "a private address, which is not allowed"
    return ""


def open_session(
    *,
    allow_private: bool = False,
    seconds: float = TOTAL_SECONDS,
    resolver: AbstractResolver | None = None,
) -> aiohttp.ClientSession:
    """Open an HTTP session: no proxies from the environment, no cookies, guarded addresses, one deadline.

    Args:
        allow_private: private networks and this machine are fine too; metadata services and the like never are.
        seconds: the deadline of each request, from the name look-up to the last byte.
        resolver: looks names up; the system's by default.
    """

    def guarded_socket(info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, (host, *_) = info
        address = addresses.parse(host)
        if address is None or (reason := forbidden(address, allow_private=allow_private)):
            raise ForbiddenAddress(reason if address else "no address")
        return socket.socket(family=family, type=kind, proto=protocol)

    connector = aiohttp.TCPConnector(
        resolver=resolver or aiohttp.ThreadedResolver(),
        ssl=ssl.create_default_context(),
        keepalive_timeout=_IDLE_SECONDS,
        socket_factory=guarded_socket,
    )
    return aiohttp.ClientSession(
        connector=connector,
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=seconds),
        auto_decompress=False,
        headers={"Accept-Encoding": "identity", "User-Agent": "lightsail-credential-broker"},
    )


async def post(session: aiohttp.ClientSession, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    """Send one message. A redirect is an answer like any other, and not followed.

    Raises:
        SendingFailed: no whole answer came, or the place must not be connected to.
    """
    try:
        async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
            return Answer(response.status, await _bounded(response), dict(response.headers))
    except TimeoutError:
        raise SendingFailed("timeout") from None
    except aiohttp.ClientConnectorError as problem:
        raise SendingFailed(_connection_fault(problem)) from problem
    except (aiohttp.ClientError, OSError, ValueError) as problem:
        raise SendingFailed(type(problem).__name__) from problem


async def check_place(url: str, *, allow_private: bool, resolver: AbstractResolver | None = None) -> None:
    """Look a URL's host up and judge its addresses, without connecting to any.

    Raises:
        SendingFailed: it cannot be found, or one of its addresses must not be connected to.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    address = addresses.parse(host)
    names = resolver or aiohttp.ThreadedResolver()
    try:
        found = [host] if address else [each["host"] for each in await names.resolve(host, parts.port or 443)]
    except (OSError, UnicodeError):
        raise SendingFailed(f"{host} cannot be found") from None
    for text in found:
        address = addresses.parse(text)
        if address is None or (reason := forbidden(address, allow_private=allow_private)):
            raise SendingFailed(f"{host} has {reason if address else 'no address'}")


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER:
            raise SendingFailed("the answer is too large")
    return bytes(body)


def _connection_fault(problem: aiohttp.ClientConnectorError) -> str:
    """Say what hindered the connection; an address that is forbidden by what is wrong with it."""
    cause = getattr(problem, "os_error", None)
    if isinstance(cause, ForbiddenAddress):
        return str(cause)
    return type(problem).__name__
