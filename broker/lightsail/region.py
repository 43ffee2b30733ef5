"""What is known of one account and region: its instances and its catalogue, cached, refreshed behind the scenes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from broker.errors import BrokerError
from broker.lightsail.cached import Cached
from broker.lightsail.catalogue import Catalogue
from broker.lightsail.flight import SingleFlight, both
from broker.lightsail.listings import InstanceRecord, KeyPair
from broker.model import Blueprint, Bundle, Clock

_log = logging.getLogger(__name__)


class Source(Protocol):
    """What the inventory asks; the gateway, in the service."""

    @property
    def places(self) -> tuple[tuple[str, str], ...]:
        """Every account and region that is configured."""
        ...

    async def instances(self, account: str, region: str) -> tuple[InstanceRecord, ...]:
        """Answer all instances of a region."""
        ...

    async def key_pairs(self, account: str, region: str) -> tuple[KeyPair, ...]:
        """Answer all key pairs of a region."""
        ...

    async def blueprints(self, account: str, region: str) -> tuple[Blueprint, ...]:
        """Answer all blueprints of a region, inactive ones too."""
        ...

    async def bundles(self, account: str, region: str) -> tuple[Bundle, ...]:
        """Answer all bundles of a region, inactive ones too."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """How old what is served may be. Policies decide by tags and state: `stale` bounds how old their facts are."""

    instances: timedelta = timedelta(seconds=60)
    stale: timedelta = timedelta(minutes=10)
    catalogue: timedelta = timedelta(hours=1)
    catalogue_stale: timedelta = timedelta(days=1)
    refresh_every: timedelta = timedelta(seconds=45)
    """Below `instances`, so that requests find fresh data; it also keeps a connection to each region warm."""
    before_look: timedelta = timedelta(milliseconds=250)
    """A name that is not there makes a region list anew, after its caller was answered: the work must not be felt."""
    after_miss: timedelta = timedelta(seconds=10)
    """… but not more often than this."""
    after_unknown_blueprint: timedelta = timedelta(minutes=5)


Listing = dict[str, InstanceRecord]


class Region:
    """What is known of one account and region."""

    def __init__(self, source: Source, place: tuple[str, str], clock: Clock, freshness: Freshness) -> None:
        self._source = source
        self._place = place
        self.listing: Cached[Listing] = Cached(self._list, clock, fresh=freshness.instances, stale=freshness.stale)
        self.catalogue: Cached[Catalogue] = Cached(
            self._read_catalogue, clock, fresh=freshness.catalogue, stale=freshness.catalogue_stale
        )
        self._clock = clock
        self._freshness = freshness
        self._looked_at: datetime | None = None
        self._look = SingleFlight(self._look_again)
        self._reconsider = SingleFlight(self._reconsider_platforms)

    def __str__(self) -> str:
        return "/".join(self._place)

    async def _list(self) -> Listing:
        records, fingerprints = await both(self._source.instances(*self._place), self._fingerprints())
        return {
            record.ref.name: replace(record, key_pair_fingerprint=fingerprints.get(record.key_pair, ""))
            for record in records
        }

    async def _fingerprints(self) -> Mapping[str, str]:
        """Answer the fingerprint of each key pair. Without them nothing is compared, but instances are there."""
        try:
            return {pair.name: pair.fingerprint for pair in await self._source.key_pairs(*self._place)}
        except BrokerError as failure:
            _log.warning("the key pairs of %s cannot be listed: %s", self, failure.cause)
            return {}

    async def _read_catalogue(self) -> Catalogue:
        blueprints, bundles = await both(self._source.blueprints(*self._place), self._source.bundles(*self._place))
        return Catalogue.of(blueprints, bundles)

    async def settle(self) -> None:
        """Wait until there is something to serve, or it is plain that there is not."""
        await asyncio.gather(self.listing.get(), self.catalogue.get(), return_exceptions=True)  # `health` tells why

    def wait_no_longer(self) -> None:
        """Whoever asks for what has never come is told so at once from now on, until it comes."""
        self.listing.wait_no_longer()
        self.catalogue.wait_no_longer()

    async def refresh(self) -> None:
        """List the instances anew, and the catalogue when it is no longer fresh."""
        self.catalogue.peek()
        await self.listing.refresh()

    def look_again(self) -> None:
        """List anew in a moment, at the end of the cool-down at the latest. Never waits."""
        if self.listing.failure is None:
            self._look.start()

    def reconsider_platforms(self) -> None:
        """Read the catalogue anew, unless that was tried a short while ago. Never waits."""
        if not self.catalogue.tried_within(self._freshness.after_unknown_blueprint):
            self._reconsider.start()

    @property
    def trouble(self) -> str:
        """Say what is wrong here; empty when all is well."""
        troubles = dict.fromkeys((self.listing.trouble, self.catalogue.trouble))
        return ", ".join(filter(None, troubles))

    async def _look_again(self) -> None:
        await asyncio.sleep(self._until_next_look().total_seconds())
        self._looked_at = self._clock()
        await self.listing.refresh()

    async def _reconsider_platforms(self) -> None:
        await asyncio.sleep(self._freshness.before_look.total_seconds())
        await self.catalogue.refresh()

    def _until_next_look(self) -> timedelta:
        least = self._freshness.before_look
        if self._looked_at is None:
            return least
        return max(least, self._looked_at + self._freshness.after_miss - self._clock())

    async def close(self) -> None:
        """End all that runs in the background."""
        await self._look.stop()
        await self._reconsider.stop()
        await self.listing.close()
        await self.catalogue.close()
