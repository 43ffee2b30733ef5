"""G7: durable records a second when 64 wait at once against one alone: the real log on a real disk."""

from __future__ import annotations

import asyncio
from pathlib import Path
from statistics import median
from time import perf_counter

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.goals import Outcome, Row, ratios
from benchmarks.profiles import Profile
from broker.audit.checkpoints import Signer
from broker.audit.log import AuditLog, create
from broker.audit.stores.sqlite import SqliteStore
from broker.model import Event, InstanceRef

WAITERS = 64
_EVENT = Event(
    event="credential.denied",
    outcome="denied",
    request_id="0" * 32,
    instance=InstanceRef("main", "eu-west-1", "web-1"),
    reason="to look at its logs",
)


async def measure(folder: Path, profile: Profile) -> Outcome:
    """Measure one and many in turns."""
    signer = Signer("bench.example/audit", Ed25519PrivateKey.generate())
    create(SqliteStore(folder / "audit.db"), signer)
    log = await AuditLog.open(SqliteStore(folder / "audit.db"), signer)
    alone, many = [], []
    try:
        for _ in range(profile.rounds):
            alone.append(await _rate(log, 1, profile.seconds))
            many.append(await _rate(log, WAITERS, profile.seconds))
    finally:
        await log.close()
    note = f"{median(many):,.0f}/s against {median(alone):,.0f}/s"
    return Outcome([Row("G7 records", ratios(many, alone), 10, more_is_better=True, note=note)])


async def _rate(log: AuditLog, waiters: int, seconds: float) -> float:
    """Answer how many records a second become durable; each waiter writes the next when the last one is."""
    before, started = _size(log), perf_counter()

    async def write() -> int:
        written = 0
        while perf_counter() < started + seconds:
            await log.append(_EVENT)
            written += 1
        return written

    written = sum(await asyncio.gather(*(write() for _ in range(waiters))))
    took = perf_counter() - started
    assert _size(log) - before == written
    return written / took


def _size(log: AuditLog) -> int:
    return int(next(measure.value for measure in log.measures() if measure.name == "audit_events"))
