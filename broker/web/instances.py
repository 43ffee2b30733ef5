"""What the caller may reach, and the catalogue: `/v1/instances`, `/v1/blueprints`, `/v1/bundles`."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Annotated, Any, Protocol

import orjson
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from broker import errors
from broker.issuing import rooms
from broker.model import (
    Action,
    Blueprint,
    Bundle,
    Caller,
    Clock,
    Instance,
    Platform,
    RequestContext,
    Source,
)
from broker.web.encoding import cursor, position
from broker.web.routes import Answer, AnyRoute, Input, Nothing, Output, Visit, guarded_get


class InstanceOut(Output):
    """An instance that the caller may see. `protocols` are those that the policies would open, now or with more."""

    account: str
    region: str
    name: str
    platform: Platform
    blueprint: str
    bundle: str
    state: str
    tags: dict[str, str]
    protocols: list[str]
    warnings: list[str]


class InstancePage(Output):
    """One page of instances."""

    items: list[InstanceOut]
    next_cursor: str | None


class _Aws(Output):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, from_attributes=True)


class BlueprintOut(_Aws):
    """A blueprint, under AWS's own names."""

    blueprint_id: str
    name: str
    group: str
    type: str
    description: str
    is_active: bool
    min_power: int
    version: str
    version_code: str
    product_url: str
    license_url: str
    platform: Platform
    app_category: str | None = None


class BundleOut(_Aws):
    """A bundle, under AWS's own names. Price in US$ a month, sizes in GB."""

    bundle_id: str
    name: str
    instance_type: str
    is_active: bool
    price: float
    cpu_count: int
    ram_size_in_gb: float
    disk_size_in_gb: int
    transfer_per_month_in_gb: int
    power: int
    supported_platforms: list[Platform]
    supported_app_categories: list[str]
    public_ipv4_address_count: int | None = None


class BlueprintPage(Output):
    """All blueprints."""

    items: list[BlueprintOut]
    next_cursor: None = None


class BundlePage(Output):
    """All bundles, or all that can run one blueprint."""

    items: list[BundleOut]
    next_cursor: None = None


