"""The Regions where Lightsail is offered, with their zones (GetRegions)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Region:
    """One Region; `zones` holds the last letters of its availability zones."""

    name: str
    display_name: str
    continent: str
    zones: str

    @property
    def zone_names(self) -> tuple[str, ...]:
        """The full names of the zones, such as `eu-west-1a`."""
        return tuple(f"{self.name}{letter}" for letter in self.zones)


# The zones of eu-north-1, ap-southeast-3 and ap-southeast-5 are assumed. us-west-1 is in AWS's enum but not offered.
_OFFERED: Final = (
    Region("us-east-1", "Virginia", "NA", "abcdef"),
    Region("us-east-2", "Ohio", "NA", "abc"),
    Region("us-west-2", "Oregon", "NA", "abc"),
    Region("ca-central-1", "Montreal", "NA", "ab"),
    Region("eu-west-1", "Ireland", "EU", "abc"),
    Region("eu-west-2", "London", "EU", "abc"),
    Region("eu-west-3", "Paris", "EU", "abc"),
    Region("eu-central-1", "Frankfurt", "EU", "abc"),
    Region("eu-north-1", "Stockholm", "EU", "abc"),
    Region("ap-south-1", "Mumbai", "AS", "ab"),
    Region("ap-southeast-1", "Singapore", "AS", "abc"),
    Region("ap-southeast-2", "Sydney", "OC", "abc"),
    Region("ap-northeast-1", "Tokyo", "AS", "acd"),
    Region("ap-northeast-2", "Seoul", "AS", "ac"),
    Region("ap-southeast-3", "Jakarta", "AS", "abc"),
    Region("ap-southeast-5", "Malaysia", "AS", "abc"),
)

REGIONS: Final = {region.name: region for region in _OFFERED}
