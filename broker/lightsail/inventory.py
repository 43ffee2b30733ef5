"""What is where: instances and catalogue of all configured regions, cached, refreshed behind the scenes.

Each account and region stands alone: one that fails keeps serving what it last said, for a bounded time, and never
holds up another. Access details do not pass through here and are never cached.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from broker.errors import Denied
from broker.lightsail.catalogue import Catalogue
from broker.lightsail.listings import InstanceRecord
from broker.lightsail.region import Freshness, Region, Source
from broker.model import Blueprint, Bundle, Clock, Health, Instance, InstanceRef, Measure, is_resource_name, utc_now

_log = logging.getLogger(__name__)

COMPONENT = "lightsail"
FIRST_LISTS_SECONDS = 2.0
"""So long after the start callers wait for the first lists; then a region without one holds up nobody."""


@dataclass(frozen=True, slots=True)
class _Descriptions:
    """The instances of a region as one listing and one catalogue tell of them, by name."""

    read_at: datetime | None
    catalogue: Catalogue
    instances: dict[str, Instance] = field(default_factory=dict)


class Inventory:
    """Finds instances, blueprints and bundles.

    Args:
        source: Asked for lists, one region at a time.
        clock: Tells how old they are.
        freshness: How old they may be.
    """

    def __init__(self, source: Source, clock: Clock = utc_now, freshness: Freshness | None = None) -> None:
        self._freshness = freshness or Freshness()
        self._regions = {place: Region(source, place, clock, self._freshness) for place in source.places}
        self._merged: tuple[tuple[Catalogue | None, ...], Catalogue] = ((), Catalogue())
        self._described_by: dict[tuple[str, str], _Descriptions] = {}
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to read everything, and to refresh it. Waits for nothing: `health` tells what has not come yet."""
        self._loop = asyncio.create_task(self._keep_fresh())

    async def close(self) -> None:
        """End all that runs in the background."""
        if self._loop is not None:
            self._loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop
        for region in self._regions.values():
            await region.close()

    async def find(self, target: str) -> tuple[Instance, ...]:
        """Answer the instances of that name: none, one, or several when a bare name is ambiguous.

        A name that is not there takes no longer than one that is, so that time does not tell which names exist. The
        regions list anew once it was answered: an instance that was just created is found at a later try.

        Args:
            target: A bare name, or `account/region/name`.

        Raises:
            UpstreamError: Nothing was found, and a region where it may be cannot be listed.
            UpstreamUnavailable: Likewise.
        """
        name, regions = self._where(target)
        await self._settle(regions)
        records = _records(regions, name)
        if not records:
            for region in regions:
                region.look_again()
            await _raise_if_blind(regions)
        return await self._describe(records)

    async def fresh(self, instance: Instance, within: timedelta) -> Instance:
        """Answer an instance as AWS describes it now, or described it so recently; many who ask at once ask AWS once.

        Raises:
            Denied: it is not there any more.
            UpstreamError: AWS cannot be asked, and what is known is older.
            UpstreamUnavailable: Likewise.
        """
        listing = self._regions[instance.ref.account, instance.ref.region].listing
        for _ in range(2):  # a list that was under way already may have begun too long ago
            if listing.age is None or listing.age > within:
                await listing.refresh()
                if listing.failure is not None:
                    raise listing.failure.with_traceback(None)
        found = await self.find(str(instance.ref))
        if not found:
            raise Denied("no such instance any more")
        return found[0]

    async def instances(self) -> tuple[Instance, ...]:
        """Answer all instances of the regions that can be listed; raise when none can."""
        regions = tuple(self._regions.values())
        await self._settle(regions)
        if all(region.listing.peek() is None for region in regions):
            await _raise_if_blind(regions)
        return await self._describe([record for region in regions for record in (region.listing.peek() or {}).values()])

    async def blueprints(self, *, include_inactive: bool = False) -> tuple[Blueprint, ...]:
        """Answer the blueprints of all regions together, each id once."""
        found = (await self._catalogue()).blueprints.values()
        return tuple(item for item in found if include_inactive or item.is_active)

    async def bundles(self, blueprint_id: str | None = None, *, include_inactive: bool = False) -> tuple[Bundle, ...]:
        """Answer the bundles of all regions together; with a blueprint, those that support and can carry it.

        Raises:
            NotFound: There is no such blueprint.
        """
        found = (await self._catalogue()).runnable(blueprint_id)
        return tuple(item for item in found if include_inactive or item.is_active)

    @property
    def age(self) -> timedelta | None:
        """How old the oldest listing is that is served; None when a region has none."""
        ages = [region.listing.age for region in self._regions.values()]
        known = [age for age in ages if age is not None]
        return max(known, default=None) if len(known) == len(ages) else None

    def measures(self) -> Iterator[Measure]:
        """Answer how old the listing of each region is."""
        for place, region in self._regions.items():
            if region.listing.age is not None:
                yield Measure("lightsail_inventory_age_seconds", region.listing.age.total_seconds(), place)

    def health(self) -> Health:
        """Tell which regions fail. The component is ready as long as one region answers: it can serve that one."""
        failing = {str(region): region.trouble for region in self._regions.values()}
        detail = "; ".join(f"{place}: {trouble}" for place, trouble in failing.items() if trouble)
        return Health(COMPONENT, ready=not all(failing.values()), detail=detail)

    def _where(self, target: str) -> tuple[str, tuple[Region, ...]]:
        if ref := InstanceRef.parse(target):
            region = self._regions.get((ref.account, ref.region))
            return ref.name, (region,) if region else ()
        return target, tuple(self._regions.values()) if is_resource_name(target) else ()

    async def _settle(self, regions: Iterable[Region]) -> None:
        waiting = [r for r in regions if r.listing.peek() is None or r.catalogue.peek() is None]
        if waiting:
            await asyncio.gather(*(region.settle() for region in waiting))

    async def _describe(self, records: Iterable[InstanceRecord]) -> tuple[Instance, ...]:
        """Join records and catalogue. An instance whose platform nothing tells is left out: it cannot be decided on."""
        records = tuple(records)
        catalogue = await self._catalogue() if records else Catalogue()
        if any(record.blueprint not in catalogue.blueprints for record in records):
            for region in self._regions.values():
                region.reconsider_platforms()
        return tuple(filter(None, (self._described(record, catalogue) for record in records)))

    def _described(self, record: InstanceRecord, catalogue: Catalogue) -> Instance | None:
        """Describe an instance once for each listing of its region and each catalogue."""
        place = record.ref.account, record.ref.region
        read_at = self._regions[place].listing.fetched_at
        known = self._described_by.get(place)
        if known is None or known.read_at is not read_at or known.catalogue is not catalogue:
            known = self._described_by[place] = _Descriptions(read_at, catalogue)
        if (instance := known.instances.get(record.ref.name)) is None:
            if (described := catalogue.describe(record)) is None:
                _log.warning("%s is left out: nothing tells the platform of its blueprint", record.ref)
                return None
            instance = known.instances[record.ref.name] = replace(described, read_at=read_at)
        return instance

    async def _catalogue(self) -> Catalogue:
        """Answer what all regions offer together; one that cannot say takes nothing from the others."""
        catalogues = [region.catalogue for region in self._regions.values()]
        known = tuple(catalogue.peek() for catalogue in catalogues)
        if not all(known):
            absent = [catalogue.get() for catalogue in catalogues if catalogue.peek() is None]
            await asyncio.gather(*absent, return_exceptions=True)  # `health` tells why
            known = tuple(catalogue.peek() for catalogue in catalogues)
            if not any(known):
                return await catalogues[0].get()
        if not _same(known, self._merged[0]):
            merged = Catalogue()
            for catalogue in known:
                merged = merged | catalogue if catalogue else merged
            self._merged = (known, merged)
        return self._merged[1]

    async def _keep_fresh(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LISTS_SECONDS):
                await self._settle(self._regions.values())
        for region in self._regions.values():
            region.wait_no_longer()
        every = self._freshness.refresh_every / len(self._regions)
        await asyncio.gather(*(self._keep(each, every * n) for n, each in enumerate(self._regions.values(), start=1)))

    async def _keep(self, region: Region, first: timedelta) -> None:
        """Refresh one region again and again, each at a moment of its own: all at once would hold up requests."""
        await asyncio.sleep(first.total_seconds())
        while True:
            try:
                await region.refresh()
            except Exception as problem:  # noqa: BLE001 -- it will be tried again
                _log.error("the refresh of a region failed unexpectedly: %s", type(problem).__name__)
            await asyncio.sleep(self._freshness.refresh_every.total_seconds())


def _records(regions: Iterable[Region], name: str) -> list[InstanceRecord]:
    listings = (region.listing.peek() or {} for region in regions)
    return [listing[name] for listing in listings if name in listing]


async def _raise_if_blind(regions: Iterable[Region]) -> None:
    """Raise why a region cannot be listed. Saying that there is no such instance would be a guess."""
    for region in regions:
        if region.listing.peek() is None:
            await region.listing.get()


def _same(some: tuple[object, ...], others: tuple[object, ...]) -> bool:
    return len(some) == len(others) and all(one is other for one, other in zip(some, others, strict=True))
