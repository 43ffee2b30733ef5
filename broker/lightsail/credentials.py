"""The broker's own AWS credentials: read once, renewed early, by one at a time, off the path of requests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from aiobotocore.credentials import AioCredentials

from broker.errors import BrokerError
from broker.lightsail.faults import translate
from broker.lightsail.flight import SingleFlight

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials

    from broker.model import Clock

EARLY = timedelta(minutes=15)
"""So long before they end, temporary credentials are renewed behind the scenes, or after half their life."""
MARGIN = timedelta(seconds=30)
"""What ends within this time is not signed with any more."""
COOL_DOWN = timedelta(seconds=5)
"""After a failure, so long the same failure is answered without asking again."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Keys that belong together, and when they end; None when they never do."""

    keys: ReadOnlyCredentials = field(repr=False)
    since: datetime
    until: datetime | None = None

    def usable(self, now: datetime) -> bool:
        """Tell whether one may still sign with them."""
        return self.until is None or now < self.until - MARGIN

    def ageing(self, now: datetime) -> bool:
        """Tell whether it is time to renew them, while they still hold."""
        return self.until is not None and now > self.until - min(EARLY, (self.until - self.since) / 2)


class RenewableCredentials(AioCredentials):
    """What the SDK signs with, in the shape of its own credentials. It asks for the current ones before each request.

    Args:
        load: Fetches new ones; whatever it raises becomes a BrokerError.
        clock: Tells the time.
    """

    def __init__(self, load: Callable[[], Awaitable[Loaded]], clock: Clock) -> None:
        super().__init__("", "", method="broker")
        self._load = load
        self._clock = clock
        self._loaded: Loaded | None = None
        self._failure: BrokerError | None = None
        self._quiet_until: datetime | None = None
        self._flight = SingleFlight(self._renew)

    async def get_frozen_credentials(  # type: ignore[override]  # the stub's base is not asynchronous, the SDK is
        self,
    ) -> ReadOnlyCredentials:
        """Answer credentials that hold; raise a BrokerError when there are none."""
        return (await self.ready()).keys

    async def ready(self) -> Loaded:
        """Answer what there is to sign with now; `discard` takes it back."""
        now = self._clock()
        if self._loaded is None or not self._loaded.usable(now):
            return await self._renewed(now)
        if self._loaded.ageing(now) and not self._cooling(now):
            self._flight.start()
        return self._loaded

    def discard(self, seen: Loaded) -> None:
        """Forget the credentials that AWS called expired, unless somebody renewed them meanwhile."""
        if self._loaded is seen:
            self._loaded = None

    async def close(self) -> None:
        """End a renewal that is under way."""
        await self._flight.stop()

    async def _renewed(self, now: datetime) -> Loaded:
        if self._failure is not None and self._cooling(now):
            raise self._failure.with_traceback(None)
        return await self._flight.join()

    def _cooling(self, now: datetime) -> bool:
        return self._quiet_until is not None and now < self._quiet_until

    async def _renew(self) -> Loaded:
        try:
            self._loaded = await self._load()
        except Exception as failure:  # noqa: BLE001 - a provider of credentials may raise anything; translate knows
            self._failure = translate(failure, "loading AWS credentials")
        else:
            self._failure = self._quiet_until = None
            return self._loaded
        self._quiet_until = self._clock() + COOL_DOWN
        raise self._failure
