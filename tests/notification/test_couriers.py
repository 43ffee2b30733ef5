"""Receivers are told what the log holds: all of it, in order, whatever happens in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from structlog.testing import capture_logs

from broker.audit.checkpoints import Signer
from broker.audit.log import AuditLog, create
from broker.audit.review import Review
from broker.audit.stores import StoredRecord
from broker.audit.stores.sqlite import SqliteStore
from broker.audit.stores.sqlite_reader import SqliteReader
from broker.errors import AuditUnavailable
from broker.model import Event, Health, utc_now
from broker.notification import Outbox, notifying
from broker.notification.couriers import Events, Log
from broker.notification.lines import Pace
from broker.outbound.webhooks import Receiver
from tests.doubles.audit import an_event
from tests.doubles.outbound import Inbox, inbox, until

ORIGIN = "broker.example/audit"
QUICK = Pace(look=0.01, note=0, first_retry=0.01, longest_retry=0.05, deadline=5, claim=60)


@dataclass
class House:
    """A real log, its readers, and receivers that can be begun and ended like the service."""

    log: AuditLog
    review: Review

    async def write(self, *events: Event | str) -> None:
        for event in events:
            await self.log.append(an_event(event) if isinstance(event, str) else event)

    def telling(
        self, *receivers: Receiver, log: Log | None = None, events: Events | None = None, pace: Pace = QUICK
    ) -> AbstractAsyncContextManager[Callable[[], Health]]:
        outbox = Outbox(origin=ORIGIN, log=log or self.log, events=events or self.review)
        return notifying(receivers, outbox, utc_now, pace)

    async def position(self, name: str = "siem") -> int | None:
        return await self.log.claim(f"webhook:{name}", 60)

    async def met(self, *receivers: Receiver) -> None:
        """Let the log know receivers, so that what is written from now on is for them."""
        async with self.telling(*receivers):
            for receiver in receivers:
                await self.begun(receiver.name)

    async def begun(self, name: str = "siem") -> None:
        await self.come_to(range(1, 1_000_000), name)

    async def come_to(self, positions: range, name: str = "siem") -> None:
        async with asyncio.timeout(20):
            while await self.position(name) not in positions:  # noqa: ASYNC110 - what is awaited happens in the log
                await asyncio.sleep(0.005)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    path, signer = tmp_path / "audit.db", Signer(ORIGIN, Ed25519PrivateKey.generate())
    create(SqliteStore(path), signer)
    log = await AuditLog.open(SqliteStore(path), signer)
    review = Review(lambda: SqliteReader(path))
    yield House(log, review)
    await review.close()
    await log.close()


@pytest.fixture
async def site() -> AsyncIterator[Inbox]:
    async with inbox() as opened:
        yield opened


async def test_a_new_receiver_is_told_what_comes_from_now_on(house: House, site: Inbox) -> None:
    await house.write("credential.denied", "credential.denied")
    async with house.telling(site.receiver("credential.*")):
        await house.begun()
        await house.write("credential.issued", "policies.loaded", "credential.issued")
        await until(lambda: len(site.taken) == 2)
    assert site.indices == [3, 5]
    assert {body["data"]["log"] for body in site.taken} == {ORIGIN}
    assert site.taken[0]["data"]["event"]["reason"] == "to look at its logs"


async def test_what_was_written_while_nobody_told_it_is_told_later_in_order(house: House, site: Inbox) -> None:
    await house.met(site.receiver("credential.*"))
    await house.write(*["credential.denied"] * 600)
    async with house.telling(site.receiver("credential.*")):
        await until(lambda: len(site.taken) == 600)
    assert site.indices == list(range(1, 601))
    assert len(set(site.ids)) == 600


async def test_what_nobody_wants_is_passed_over_and_not_looked_at_again(house: House, site: Inbox) -> None:
    async with house.telling(site.receiver("keys.*")):
        await house.begun()
        await house.write(*["credential.denied"] * 300)
        await house.come_to(range(301, 302))
    assert site.received == []


async def test_a_receiver_that_fails_is_asked_again_until_it_takes_each_notice_in_order(
    house: House, site: Inbox
) -> None:
    site.answers = [500, 503, 302, 404, 200, 429]
    await house.met(site.receiver("credential.*"))
    await house.write(*["credential.denied"] * 3)
    with capture_logs() as said:
        async with house.telling(site.receiver("credential.*")) as health:
            await until(lambda: len(site.received) == 2)
            assert health().ready
            assert health().detail.startswith("siem: takes nothing since 2")
            assert "(status 50" in health().detail
            await until(lambda: len(site.taken) == 3)
            await until(lambda: health() == Health("webhooks", ready=True))
    assert site.indices == [1, 2, 3]
    assert [body["data"]["index"] for body in site.received] == [1, 1, 1, 1, 1, 2, 2, 3]
    assert len(set(site.ids[:5])) == 1, "a notice keeps its id"
    about = [(entry["log_level"], entry["receiver"]) for entry in said if "receiver" in entry]
    assert about == [("warning", "siem"), ("info", "siem")] * 2


async def test_a_receiver_that_is_gone_is_left_alone_until_the_restart(house: House, site: Inbox) -> None:
    await house.met(site.receiver("credential.*"))
    await house.write(*["credential.denied"] * 2)
    site.answers = [410]
    async with house.telling(site.receiver("credential.*")) as health:
        await until(lambda: "410" in health().detail)
        await asyncio.sleep(0.1)
        assert health().ready
    assert len(site.received) == 1
    async with house.telling(site.receiver("credential.*")):
        await until(lambda: len(site.taken) == 2)
    assert site.indices == [1, 2]


async def test_one_that_hangs_delays_neither_others_nor_the_log_nor_the_end(house: House, site: Inbox) -> None:
    async with inbox() as stuck:
        stuck.open.clear()
        receivers = [stuck.receiver("credential.*", name="stuck"), site.receiver("credential.*", name="fine")]
        await house.met(*receivers)
        async with house.telling(*receivers):
            await house.write("credential.denied")
            await until(lambda: stuck.received)
            await house.write(*["credential.issued"] * 20)
            await until(lambda: len(site.taken) == 21)
            await house.come_to(range(22, 23), "fine")
        assert len(stuck.received) == 1
        assert await house.position("stuck") == 1


async def test_what_hung_at_the_end_is_told_again_at_the_next_start(house: House, site: Inbox) -> None:
    await house.met(site.receiver("credential.*"))
    await house.write("credential.denied")
    site.open.clear()
    async with house.telling(site.receiver("credential.*")):
        await until(lambda: site.received)
    site.open.set()
    async with house.telling(site.receiver("credential.*")):
        await until(lambda: site.taken)
    assert site.ids == [site.ids[0]] * len(site.ids)
    assert set(site.indices) == {1}


async def test_a_burst_that_began_before_a_restart_is_told_after_it_once(house: House, site: Inbox) -> None:
    receiver = site.receiver("denied_burst")
    await house.met(receiver)
    await house.write(*["credential.denied"] * 4)
    await house.met(receiver)
    assert site.taken == []
    await house.write("credential.denied")
    async with house.telling(receiver):
        await until(lambda: site.taken)
    await house.write("credential.denied")
    async with house.telling(receiver):
        await house.come_to(range(7, 8))
    assert {json.dumps(notice) for notice in site.taken} == {json.dumps(site.taken[0])}  # at least once, and the same
    assert site.taken[0]["data"]["denials"] == [1, 2, 3, 4, 5]


class Shared:
    """The follower of a log that several processes share. A claim is kept until it has run out."""

    def __init__(self) -> None:
        self.position = 1
        self.owner = ""
        self.until = 0.0

    def of(self, process: str) -> Log:
        return _Process(self, process)


class _Process:
    def __init__(self, shared: Shared, process: str) -> None:
        self._shared = shared
        self._process = process

    async def claim(self, follower: str, seconds: float) -> int | None:
        del follower
        now = asyncio.get_running_loop().time()
        if self._shared.owner != self._process and now < self._shared.until:
            return None
        self._shared.owner, self._shared.until = self._process, now + seconds
        return self._shared.position

    async def advance(self, follower: str, position: int) -> None:
        del follower
        if self._shared.owner != self._process:
            raise AuditUnavailable("another process follows by now")
        self._shared.position = position


async def test_of_several_processes_one_tells_and_another_takes_over_when_it_is_gone(house: House, site: Inbox) -> None:
    shared = Shared()
    pace = Pace(look=0.01, first_retry=0.01, claim=1)
    first = house.telling(site.receiver("credential.*"), log=shared.of("first"), pace=pace)
    second = house.telling(site.receiver("credential.*"), log=shared.of("second"), pace=pace)
    async with AsyncExitStack() as stack:
        async with first:
            await until(lambda: shared.owner == "first")
            await stack.enter_async_context(second)
            for count in range(1, 6):
                await house.write("credential.denied")
                await until(lambda count=count: shared.position == count + 1)  # type: ignore[misc]  # bound in the loop
            assert shared.owner == "first"
        await house.write("credential.denied", "credential.denied")
        await until(lambda: shared.position == 8)
    assert shared.owner == "second"
    assert site.indices == [1, 2, 3, 4, 5, 6, 7]


class Impatient(_Process):
    """A process whose claim another one takes over while a notice is on its way."""

    async def claim(self, follower: str, seconds: float) -> int | None:
        self._shared.until = 0
        return await super().claim(follower, seconds)


async def test_whoever_lost_the_claim_begins_where_the_other_one_came_to(house: House, site: Inbox) -> None:
    shared = Shared()
    await house.write(*["credential.denied"] * 4)
    async with house.telling(site.receiver("credential.*"), log=Impatient(shared, "first")):
        site.open.clear()
        await until(lambda: site.received)
        shared.owner, shared.position = "second", 4
        site.open.set()
        await until(lambda: shared.position == 5)
    assert site.indices == [1, 4]


class Faulty:
    """A log whose followers cannot be kept while it is broken."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.broken = False

    async def claim(self, follower: str, seconds: float) -> int | None:
        if self.broken:
            raise AuditUnavailable("the disk is full")
        return await self._log.claim(follower, seconds)

    async def advance(self, follower: str, position: int) -> None:
        if self.broken:
            raise AuditUnavailable("the disk is full")
        await self._log.advance(follower, position)


