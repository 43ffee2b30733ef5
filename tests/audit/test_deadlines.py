"""A disk that does not answer: nobody waits for ever, nothing piles up, and what comes of it later is on record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from broker.audit.checkpoints import Signer
from broker.audit.log import AuditLog, Pace, create, given_up
from broker.audit.stores.sqlite import SqliteStore
from broker.errors import AuditUnavailable
from tests.audit.conftest import verified
from tests.audit.test_log import events, held, names, until
from tests.doubles.audit import FaultyStore, ManualClock, an_event

HASTY = Pace(append_deadline=0.05, stall=0.1, watch_interval=0.02)


@pytest.fixture
def store(database: Path, signer: Signer) -> FaultyStore:
    create(SqliteStore(database), signer, ManualClock())
    return FaultyStore(database)


@pytest.fixture
async def log(store: FaultyStore, signer: Signer) -> AsyncIterator[AuditLog]:
    log = await AuditLog.open(store, signer, clock=ManualClock(), pace=HASTY)
    yield log
    store.gate.set()
    await log.close()


async def test_who_waits_too_long_is_refused(log: AuditLog, store: FaultyStore) -> None:
    async with held(store):
        with pytest.raises(AuditUnavailable, match="does not answer"):
            await log.append(an_event())


async def test_while_the_writer_is_stalled_nothing_is_taken_and_the_health_says_so(
    log: AuditLog, store: FaultyStore, database: Path
) -> None:
    async with held(store):
        with pytest.raises(AuditUnavailable):
            await log.append(an_event(number=1))
        await until(lambda: log.health().detail == "The disk does not answer.")
        assert not log.health().ready
        for number in range(2, 50):
            with pytest.raises(AuditUnavailable, match="does not answer"):
                await log.append(an_event(number=number))
    await until(lambda: log.health().ready)
    await log.append(an_event(number=50))
    assert [event.get("request_id") for event in events(database)[1:]] == ["request-1", "request-50"]


@pytest.mark.parametrize(
    ("event", "closing"),
    [("credential.issued", "credential.withheld"), ("credential.requested", "credential.failed")],
)
@pytest.mark.parametrize("cancelled", [False, True], ids=["deadline", "cancelled"])
async def test_what_turns_out_durable_after_its_caller_was_refused_is_closed(
    log: AuditLog, store: FaultyStore, database: Path, *, event: str, closing: str, cancelled: bool
) -> None:
    async with held(store):
        waiting = asyncio.create_task(log.append(an_event(event)))
        await asyncio.sleep(0.01)
        if cancelled:
            waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    await until(lambda: closing in names(database))
    first, second = events(database)[1:3]
    assert (first["event"], second["event"], second["outcome"], second["error"]) == (
        event,
        closing,
        "failure",
        "audit_unavailable",
    )
    for member in ("request_id", "lease_id", "actor", "instance"):
        assert first[member] == second[member]
    assert ("credential" in second, "expires_at" in second) == (False, False)


async def test_who_leaves_between_being_told_and_going_on_is_closed_too(log: AuditLog, database: Path) -> None:
    waiting = log.append(an_event("credential.issued"))
    told = waiting.send(None)  # by hand, for no task can be stopped at this very point
    await asyncio.wait((told,))
    with pytest.raises(asyncio.CancelledError):
        waiting.throw(asyncio.CancelledError())
    await until(lambda: "credential.withheld" in names(database))
    assert names(database)[1:] == ["credential.issued", "credential.withheld"]


async def test_what_turns_out_durable_at_the_stop_is_closed_before_it(
    store: FaultyStore, signer: Signer, database: Path
) -> None:
    log = await AuditLog.open(store, signer, pace=HASTY)
    async with held(store):
        with pytest.raises(AuditUnavailable):
            await log.append(an_event("credential.issued"))
        closing = asyncio.create_task(log.close())
        await asyncio.sleep(0.01)
    await closing
    assert names(database) == ["service.started", "credential.issued", "credential.withheld", "service.stopped"]
    assert verified(database, signer.verifier).exit_code(require_sealed=True) == 0


async def test_what_failed_or_was_answered_is_not_withheld(log: AuditLog, store: FaultyStore, database: Path) -> None:
    await log.append(an_event("credential.issued", number=1))
    async with held(store):
        with pytest.raises(AuditUnavailable):
            await log.append(an_event("credential.denied", number=2))
        with pytest.raises(AuditUnavailable):
            await log.append(an_event("credential.issued", number=3, details={"bad": 2**60}))
    await log.append(an_event(number=4))
    assert "credential.withheld" not in names(database)


def test_only_what_opens_something_is_closed() -> None:
    issued = an_event("credential.issued", details={"host_keys": ("ssh-ed25519 ab",)})
    withheld = given_up(issued)
    assert withheld == replace(
        issued,
        event="credential.withheld",
        outcome="failure",
        error="audit_unavailable",
        credential=None,
        expires_at=None,
        details={},
    )
    assert given_up(an_event("credential.denied")) is None
