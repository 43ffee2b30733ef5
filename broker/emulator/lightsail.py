"""The operations of Lightsail that are offered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import ClassVar

from broker.emulator.access import AccessDesk
from broker.emulator.callers import Caller
from broker.emulator.catalogue import BLUEPRINTS, bundles_of
from broker.emulator.descriptions import describe, port_states
from broker.emulator.errors import AwsError, not_found
from broker.emulator.estate import Estate, Instance
from broker.emulator.fixture import DEFAULT_KEY_PAIR
from broker.emulator.paging import Pages
from broker.emulator.regions import REGIONS, Region
from broker.emulator.shapes import Answer, Parameters


class Lightsail:
    """Lightsail in every Region: what one sees is chosen by the Region of the caller's credential scope."""

    def __init__(self, estate: Estate, access: AccessDesk, pages: Pages) -> None:
        self._estate = estate
        self._access = access
        self._pages = pages

    async def perform(self, operation: str, caller: Caller, parameters: Parameters) -> Answer:
        """Perform an operation.

        Raises:
            AwsError: UnrecognizedClientException for a Region where Lightsail is not offered, and whatever the
                operation says.
        """
        if caller.region not in REGIONS:
            raise AwsError("UnrecognizedClientException", "The security token included in the request is invalid.")
        return await self._OPERATIONS[operation](self, caller.region, parameters)

    async def _get_instance_access_details(self, region: str, parameters: Parameters) -> Answer:
        instance = self._instance(region, parameters)
        return {"accessDetails": await self._access.details(instance, parameters.get("protocol"))}

    async def _get_instance(self, region: str, parameters: Parameters) -> Answer:
        return {"instance": describe(self._instance(region, parameters))}

    async def _get_instances(self, region: str, parameters: Parameters) -> Answer:
        instances = [describe(instance) for instance in self._estate.instances.get(region, {}).values()]
        return self._listed("instances", instances, region, parameters)

    async def _get_instance_state(self, region: str, parameters: Parameters) -> Answer:
        return {"state": self._instance(region, parameters).state}

    async def _get_instance_port_states(self, region: str, parameters: Parameters) -> Answer:
        return {"portStates": port_states(self._instance(region, parameters))}

    async def _get_blueprints(self, region: str, parameters: Parameters) -> Answer:
        blueprints = [blueprint.described() for blueprint in BLUEPRINTS.values()]
        return self._listed("blueprints", _catalogue(blueprints, parameters), region, parameters)

    async def _get_bundles(self, region: str, parameters: Parameters) -> Answer:
        bundles = [bundle.described() for bundle in bundles_of(region).values()]
        return self._listed("bundles", _catalogue(bundles, parameters), region, parameters)

    async def _get_key_pair(self, region: str, parameters: Parameters) -> Answer:
        name = str(parameters["keyPairName"])
        pair = self._estate.key_pairs.get(region, {}).get(name)
        if pair is None:
            raise not_found("KeyPair", name)
        return {"keyPair": pair.described()}

    async def _get_key_pairs(self, region: str, parameters: Parameters) -> Answer:
        pairs = self._estate.key_pairs.get(region, {}).values()
        with_default = parameters.get("includeDefaultKeyPair", False)
        shown = [pair.described() for pair in pairs if with_default or pair.name != DEFAULT_KEY_PAIR]
        return self._listed("keyPairs", shown, region, parameters)

    async def _get_regions(self, region: str, parameters: Parameters) -> Answer:
        del region
        return {"regions": [_described(each, parameters) for each in REGIONS.values()]}

    def _instance(self, region: str, parameters: Parameters) -> Instance:
        name = str(parameters["instanceName"])
        instance = self._estate.instances.get(region, {}).get(name)
        if instance is None:
            raise not_found("Instance", name)
        return instance

    def _listed(
        self, member: str, items: Sequence[Mapping[str, object]], region: str, parameters: Parameters
    ) -> Answer:
        arguments = sorted((name, value) for name, value in parameters.items() if name != "pageToken")
        page, token = self._pages.page(items, parameters.get("pageToken"), f"{region}/{member}/{arguments}")
        return {member: list(page)} | ({} if token is None else {"nextPageToken": token})

    _OPERATIONS: ClassVar[Mapping[str, Callable[[Lightsail, str, Parameters], Awaitable[Answer]]]] = {
        "GetInstanceAccessDetails": _get_instance_access_details,
        "GetInstance": _get_instance,
        "GetInstances": _get_instances,
        "GetInstanceState": _get_instance_state,
        "GetInstancePortStates": _get_instance_port_states,
        "GetBlueprints": _get_blueprints,
        "GetBundles": _get_bundles,
        "GetKeyPair": _get_key_pair,
        "GetKeyPairs": _get_key_pairs,
        "GetRegions": _get_regions,
    }


def _catalogue(items: Sequence[Mapping[str, object]], parameters: Parameters) -> list[Mapping[str, object]]:
    """Leave out what is retired, unless asked for; nothing here belongs to Lightsail for Research."""
    if "appCategory" in parameters:
        return []
    return [item for item in items if item["isActive"] or parameters.get("includeInactive", False)]


def _described(region: Region, parameters: Parameters) -> dict[str, object]:
    zones = [{"zoneName": name, "state": "available"} for name in region.zone_names]
    return {
        "continentCode": region.continent,
        "description": f"This Region is in {region.display_name}.",
        "displayName": region.display_name,
        "name": region.name,
        "availabilityZones": zones if parameters.get("includeAvailabilityZones") else [],
        "relationalDatabaseAvailabilityZones": (
            zones if parameters.get("includeRelationalDatabaseAvailabilityZones") else []
        ),
    }