async def test_a_log_that_cannot_be_followed_for_a_while_is_said_once_and_nothing_is_left_out(
    house: House, site: Inbox
) -> None:
    log = Faulty(house.log)
    with capture_logs() as said:
        async with house.telling(site.receiver("credential.*"), log=log) as health:
            await house.begun()
            log.broken = True
            await house.write("credential.denied", "credential.denied")
            await until(lambda: health().detail == "siem: the log cannot be followed")
            assert health().ready
            assert site.indices == [1]
            log.broken = False
            await until(lambda: health().detail == "")
            await until(lambda: 2 in site.indices)
    assert site.indices == [1, 1, 2]
    assert [entry["detail"] for entry in said if entry["log_level"] == "error"] == ["the disk is full"]


class Counting(Faulty):
    """Counts how often progress was noted."""

    notes = 0

    async def advance(self, follower: str, position: int) -> None:
        await super().advance(follower, position)
        self.notes += 1


async def test_progress_is_noted_now_and_then_and_at_an_orderly_end(house: House, site: Inbox) -> None:
    """Each note is a commit of the thread that issues wait for."""
    log, pace = Counting(house.log), Pace(look=0.01, note=3600)
    await house.met(site.receiver("credential.*"))
    await house.write(*["credential.denied"] * 100)
    async with house.telling(site.receiver("credential.*"), log=log, pace=pace):
        await until(lambda: len(site.taken) == 100)
        await house.come_to(range(101, 102))
        assert log.notes == 1
        site.open.clear()
        await house.write(*["credential.issued"] * 3)
        await until(lambda: len(site.received) == 101)
        site.answers, site.headers = [200, 500], {"Retry-After": "600"}
        site.open.set()
        await until(lambda: len(site.received) == 102)
        assert log.notes == 1
    assert log.notes == 2
    assert await house.position() == 102


