"""The issuers' key sets: fetched once for all who wait, refreshed ahead of time, kept when the issuer is down (I/O).

Two budgets keep strangers from deciding when we fetch. A token with an unknown key id causes at most one fetch per
cool-down; the scheduled refresh has a clock of its own, which no token can use up. Each issuer has one cache with at
most one fetch under way, so a hanging issuer holds up nobody but the callers it vouches for.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from broker.identity.fetching import Fetched, FetchFailed, open_session
from broker.identity.keys import BadKeySet, KeySet, parse_key_set
from broker.identity.sources import KeySource, key_source
from broker.model import Health, Measure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import aiohttp

    from broker.identity.issuers import Issuer

_logger: Final = logging.getLogger(__name__)
_MAX_UNKNOWN: Final = 4096
_MAX_WAITING: Final = 4096
"""Tokens that wait for one issuer's keys; one more is judged at once, by the keys that are there."""
_FIRST_LOAD_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often to ask an issuer, in seconds."""

    cooldown: float = 30.0
    """Between two fetches that tokens with unknown key ids cause."""
    usual: float = 300.0
    """For how long a set is fresh when its sender does not say. It is fetched again at half of that."""
    shortest: float = 60.0
    longest: float = 3600.0
    stale: float = 86400.0
    """For how long after the last good fetch a set is still believed. Then the issuer's tokens are refused."""
    patience: float = 5.0
    """For one load as a whole."""


_FILE_PACE: Final = Pace(cooldown=1.0, usual=4.0, shortest=4.0, longest=4.0)


