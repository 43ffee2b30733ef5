"""Blueprints and bundles of all configured regions, and what they say about an instance (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from broker.errors import NotFound
from broker.lightsail.listings import InstanceRecord
from broker.model import Blueprint, Bundle, Instance, Platform

PLATFORM_UNSUPPORTED = "The bundle {bundle} does not support the platform of the blueprint {blueprint}."
POWER_TOO_LOW = "The bundle {bundle} has less power than the blueprint {blueprint} needs."
PLATFORM_FROM_BUNDLE = "The blueprint {blueprint} is unknown; the platform is the only one that the bundle supports."


@dataclass(frozen=True)
class Catalogue:
    """By id. Blueprint ids mean the same everywhere; bundle ids differ by region (`nano_3_1` is Mumbai's)."""

    blueprints: dict[str, Blueprint] = field(default_factory=dict)
    bundles: dict[str, Bundle] = field(default_factory=dict)

    @classmethod
    def of(cls, blueprints: Iterable[Blueprint], bundles: Iterable[Bundle]) -> Catalogue:
        """Build one from records."""
        return cls({item.blueprint_id: item for item in blueprints}, {item.bundle_id: item for item in bundles})

    def __or__(self, other: Catalogue) -> Catalogue:
        """Answer both; where they differ, what this one says."""
        return Catalogue(other.blueprints | self.blueprints, other.bundles | self.bundles)

    def describe(self, record: InstanceRecord) -> Instance | None:
        """Answer the instance with its platform and warnings; None when nothing tells its platform.

        A guess would decide which policies fit and which protocol is tried. So the blueprint says it, or the bundle
        when it supports one platform only, or the instance stays unknown.
        """
        blueprint, bundle = self.blueprints.get(record.blueprint), self.bundles.get(record.bundle)
        if blueprint is not None:
            return record.on(blueprint.platform, tuple(_misfits(blueprint, bundle)))
        match bundle.supported_platforms if bundle else ():
            case (Platform() as platform,):
                return record.on(platform, (PLATFORM_FROM_BUNDLE.format(blueprint=record.blueprint),))
        return None

    def runnable(self, blueprint_id: str | None) -> tuple[Bundle, ...]:
        """Answer the bundles that can run the blueprint, or all; raise NotFound for an unknown one."""
        if blueprint_id is None:
            return tuple(self.bundles.values())
        blueprint = self.blueprints.get(blueprint_id)
        if blueprint is None:
            raise NotFound("no such blueprint", detail="There is no blueprint of this name.")
        return tuple(bundle for bundle in self.bundles.values() if bundle.can_run(blueprint))


def _misfits(blueprint: Blueprint, bundle: Bundle | None) -> Iterable[str]:
    if bundle is None or bundle.can_run(blueprint):
        return
    names = {"bundle": bundle.bundle_id, "blueprint": blueprint.blueprint_id}
    if blueprint.platform not in bundle.supported_platforms:
        yield PLATFORM_UNSUPPORTED.format(**names)
    if bundle.power < blueprint.min_power:
        yield POWER_TOO_LOW.format(**names)