class Page(Input):
    """Where to go on in the listing, and how far."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    cursor: Annotated[str, Field(max_length=1000)] | None = None


class CatalogueQuery(Input):
    """Whether to show what can no longer be bought."""

    include_inactive: bool = False


class BundleQuery(CatalogueQuery):
    """Only bundles that can run this blueprint."""

    blueprint: Annotated[str, Field(max_length=255)] | None = None


class Inventory(rooms.Inventory, Protocol):
    """Knows instances and catalogue."""

    async def instances(self) -> tuple[Instance, ...]:
        """Answer all instances of all accounts and regions."""
        ...

    async def blueprints(self, *, include_inactive: bool = False) -> tuple[Blueprint, ...]:
        """Answer the blueprints."""
        ...

    async def bundles(self, blueprint_id: str | None = None, *, include_inactive: bool = False) -> tuple[Bundle, ...]:
        """Answer the bundles, or those that can run the blueprint; raises NotFound for an unknown one."""
        ...


class Instances:
    """The routes that look, and change nothing."""

    def __init__(self, inventory: Inventory, policies: rooms.Policies, clock: Clock) -> None:
        self._inventory = inventory
        self._policies = policies
        self._clock = clock

    def routes(self) -> list[AnyRoute[Any, Any]]:
        """Answer the routes."""
        upstream = (errors.UpstreamError, errors.UpstreamUnavailable)
        unchanged = {304: "Nothing has changed since the ETag in If-None-Match"}
        return [
            guarded_get(
                "/v1/instances",
                "List the instances that the caller may reach",
                self.list,
                query=Page,
                answer=InstancePage,
                errors=upstream,
            ),
            guarded_get(
                "/v1/instances/{account}/{region}/{name}",
                "Show one instance",
                self.show,
                query=Nothing,
                answer=InstanceOut,
                errors=(errors.Denied, *upstream),
            ),
            guarded_get(
                "/v1/blueprints",
                "List the blueprints",
                self.blueprints,
                query=CatalogueQuery,
                answer=BlueprintPage,
                also=unchanged,
                errors=upstream,
            ),
            guarded_get(
                "/v1/bundles",
                "List the bundles; with a blueprint, those that can run it",
                self.bundles,
                query=BundleQuery,
                answer=BundlePage,
                also=unchanged,
                errors=(errors.NotFound, *upstream),
            ),
        ]

    async def list(self, visit: Visit[Page, Nothing], caller: Caller) -> Answer:
        """Answer one page of the instances that the caller may see, in the order of their full names."""
        after = position(visit.query.cursor) if visit.query.cursor else ""
        everything = sorted(await self._inventory.instances(), key=lambda instance: str(instance.ref))
        rest = iter([i for i in everything if str(i.ref) > after])
        seen: list[Instance] = []
        while len(seen) <= visit.query.limit and (some := [*islice(rest, visit.query.limit + 1)]):
            seen += await self._seen(caller, some, visit.source)
        page = seen[: visit.query.limit]
        return Answer(
            InstancePage(
                items=[await self._describe(caller, instance, visit.source) for instance in page],
                next_cursor=cursor(str(page[-1].ref)) if len(seen) > len(page) else None,
            )
        )

    async def show(self, visit: Visit[Nothing, Nothing], caller: Caller) -> Answer:
        """Answer one instance; hidden and missing are refused alike."""
        path = visit.path
        found = await self._inventory.find(f"{path['account']}/{path['region']}/{path['name']}")
        for instance in await self._seen(caller, found, visit.source):
            return Answer(await self._describe(caller, instance, visit.source))
        raise errors.Denied

    async def blueprints(self, visit: Visit[CatalogueQuery, Nothing], _: Caller) -> Answer:
        """Answer the blueprints."""
        items = await self._inventory.blueprints(include_inactive=visit.query.include_inactive)
        return _tagged(BlueprintPage(items=[BlueprintOut.model_validate(item) for item in items]), visit.if_none_match)

    async def bundles(self, visit: Visit[BundleQuery, Nothing], _: Caller) -> Answer:
        """Answer the bundles."""
        items = await self._inventory.bundles(visit.query.blueprint, include_inactive=visit.query.include_inactive)
        return _tagged(BundlePage(items=[BundleOut.model_validate(item) for item in items]), visit.if_none_match)

    def _context(self, source: Source) -> RequestContext:
        return RequestContext(now=self._clock(), source_ip=source.ip)

    async def _seen(self, caller: Caller, instances: Sequence[Instance], source: Source) -> Sequence[Instance]:
        decisions = await self._policies.decide_each(caller, Action.LIST, instances, self._context(source))
        return [instance for instance, decision in zip(instances, decisions, strict=True) if decision.allowed]

    async def _describe(self, caller: Caller, instance: Instance, source: Source) -> InstanceOut:
        # Finding out what would lift a denial takes a dozen decisions: others get their turn in between.
        await asyncio.sleep(0)
        protocol = instance.platform.protocol
        reachable = self._policies.within_reach(caller, Action(protocol), instance, self._context(source))
        return InstanceOut(
            account=instance.ref.account,
            region=instance.ref.region,
            name=instance.ref.name,
            platform=instance.platform,
            blueprint=instance.blueprint,
            bundle=instance.bundle,
            state=instance.state,
            tags=dict(instance.tags),
            protocols=[str(protocol)] if reachable else [],
            warnings=[*instance.warnings],
        )


def _tagged(page: BlueprintPage | BundlePage, if_none_match: str) -> Answer:
    """Answer a page with its ETag (RFC 9110, section 8.8.3), or 304 to whoever has it already."""
    content = orjson.dumps(page.model_dump(mode="json", by_alias=True, exclude_none=False))
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers: Mapping[str, str] = {"ETag": etag}
    if {etag, "*"} & _entity_tags(if_none_match):
        return Answer(status=304, headers=headers)
    return Answer(content, headers=headers)


def _entity_tags(header: str) -> set[str]:
    return {tag.strip().removeprefix("W/") for tag in header.split(",")}
