"""How long it is measured: quick for every change, long for a release, tiny to see that the harness works."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Profile:
    """How much of everything."""

    name: str
    rounds: int
    """Alternating rounds of each comparison."""
    seconds: float
    """Of one load in a round."""
    events: int
    """In the largest log that is verified and searched."""
    policies: int
    """In the largest set."""
    requests: tuple[int, int]
    """After how many the memory is looked at, first and last."""
    replicas: tuple[int, ...]
    """How many write one PostgreSQL."""
    accounts: int
    """Of AWS, each with two regions of 125 instances."""
    connections: int
    """That are open and idle."""


PROFILES: Final[Mapping[str, Profile]] = {
    profile.name: profile
    for profile in (
        Profile("quick", 4, 3.0, 1_000_000, 10_000, (10_000, 20_000), (1, 2, 4, 8), 20, 1_000),
        Profile("long", 8, 6.0, 10_000_000, 10_000, (100_000, 1_000_000), (1, 2, 4, 8), 20, 1_000),
        Profile("tiny", 1, 1.0, 20_000, 200, (200, 400), (1, 2), 2, 50),
    )
}
