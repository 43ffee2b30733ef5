"""G8: events a second that `broker audit verify` takes, against reading and hashing the same bytes."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks.bulk import bulk_log
from benchmarks.goals import Outcome, Row
from benchmarks.parts.client import wall
from benchmarks.profiles import Profile

_PART = 1 << 20


async def measure(folder: Path, profile: Profile) -> Outcome:
    """Verify and hash in turns; the first of each only warms the disk's cache."""
    log = await asyncio.to_thread(bulk_log, profile.events)
    leaves = await asyncio.to_thread(_leaves, log.database, folder / "leaves")
    verify = [sys.executable, "-m", "broker", "audit", "verify", "--require-sealed"]
    verify += ["--database", str(log.database), "--key", log.verifier]
    rounds = [(await asyncio.to_thread(_hash, leaves), await wall(verify)) for _ in range(profile.rounds)]
    hashed, verified = (median(column) for column in zip(*rounds, strict=True))
    rates = f"{profile.events / verified:,.0f} events/s against {profile.events / hashed:,.0f}"
    note = f"{rates}; {profile.events:,} events in {verified:.1f} s"
    return Outcome([Row("G8 verify", [raw / full for raw, full in rounds], 0.13, more_is_better=True, note=note)])


def _leaves(database: Path, path: Path) -> Path:
    """Write the bytes of all events into one file."""
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection, path.open("wb") as file:
        file.writelines(leaf for (leaf,) in connection.execute("SELECT leaf FROM events ORDER BY idx"))
    return path


def _hash(path: Path) -> float:
    """Answer the seconds to read a file and hash it."""
    started = perf_counter()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(_PART):
            digest.update(part)
    assert digest.digest()
    return perf_counter() - started
