"""What Lightsail lists → records of ours (pure): instances, blueprints, bundles, key pairs.

One bad record does not hide the others: `readable` leaves it out and says how many were left out. What is left out
is unknown to the broker, so nobody gets in by it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from broker.errors import UpstreamError
from broker.lightsail.members import Members
from broker.model import Blueprint, Bundle, Instance, InstanceRef, Platform, is_resource_name

DEFAULT_KEY_PAIR = "LightsailDefaultKeyPair"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_STATE = re.compile(r"[a-z][a-z-]{0,31}")
_ARN = re.compile(r"arn:[a-z-]+:lightsail:[a-z0-9-]+:\d{12}:[A-Za-z]+/[A-Za-z0-9._-]{1,255}")
_FINGERPRINT = re.compile(r"[A-Za-z0-9+/=:]+")
_MAX_TAGS, _MAX_TAG_KEY, _MAX_TAG_VALUE = 50, 128, 256
_ANY_TEXT = re.compile(r"[^\x00\ud800-\udfff]*")

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """An instance as GetInstances alone describes it: all but the platform, which its blueprint knows."""

    ref: InstanceRef
    blueprint: str
    bundle: str
    state: str
    tags: Mapping[str, str]
    key_pair: str
    arn: str
    key_pair_fingerprint: str = ""
    """Not told by GetInstances; the inventory puts it in from GetKeyPairs."""

    def on(self, platform: Platform, warnings: tuple[str, ...] = ()) -> Instance:
        """Answer the instance, now that its platform is known."""
        return Instance(
            ref=self.ref,
            platform=platform,
            blueprint=self.blueprint,
            bundle=self.bundle,
            state=self.state,
            tags=self.tags,
            key_pair=self.key_pair,
            key_pair_fingerprint=self.key_pair_fingerprint,
            arn=self.arn,
            warnings=warnings,
        )


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A key pair of one region (AWS KeyPair): its name and its fingerprint as AWS writes it."""

    name: str
    fingerprint: str


def readable(items: Iterable[object], read: Callable[[object], Record]) -> tuple[tuple[Record, ...], tuple[str, ...]]:
    """Answer the records that can be read, and for each of the others why not."""
    records: list[Record] = []
    faults: list[str] = []
    for item in items:
        try:
            records.append(read(item))
        except UpstreamError as fault:
            faults.append(fault.cause)
    return tuple(records), tuple(faults)


def instance(value: object, account: str, region: str) -> InstanceRecord:
    """Read one AWS Instance of `region`; a record of another region is not taken."""
    members = Members(value, "instance")
    if members.inside("location").text("regionName") != region:
        members.fault("location", "is not in the region that was asked")
    return InstanceRecord(
        ref=InstanceRef(account, region, _name(members, "name")),
        blueprint=members.text("blueprintId", _ID),
        bundle=members.text("bundleId", _ID),
        state=members.inside("state").text("name", _STATE),
        tags=_tags(members),
        key_pair=_name(members, "sshKeyName") if members.has("sshKeyName") else "",
        arn=members.text_or_empty("arn", _ARN, limit=512),
    )


def blueprint(value: object) -> Blueprint:
    """Read one AWS Blueprint."""
    members = Members(value, "blueprint")
    return Blueprint(
        blueprint_id=members.text("blueprintId", _ID),
        name=members.prose("name"),
        group=members.prose("group"),
        type=members.prose("type"),
        description=members.prose("description"),
        is_active=members.flag("isActive", default=True),
        min_power=int(members.number("minPower", 0)),
        version=members.prose("version"),
        version_code=members.prose("versionCode"),
        product_url=members.prose("productUrl"),
        license_url=members.prose("licenseUrl"),
        platform=_platform(members),
        app_category=members.prose("appCategory") or None,
    )


def bundle(value: object) -> Bundle:
    """Read one AWS Bundle. A platform that is neither of the two is one that no blueprint of ours needs."""
    members = Members(value, "bundle")
    platforms = members.items("supportedPlatforms", limit=16)
    return Bundle(
        bundle_id=members.text("bundleId", _ID),
        name=members.prose("name"),
        instance_type=members.prose("instanceType"),
        is_active=members.flag("isActive", default=True),
        price=members.number("price", 0),
        cpu_count=int(members.number("cpuCount", 0)),
        ram_size_in_gb=members.number("ramSizeInGb", 0),
        disk_size_in_gb=int(members.number("diskSizeInGb", 0)),
        transfer_per_month_in_gb=int(members.number("transferPerMonthInGb", 0)),
        power=int(members.number("power", 0)),
        supported_platforms=tuple(platform for platform in Platform if platform in platforms),
        supported_app_categories=tuple(
            item for item in members.items("supportedAppCategories", limit=16) if isinstance(item, str)
        ),
        public_ipv4_address_count=(
            int(members.number("publicIpv4AddressCount")) if members.has("publicIpv4AddressCount") else None
        ),
    )


def key_pair(value: object) -> KeyPair:
    """Read one AWS KeyPair."""
    members = Members(value, "keyPair")
    return KeyPair(_name(members, "name"), members.text("fingerprint", _FINGERPRINT))


def _name(members: Members, name: str) -> str:
    text = members.text(name)
    if not is_resource_name(text):
        members.fault(name, "is not a name")
    return text


def _platform(members: Members) -> Platform:
    text = members.text("platform")
    if text not in tuple(Platform):
        members.fault("platform", "is not one that is known")
    return Platform(text)


def _tags(members: Members) -> dict[str, str]:
    """Policies decide by tags, so a key that comes twice refuses the record. A key may have no value."""
    tags: dict[str, str] = {}
    for item in members.items("tags", limit=_MAX_TAGS):
        tag = Members(item, "tag")
        key = tag.text("key", limit=_MAX_TAG_KEY)
        if key in tags:
            members.fault("tags", "holds a key twice")
        tags[key] = tag.text_or_empty("value", _ANY_TEXT, limit=_MAX_TAG_VALUE)
    return tags
