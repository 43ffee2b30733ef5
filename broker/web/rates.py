"""How often: so many requests a minute for each caller, and so many refusals for each address."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv6Address
from math import ceil
from time import monotonic
from typing import Final, Protocol

import structlog

from broker.errors import AuditUnavailable, RateLimited
from broker.model import Caller
from broker.web.parsing import address_of

_REMEMBERED: Final = 10_000
_NETWORK: Final = 64
_PATIENCE: Final = 0.25
_PAUSE: Final = 5.0
_log = structlog.get_logger("broker.web")


class Rate(Protocol):
    """Knows who was here too often."""

    async def spend(self, caller: Caller) -> None:
        """Take one request from the caller's minute; raises RateLimited."""
        ...


class Tally(Protocol):
    """Counts for several brokers at once."""

    async def spend(self, caller: bytes, interval: float, burst: float) -> float:
        """Take one request of a caller.

        Args:
            caller: 32 bytes that name it.
            interval: in how many seconds one request is given back.
            burst: how many seconds' worth may be owed.

        Returns:
            For how many seconds there is none; 0 when it was taken.

        Raises:
            AuditUnavailable: the database cannot be used.
        """
        ...


class Buckets:
    """So much per minute for each key, evenly refilled (generic cell rate algorithm).

    A key that was away may spend a whole minute's worth at once.
    """

    def __init__(self, per_minute: int, now: Callable[[], float] = monotonic) -> None:
        self.interval = 60 / per_minute
        self.burst = 60.0 - self.interval
        self._now = now
        self._free_at: OrderedDict[str, float] = OrderedDict()

    def wait(self, key: str) -> float:
        """Answer for how many seconds nothing is left; at most 0 when something is."""
        return self._free_at.get(key, 0.0) - self._now() - self.burst

    def spend(self, key: str) -> None:
        """Take one.

        Raises:
            RateLimited: nothing is left; says in how many seconds there is.
        """
        if (wait := self.wait(key)) > 0:
            raise limited(wait)
        self._free_at[key] = max(self._free_at.get(key, 0.0), self._now()) + self.interval
        self._free_at.move_to_end(key)
        if len(self._free_at) > _REMEMBERED:
            self._free_at.popitem(last=False)


class RateLimit:
    """So many requests per minute for each caller, as this process counts them."""

    def __init__(self, per_minute: int, now: Callable[[], float] = monotonic) -> None:
        self._buckets = Buckets(per_minute, now)

    async def spend(self, caller: Caller) -> None:
        """Take one request from the caller's minute; raises RateLimited."""
        self._buckets.spend(_key(caller))


class SharedRateLimit:
    """So many requests per minute for each caller, over all brokers of one database.

    While the database cannot be asked, each process counts by itself: nobody is turned away for that, and nobody is let
    in without limit. It is asked again after five seconds.
    """

    def __init__(self, per_minute: int, tally: Tally, now: Callable[[], float] = monotonic) -> None:
        self._buckets = Buckets(per_minute, now)
        self._tally = tally
        self._now = now
        self._alone_until = 0.0

    async def spend(self, caller: Caller) -> None:
        """Take one request from the caller's minute; raises RateLimited."""
        self._buckets.spend(_key(caller))
        if self._now() < self._alone_until:
            return
        try:
            async with asyncio.timeout(_PATIENCE):
                wait = await self._tally.spend(
                    hashlib.sha256(_key(caller).encode()).digest(), self._buckets.interval, self._buckets.burst
                )
        except (AuditUnavailable, TimeoutError) as problem:
            self._alone_until = self._now() + _PAUSE
            _log.warning("requests are counted by this process alone", detail=str(problem) or "no answer in time")
            return
        if wait > 0:
            raise limited(wait)


def limited(wait: float) -> RateLimited:
    """Make the refusal that says when to come again; `wait` is in seconds."""
    return RateLimited(retry_after=max(1, ceil(wait)))


@lru_cache(maxsize=4096)
def network_of(address: str) -> str:
    """Answer what counts as one stranger: an address of IPv4, or the /64 of one of IPv6, which one host has whole."""
    parsed = address_of(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Address(int(parsed) >> _NETWORK << _NETWORK))
    return address if parsed is None else str(parsed)


def _key(caller: Caller) -> str:
    return f"{caller.issuer}\0{caller.subject}"
