"""Every measurement, by its name: which goals it belongs to, and how long it takes about in the quick profile."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.goals import Outcome
from benchmarks.parts import (
    allocating,
    client,
    connections,
    decisions,
    estate,
    issuing,
    latency,
    memory,
    mixed,
    overload,
    records,
    reload,
    replicas,
    searching,
    slow_disk,
    starting,
    verifying,
)
from benchmarks.profiles import Profile


@dataclass(frozen=True, slots=True)
class Part:
    """One measurement; it is given an empty folder."""

    goals: str
    seconds: int
    measure: Callable[[Path, Profile], Coroutine[Any, Any, Outcome]]


PARTS: Final[Mapping[str, Part]] = {
    "issuing": Part("G1 G2", 80, issuing.measure),
    "allocating": Part("recorded", 40, allocating.measure),
    "latency": Part("G3", 115, latency.measure),
    "slow-disk": Part("G4", 50, slow_disk.measure),
    "decisions": Part("G5", 20, decisions.measure),
    "reload": Part("G6", 70, reload.measure),
    "records": Part("G7", 30, records.measure),
    "verifying": Part("G8", 90, verifying.measure),
    "searching": Part("G9", 60, searching.measure),
    "memory": Part("G10", 70, memory.measure),
    "starting": Part("G11", 20, starting.measure),
    "client": Part("G12", 20, client.measure),
    "mixed": Part("G13", 80, mixed.measure),
    "overload": Part("G14", 100, overload.measure),
    "replicas": Part("scale", 100, replicas.measure),
    "estate": Part("scale", 110, estate.measure),
    "connections": Part("scale", 30, connections.measure),
}
