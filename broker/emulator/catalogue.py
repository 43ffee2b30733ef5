"""What instances are made from (GetBlueprints) and the sizes one can buy (GetBundles)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Final, Literal

from broker.emulator.blueprint_rows import ACTIVE, INACTIVE

Platform = Literal["LINUX_UNIX", "WINDOWS"]

# Lightsail publishes no minimum power beyond 0 and writes this version code for all of its blueprints.
_MIN_POWER: Final = 0
_VERSION_CODE: Final = "1"
_MUMBAI: Final = "ap-south-1"
_SYDNEY: Final = "ap-southeast-2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """One blueprint; `username` is who one logs in as, which GetBlueprints does not tell."""

    blueprint_id: str
    group: str
    name: str
    type: str
    username: str
    version: str
    is_active: bool

    @property
    def platform(self) -> Platform:
        """The platform, by which rdp or ssh opens it."""
        return "WINDOWS" if self.username == "Administrator" else "LINUX_UNIX"

    def described(self) -> dict[str, object]:
        """Answer it in the shape of AWS's Blueprint."""
        return {
            "blueprintId": self.blueprint_id,
            "name": self.name,
            "group": self.group,
            "type": self.type,
            "description": f"{self.name} {self.version}".strip(),
            "isActive": self.is_active,
            "minPower": _MIN_POWER,
            "version": self.version,
            "versionCode": _VERSION_CODE,
            "productUrl": f"https://example.com/products/{self.group}",
            "licenseUrl": f"https://example.com/licenses/{self.group}",
            "platform": self.platform,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """One size. Price in US$ a month, memory and disk in GB, transfer in GB a month."""

    bundle_id: str
    instance_type: str
    cpu_count: int
    ram: float
    disk: int
    transfer: int
    power: int
    price: float
    platform: Platform = "LINUX_UNIX"
    has_ipv4: bool = True
    is_active: bool = True

    def described(self) -> dict[str, object]:
        """Answer it in the shape of AWS's Bundle."""
        return {
            "bundleId": self.bundle_id,
            "name": self.instance_type.removeprefix("t2.").title(),
            "instanceType": self.instance_type,
            "isActive": self.is_active,
            "price": self.price,
            "cpuCount": self.cpu_count,
            "ramSizeInGb": self.ram,
            "diskSizeInGb": self.disk,
            "transferPerMonthInGb": self.transfer,
            "power": self.power,
            "supportedPlatforms": [self.platform],
            "publicIpv4AddressCount": int(self.has_ipv4),
        }


def _blueprints() -> dict[str, Blueprint]:
    return {
        row[0]: Blueprint(
            blueprint_id=row[0],
            group=row[1],
            name=row[2],
            type=row[3],
            username=row[4],
            version=row[5],
            is_active=rows is ACTIVE,
        )
        for rows in (ACTIVE, INACTIVE)
        for row in rows
    }


BLUEPRINTS: Final = _blueprints()

# size, vCPU, RAM, SSD, transfer, power, then the prices of Linux, IPv6-only, Windows and Windows IPv6-only
_SIZES: Final = (
    ("nano", 2, 0.5, 20, 1024, 298, (5, 3.5, 9.5, 8)),
    ("micro", 2, 1, 40, 2048, 500, (7, 5, 14, 12)),
    ("small", 2, 2, 60, 3072, 1000, (12, 10, 22, 20)),
    ("medium", 2, 4, 80, 4096, 2000, (24, 20, 44, 40)),
    ("large", 2, 8, 160, 5120, 3000, (44, 40, 74, 70)),
    ("xlarge", 4, 16, 320, 6144, 4000, (84, 80, 124, 120)),
    ("2xlarge", 8, 32, 640, 7168, 5000, (164, 160, 244, 240)),
    ("4xlarge", 16, 64, 1280, 8192, 6000, (384, 380, 574, 570)),
    ("8xlarge", 32, 128, 1280, 9216, 7000, (884,)),
    ("12xlarge", 48, 192, 1280, 10240, 8000, (1324,)),
    ("16xlarge", 64, 256, 1280, 10240, 9000, (1764,)),
)
_RETIRED: Final = (
    ("nano_1_0", "t2.nano", 1, 0.5, 20, 1024, 300, 5),
    ("micro_1_0", "t2.micro", 1, 1, 30, 2048, 500, 10),
    ("small_1_0", "t2.small", 1, 2, 40, 3072, 1000, 20),
    ("medium_1_0", "t2.medium", 2, 4, 60, 4096, 2000, 40),
    ("large_1_0", "t2.large", 2, 8, 80, 5120, 3000, 80),
    ("nano_2_0", "nano", 1, 0.5, 20, 1024, 300, 3.5),
)
# The infix of the id, the platform and whether there is an IPv4 address, in the order of the prices above.
_KINDS: Final[tuple[tuple[str, Platform, bool], ...]] = (
    ("", "LINUX_UNIX", True),
    ("_ipv6", "LINUX_UNIX", False),
    ("_win", "WINDOWS", True),
    ("_win_ipv6", "WINDOWS", False),
)
_WINDOWS_NANO_DISK: Final = 30


def _active() -> list[Bundle]:
    return [
        Bundle(
            bundle_id=f"{size}{infix}_3_0",
            instance_type=size,
            cpu_count=cpus,
            ram=ram,
            disk=_WINDOWS_NANO_DISK if size == "nano" and platform == "WINDOWS" else disk,
            transfer=transfer,
            power=power,
            price=prices[kind],
            platform=platform,
            has_ipv4=has_ipv4,
        )
        for kind, (infix, platform, has_ipv4) in enumerate(_KINDS)
        for size, cpus, ram, disk, transfer, power, prices in _SIZES
        if kind < len(prices)
    ]


def _retired() -> list[Bundle]:
    return [
        Bundle(
            bundle_id=bundle_id,
            instance_type=instance_type,
            cpu_count=cpus,
            ram=ram,
            disk=disk,
            transfer=transfer,
            power=power,
            price=price,
            is_active=False,
        )
        for bundle_id, instance_type, cpus, ram, disk, transfer, power, price in _RETIRED
    ]


def _localised(bundle: Bundle, region: str) -> Bundle:
    """Answer the bundle as sold there: Mumbai's ids end in 1, Sydney's in 2, with half the transfer."""
    if region == _MUMBAI:
        return replace(bundle, bundle_id=f"{bundle.bundle_id[:-1]}1")
    if region == _SYDNEY:
        return replace(bundle, bundle_id=f"{bundle.bundle_id[:-1]}2", transfer=bundle.transfer // 2)
    return bundle


@cache
def bundles_of(region: str) -> dict[str, Bundle]:
    """Answer the bundles sold in a Region, the retired ones last, by id."""
    return {sold.bundle_id: sold for sold in (_localised(bundle, region) for bundle in (*_active(), *_retired()))}