class KeyCache:
    """The key set of one issuer, over time.

    Args:
        name: the issuer's short name.
        source: where the key set comes from.
        pace: how often it is asked.
        monotonic: seconds that only grow.
    """

    def __init__(
        self, name: str, source: KeySource, pace: Pace, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._name = name
        self._source = source
        self._pace = pace
        self._monotonic = monotonic
        self._keys: KeySet | None = None
        self._loaded_at = 0.0
        self._fresh_for = pace.usual
        self._failures = 0
        self._problem = "not fetched yet"
        self._asked_at = float("-inf")
        self._unknown: dict[str, float] = {}
        self._flight: asyncio.Task[None] | None = None
        self._waiting = 0
        self._schedule: asyncio.Task[None] | None = None

    @property
    def current(self) -> KeySet | None:
        """The keys that may be relied on now; None when there are none, or none recent enough."""
        return self._keys if self._age() <= self._pace.stale else None

    @property
    def trouble(self) -> str:
        """What is wrong, in words for operators; empty when all is well."""
        if self.current is None:
            return f"no keys ({self._problem})"
        if self._problem:
            return f"keys are {self._age():.0f} s old, the last fetch failed ({self._problem})"
        return ""

    @property
    def age(self) -> float:
        """How many seconds ago the keys were fetched; infinite while there are none."""
        return self._age()

    async def for_token(self, key_id: str | None) -> KeySet | None:
        """Answer the keys to judge a token with this key id, fetching them first where that may help.

        A caller that is cancelled while it waits does not cancel the fetch for the others.
        """
        self._keep_schedule()
        if not self._knows(key_id) and self._may_ask(key_id) and self._waiting < _MAX_WAITING:
            self._waiting += 1
            try:
                await self.refresh()
            finally:
                self._waiting -= 1
            self._remember_unknown(key_id)
        return self.current

    async def refresh(self) -> None:
        """Fetch now, or wait for the fetch that is under way. A failure is noted and keeps the last good set."""
        if self._flight is None or self._flight.done():
            self._flight = asyncio.create_task(self._load(), name=f"keys of {self._name}")
        await asyncio.shield(self._flight)

    def start(self) -> None:
        """Begin to refresh ahead of time, starting now."""
        self._schedule = asyncio.create_task(self._refresh_for_ever(), name=f"schedule of {self._name}")

    async def close(self) -> None:
        """Stop refreshing and drop a fetch that is under way."""
        tasks = [task for task in (self._schedule, self._flight) if task is not None]
        self._schedule = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _age(self) -> float:
        return self._monotonic() - self._loaded_at if self._keys is not None else float("inf")

    def _knows(self, key_id: str | None) -> bool:
        keys = self.current
        return keys is not None and (key_id is None or keys.find(key_id) is not None)

    def _may_ask(self, key_id: str | None) -> bool:
        now = self._monotonic()
        if key_id is not None and self._unknown.get(key_id, now) > now:
            return False
        if self._flight is not None and not self._flight.done():
            return True  # judged before it has landed, all but the first caller under a new key would be refused
        if now - self._asked_at < self._pace.cooldown:
            return False
        self._asked_at = now
        return True

    def _remember_unknown(self, key_id: str | None) -> None:
        """Note a key id that a successful fetch did not bring, so that asking again and again fetches less often."""
        if key_id is None or self._problem or self._knows(key_id):
            return
        if len(self._unknown) >= _MAX_UNKNOWN:
            del self._unknown[next(iter(self._unknown))]
        self._unknown.pop(key_id, None)
        self._unknown[key_id] = self._monotonic() + 2 * self._pace.cooldown

    async def _refresh_for_ever(self) -> None:
        while True:
            await self.refresh()
            await asyncio.sleep(self._pause())

    def _pause(self) -> float:
        """Half the freshness; after a failure 1, 2, 4 … seconds up to the cool-down."""
        if self._failures:
            return min(2.0 ** min(self._failures - 1, 16), self._pace.cooldown)
        return self._fresh_for / 2

    def _keep_schedule(self) -> None:
        if self._schedule is not None and self._schedule.done():
            _logger.error("the scheduled refresh of issuer %s had ended; it is started again", self._name)
            self.start()

    async def _load(self) -> None:
        try:
            async with asyncio.timeout(self._pace.patience):
                fetched = await self._source.load()
            self._accept(fetched)
        except TimeoutError:
            self._fail("timeout")
        except (FetchFailed, BadKeySet) as problem:
            self._fail(str(problem))
        except Exception as problem:  # what a library did not foresee must neither end the schedule nor reach a caller
            _logger.exception("the keys of issuer %s could not be read", self._name)
            self._fail(type(problem).__name__)

    def _accept(self, fetched: Fetched) -> None:
        former = self._keys
        if former is None or hashlib.sha256(fetched.body).digest() != former.sha256:
            self._keys = parse_key_set(fetched.body)
            self._report_change(former, self._keys)
        said = self._pace.usual if fetched.max_age is None else fetched.max_age
        self._fresh_for = min(max(said, self._pace.shortest), self._pace.longest)
        self._loaded_at = self._monotonic()
        self._problem, self._failures = "", 0

    def _fail(self, problem: str) -> None:
        if problem != self._problem:
            _logger.warning("the keys of issuer %s could not be fetched: %s", self._name, problem)
        self._problem, self._failures = problem, self._failures + 1

    def _report_change(self, former: KeySet | None, keys: KeySet) -> None:
        _logger.info("issuer %s has %d usable keys", self._name, len(keys.keys))
        if keys.dropped:
            _logger.warning("keys of issuer %s that are not used: %s", self._name, dict(keys.dropped))
        if former is not None and keys.reused_ids(former):
            _logger.warning("issuer %s put other key material under a key id in use", self._name)


class KeyRing:
    """The key caches of all issuers, and the one HTTP session they share.

    Args:
        issuers: whose keys to keep.
        pace: how often an issuer is asked over HTTP; files are looked at every two seconds.
    """

    def __init__(self, issuers: Sequence[Issuer], pace: Pace | None = None) -> None:
        self._http: aiohttp.ClientSession | None = None
        self._caches = {
            issuer.name: KeyCache(
                issuer.name,
                key_source(issuer, self._session),
                _FILE_PACE if issuer.jwks_file is not None else pace or Pace(),
            )
            for issuer in issuers
        }

    def current(self, issuer: str) -> KeySet | None:
        """Answer the keys of the issuer of this short name that may be relied on now."""
        return self._caches[issuer].current

    async def for_token(self, issuer: str, key_id: str | None) -> KeySet | None:
        """Answer the keys to judge a token by; see `KeyCache.for_token`."""
        return await self._caches[issuer].for_token(key_id)

    async def refresh(self) -> None:
        """Fetch the keys of all issuers now. Failures show in `health`."""
        await asyncio.gather(*(cache.refresh() for cache in self._caches.values()))

    async def start(self) -> None:
        """Begin to fetch. Waits up to a second for the first sets, and never fails for an unreachable issuer."""
        for cache in self._caches.values():
            cache.start()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.refresh(), _FIRST_LOAD_SECONDS)

    async def close(self) -> None:
        """Stop fetching and close the HTTP session."""
        await asyncio.gather(*(cache.close() for cache in self._caches.values()))
        if self._http is not None:
            await self._http.close()

    def measures(self) -> Iterator[Measure]:
        """Answer how old the keys of each issuer are."""
        for name, cache in self._caches.items():
            yield Measure("issuer_keys_age_seconds", cache.age, (name,))

    def health(self) -> Health:
        """Ready while every issuer has keys that may be relied on; `detail` names the issuers in trouble."""
        troubles = [f"{name}: {cache.trouble}" for name, cache in self._caches.items() if cache.trouble]
        ready = all(cache.current is not None for cache in self._caches.values())
        return Health("issuers", ready, "; ".join(troubles))

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            self._http = open_session()
        return self._http