class Pruned:
    """A log of which everything below an index has no body any more."""

    def __init__(self, events: Review, first: int) -> None:
        self._events = events
        self._first = first

    async def records(self, first: int, end: int) -> Sequence[StoredRecord]:
        return await self._events.records(max(first, self._first), end)

    async def size(self) -> int:
        return await self._events.size()


async def test_a_receiver_that_came_too_late_for_what_was_pruned_goes_on_behind_it(house: House, site: Inbox) -> None:
    await house.met(site.receiver("credential.*"))
    await house.write(*["credential.denied"] * 700)
    async with house.telling(site.receiver("credential.*"), events=Pruned(house.review, 690)):
        await until(lambda: len(site.taken) == 11)
    assert site.indices == list(range(690, 701))


def fault(site: Inbox) -> list[tuple[str, bool, str]]:
    members = (body["data"] for body in site.taken)
    return [(data["component"], data["faulty"], data["detail"]) for data in members]


@pytest.mark.parametrize("patterns", [["log_fault"], ["*"]])
async def test_a_fault_of_the_log_is_told_when_it_begins_and_when_it_ends(
    house: House, site: Inbox, patterns: list[str]
) -> None:
    health = {"audit": Health("audit", ready=True), "anchors": Health("anchors", ready=True)}
    sources: list[Callable[[], Health]] = [lambda: health["audit"], lambda: health["anchors"]]
    outbox = Outbox(origin=ORIGIN, log=house.log, events=house.review, healths=sources)
    site.answers = [500, 500]
    async with notifying([site.receiver(*patterns)], outbox, utc_now, QUICK):
        await asyncio.sleep(0.05)
        assert site.received == []
        health["audit"] = Health("audit", ready=False, detail="The disk does not answer.")
        await until(lambda: len(site.taken) == 1)
        health["anchors"] = Health("anchors", ready=True, detail="witness: timeout")
        await until(lambda: len(site.taken) == 2)
        health["audit"] = Health("audit", ready=True)
        await until(lambda: len(site.taken) == 3)
    assert fault(site) == [
        ("audit", True, "The disk does not answer."),
        ("anchors", True, "witness: timeout"),
        ("audit", False, ""),
    ]
    assert {body["type"] for body in site.taken} == {"log_fault"}
    assert len(set(site.ids)) == 3


async def test_a_fault_is_told_even_while_the_log_can_neither_be_read_nor_followed(house: House, site: Inbox) -> None:
    log = Faulty(house.log)
    log.broken = True
    sick = Health("audit", ready=False, detail="The last write was refused.")
    outbox = Outbox(origin=ORIGIN, log=log, events=house.review, healths=[lambda: sick])
    async with notifying([site.receiver("log_fault")], outbox, utc_now, QUICK):
        await until(lambda: site.taken)
    assert fault(site) == [("audit", True, "The last write was refused.")]


async def test_with_nobody_to_tell_there_is_nothing_to_do(house: House) -> None:
    async with house.telling() as health:
        assert health() == Health("webhooks", ready=True)
        assert asyncio.all_tasks() - {asyncio.current_task()} == {house.log._tending}  # noqa: SLF001 - the log's own
