"""A value that is fetched from far away, kept for a while, and served a little longer while it cannot be fetched."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from broker.errors import BrokerError, UpstreamUnavailable
from broker.lightsail.flight import SingleFlight
from broker.model import Clock

Value = TypeVar("Value")

RETRY_AFTER_FAILURE = timedelta(seconds=5)
"""While nothing can be served, AWS is asked so often and no more, however many callers ask."""
_NOT_YET = "no answer yet"


class Cached(Generic[Value]):
    """Keeps the last value that `fetch` brought.

    Args:
        fetch: Brings a new value or raises a BrokerError; runs once at a time.
        clock: Tells the time.
        fresh: For so long nobody asks again.
        stale: For so long the value is served at all; after that it is as if there had never been one.
    """

    def __init__(
        self, fetch: Callable[[], Awaitable[Value]], clock: Clock, *, fresh: timedelta, stale: timedelta
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._fresh, self._stale = fresh, stale
        self._value: Value | None = None
        self._fetched_at: datetime | None = None
        self._tried_at: datetime | None = None
        self.failure: BrokerError | None = None
        """Why the last attempt failed; None when it did not."""
        self._flight = SingleFlight(self._refresh)
        self._told = asyncio.Event()  # what whoever has nothing yet waits for

    @property
    def fetched_at(self) -> datetime | None:
        """When the value was asked for; None when there is none."""
        return self._fetched_at

    @property
    def age(self) -> timedelta | None:
        """How old the value is; None when there is none."""
        return self._clock() - self._fetched_at if self._fetched_at else None

    @property
    def trouble(self) -> str:
        """Say what is wrong: why the last attempt failed, or that there is nothing to serve; empty when all is well."""
        if self.failure is not None:
            return self.failure.cause
        return "" if self.age is not None and self.age <= self._stale else _NOT_YET

    def peek(self) -> Value | None:
        """Answer the value if it may be served; never waits, but begins to fetch when the value is not fresh."""
        if (age := self.age) is None or age > self._stale:
            return None
        if age > self._fresh and not self.tried_within(self._fresh / 4):
            self._flight.start()
        return self._value

    async def get(self) -> Value:
        """Answer the value; raise why there is none.

        Waits for the first fetch only. When that failed, callers are told so at once and the next fetch happens
        behind their backs: a region that is down costs them no time.
        """
        value = self.peek()
        if value is None and self.failure is None:
            if not self._flight.running:
                self._told.clear()
            self._flight.start()
            await self._told.wait()
            value = self.peek()
        if value is not None:
            return value
        if not self.tried_within(RETRY_AFTER_FAILURE):
            self._flight.start()
        raise self._reason()

    def wait_no_longer(self) -> None:
        """Take a first fetch that is still under way for one that failed, until it ends."""
        if self._value is None and self.failure is None:
            self.failure = UpstreamUnavailable(_NOT_YET, retry_after=1)
        self._told.set()

    async def refresh(self) -> None:
        """Fetch now, or wait for the fetch that is under way. A failure is kept in `failure`, not raised."""
        await self._flight.join()

    def tried_within(self, time: timedelta) -> bool:
        """Tell whether the last fetch ended less than `time` ago, whatever its outcome."""
        return self._tried_at is not None and self._clock() - self._tried_at < time

    async def close(self) -> None:
        """End a fetch that is under way."""
        await self._flight.stop()

    def _reason(self) -> BrokerError:
        return self.failure.with_traceback(None) if self.failure else UpstreamUnavailable("the answer was too slow")

    async def _refresh(self) -> None:
        began = self._clock()  # what AWS says may be as old as this
        try:
            self._value = await self._fetch()
        except BrokerError as failure:
            self.failure = failure
        else:
            self.failure = None
            self._fetched_at = began
        finally:
            self._tried_at = self._clock()
            self._told.set()
