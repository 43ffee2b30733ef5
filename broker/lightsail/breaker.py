"""Keeps one region's trouble from becoming everybody's: a circuit breaker and a bulkhead in one (pure but for time)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from broker.errors import BrokerError, UpstreamUnavailable
from broker.lightsail.faults import is_outage

FAILURES = 5
"""So many outages in a row open the breaker."""
OPEN_SECONDS = 5.0
"""For so long it refuses at once; then a single call finds out whether the region is back."""


class Breaker:
    """Guards the calls of one client.

    Args:
        limit: Calls at once; more are refused instead of queued, so it is at most the size of the connection pool.
        now: A monotonic clock, in seconds.
    """

    def __init__(self, limit: int, now: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._now = now
        self._in_flight = 0
        self._failures = 0
        self._closed_again_at = 0.0

    @property
    def in_flight(self) -> int:
        """How many calls are under way."""
        return self._in_flight

    @property
    def is_open(self) -> bool:
        """Whether calls are refused because the last ones failed."""
        return self._failures >= FAILURES and self._closed_again_at > self._now()

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """Let one call through and learn from its outcome; raise UpstreamUnavailable when it must not be made."""
        self._admit()
        self._in_flight += 1
        try:
            yield
        except BrokerError as error:
            self._learn(outage=is_outage(error))
            raise
        else:
            self._learn(outage=False)
        finally:
            self._in_flight -= 1

    def _admit(self) -> None:
        if self._in_flight >= self._limit:
            raise UpstreamUnavailable("too many calls to this region at once", retry_after=1)
        if self._failures < FAILURES:
            return
        if (wait := self._closed_again_at - self._now()) > 0:
            raise UpstreamUnavailable("this region failed several times in a row", retry_after=int(wait) + 1)
        self._closed_again_at = self._now() + OPEN_SECONDS  # the others wait for what this one finds

    def _learn(self, *, outage: bool) -> None:
        self._failures = self._failures + 1 if outage else 0
        if self._failures >= FAILURES:
            self._closed_again_at = self._now() + OPEN_SECONDS
