"""Requests, break-glass uses and locks as time goes by, on a real log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from broker.approvals.locks import LockKind
from broker.approvals.requests import State
from broker.audit.stores import StoredThread
from broker.authorization.loading import snapshot_of
from broker.authorization.policies import Policies
from broker.errors import (
    AuditUnavailable,
    BudgetExhausted,
    Denied,
    InvalidRequest,
    Locked,
    RequestClosed,
    ReviewRequired,
)
from broker.issuing.answering import Verb
from broker.issuing.approvals import MOST_PENDING, ApprovalDesk, Wish
from broker.issuing.break_glass import GlassDesk, Verdict
from broker.issuing.desk import Asking
from broker.issuing.locks import STALE_SECONDS, LockDesk, LockWish
from broker.model import Caller, CredentialRequest, Event, Protocol
from tests.doubles.audit import NOW
from tests.doubles.issuing import SOURCE, ListedInventory, instance
from tests.issuing.conftest import Book, person

DEV, LEAD = person("dev", "dev"), person("lead", "leads")
WEB = instance().ref


class Judge(Policies):
    """The real policies, from a text."""

    def __init__(self, text: str) -> None:
        super().__init__(Path())
        self._snapshot = snapshot_of(text)


ANSWER = '@id("answer") permit (principal in Group::"corp/leads", action == Action::"approve", resource);'
ANSWERING = Judge(ANSWER)
ASKING = Judge(f"""
@id("ask") @max_duration("2h")
permit (principal in Group::"corp/dev", action == Action::"ssh", resource) when {{ context.approvals >= 1 }};
{ANSWER}
""")


def requests(book: Book, *, forbidden: bool = False) -> ApprovalDesk:
    inventory = ListedInventory(instance())
    policies = ANSWERING if forbidden else ASKING
    return ApprovalDesk(inventory=inventory, policies=policies, ledger=book.log, threads=book.views, clock=book.clock)


def wants(caller: Caller = DEV, reason: str = "a look", name: str = "web-1") -> Asking:
    return Asking(
        caller=caller, request=CredentialRequest(instance=name, reason=reason), source=SOURCE, request_id="r1"
    )


def says(caller: Caller = LEAD, reason: str = "") -> Verb:
    return Verb(caller=caller, source=SOURCE, request_id="r2", reason=reason)


async def test_a_request_that_nobody_answers_expires_and_says_so_once(book: Book) -> None:
    desk = requests(book)
    request = await desk.create(wants(), Wish(pending_for=timedelta(minutes=5)))
    await desk.expire()
    assert request.state(book.clock.now) is State.PENDING
    book.later(minutes=5)
    with pytest.raises(RequestClosed):
        await desk.approve(request.id, says())
    assert await desk.reviewable(LEAD, SOURCE) == []
    await asyncio.gather(desk.expire(), requests(book).expire())
    await desk.expire()
    [expired] = book.events("request.expired")
    assert expired["details"]["thread"] == request.id
    assert (await desk.show(request.id, DEV, SOURCE)).closed is State.EXPIRED


async def test_the_clock_of_an_approval_starts_with_it_and_runs_out(book: Book) -> None:
    desk = requests(book)
    request = await desk.create(wants(), Wish(duration=timedelta(minutes=20)))
    book.later(hours=3)
    approved = await desk.approve(request.id, says())
    assert (approved.starts_at, approved.ends_at) == (book.clock.now, book.clock.now + timedelta(minutes=20))
    assert await desk.in_force(DEV, WEB, Protocol.SSH) == approved
    assert await desk.in_force(LEAD, WEB, Protocol.SSH) is None
    assert await desk.in_force(DEV, WEB, Protocol.RDP) is None
    book.later(minutes=20)
    assert await desk.in_force(DEV, WEB, Protocol.SSH) is None
    assert approved.state(book.clock.now) is State.ENDED
    with pytest.raises(RequestClosed):
        await desk.cancel(request.id, says(DEV))
    await desk.expire()
    assert book.events("request.expired") == []  # it was answered


async def test_access_that_was_wanted_later_begins_then(book: Book) -> None:
    desk = requests(book)
    start = NOW + timedelta(hours=4)
    request = await desk.create(wants(), Wish(starts_at=start, duration=timedelta(days=1)))
    approved = await desk.approve(request.id, says())
    assert (approved.starts_at, approved.ends_at) == (start, start + timedelta(hours=2))  # what the policies allow
    assert await desk.in_force(DEV, WEB, Protocol.SSH) is None
    book.later(hours=4)
    assert await desk.in_force(DEV, WEB, Protocol.SSH) == approved


async def test_of_several_approved_requests_the_longest_counts(book: Book) -> None:
    desk = requests(book)
    for minutes in (10, 30, 20):
        request = await desk.create(wants(), Wish(duration=timedelta(minutes=minutes)))
        await desk.approve(request.id, says())
    found = await desk.in_force(DEV, WEB, Protocol.SSH)
    assert found is not None
    assert found.ends_at == book.clock.now + timedelta(minutes=30)


async def test_approvers_are_not_flooded(book: Book) -> None:
    desk = requests(book)
    made = [await desk.create(wants(), Wish()) for _ in range(MOST_PENDING)]
    with pytest.raises(BudgetExhausted):
        await desk.create(wants(), Wish())
    await desk.create(wants(person("other", "dev")), Wish())
    for name in ("web-1", "none"):  # one that is there and one that is not, for whom neither is
        with pytest.raises(Denied):
            await requests(book, forbidden=True).create(wants(name=name), Wish())
    await desk.cancel(made[0].id, says(DEV))
    await desk.create(wants(), Wish())


GLASS = Judge("""
@id("answer") permit (principal in Group::"corp/leads", action == Action::"approve", resource)
when { !(resource.hasTag("env")) };
""")


def glass(book: Book, *, gone: bool = False) -> GlassDesk:
    inventory = ListedInventory(*(() if gone else (instance(),)))
    return GlassDesk(inventory=inventory, policies=GLASS, ledger=book.log, threads=book.views, clock=book.clock)


def used(caller: Caller = DEV) -> Event:
    return Event(
        event="", outcome="success", request_id="r1", actor=caller, instance=WEB, protocol=Protocol.SSH, reason="down"
    )


async def test_a_debt_can_be_settled_after_the_instance_is_gone(book: Book) -> None:
    await glass(book).use(used(), DEV)
    desk = glass(book, gone=True)
    [use] = await desk.reviewable(LEAD, SOURCE)
    assert await desk.owed(DEV) == use
    settled = await desk.review(use.id, says(reason="seen"), Verdict.JUSTIFIED)
    assert (settled.settled, settled.reviewed_at) == (True, book.clock.now)
    assert await desk.owed(DEV) is None


async def test_one_whose_end_nobody_knows_is_a_debt(book: Book) -> None:
    desk = glass(book)
    thread = await desk.use(used(), DEV)
    unknown = Event(event="credential.failed", outcome="unknown", actor=DEV, details={"thread": thread})
    await book.log.append(unknown)
    assert await desk.owed(DEV) is not None
    failed = Event(event="credential.failed", outcome="failure", actor=DEV, details={"thread": thread})
    await book.log.append(failed)
    assert await desk.owed(DEV) is None


async def test_two_accounts_of_one_person_have_one_debt(book: Book) -> None:
    desk = glass(book)
    one, other = (replace(person(name, "dev"), email=email) for name, email in [("a", "a@x.org"), ("b", "A@x.org")])
    thread = await desk.use(used(one), one)
    with pytest.raises(ReviewRequired):
        await desk.use(used(other), other)
    assert (await desk.owed(other)) == (await desk.owed(one))
    [use] = await desk.reviewable(LEAD, SOURCE)
    assert use.thread == thread
    await desk.use(used(DEV), DEV)  # who is somebody else
    await desk.review(use.id, says(reason="seen"), Verdict.JUSTIFIED)
    at_once = await asyncio.gather(*(desk.use(used(each), each) for each in (one, other)), return_exceptions=True)
    assert [isinstance(each, ReviewRequired) for each in at_once] == [False, True]


ANYBODY = Judge('@id("lock") permit (principal, action == Action::"lock", resource);')


class Silent:
    """Threads that can be read, or not."""

    def __init__(self, book: Book) -> None:
        self._views = book.views
        self.fails = False

    async def thread(self, thread: str) -> StoredThread | None:
        return await self._views.thread(thread)

    async def threads(self, kind: str, *, event: str | None = None, actor: str | None = None) -> Sequence[StoredThread]:
        if self.fails:
            raise AuditUnavailable
        return await self._views.threads(kind, event=event, actor=actor)


class Seconds:
    """Seconds that go by when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def locks(book: Book, threads: Silent | None = None, now: Seconds | None = None) -> LockDesk:
    return LockDesk(
        inventory=ListedInventory(instance()),
        policies=ANYBODY,
        ledger=book.log,
        threads=threads or Silent(book),
        issuers={"corp": "user"},
        accounts=frozenset({"main"}),
        clock=book.clock,
        now=now or Seconds(),
    )


async def test_a_lock_holds_until_its_end(book: Book) -> None:
    desk = locks(book)
    await desk.create(LockWish(kind=LockKind.USER, target="corp/dev", ttl=timedelta(minutes=1)), says(reason="stolen"))
    with pytest.raises(Locked):
        await desk.admit(DEV, SOURCE, "r1", "/v1/leases")
    await desk.admit(LEAD, SOURCE, "r1", "/v1/leases")
    workload = Caller(issuer="corp", subject="dev", kind="workload", token_expires_at=NOW)
    await desk.admit(workload, SOURCE, "r1", "/v1/leases")  # a program of that name is somebody else
    book.later(minutes=1)
    await desk.admit(DEV, SOURCE, "r1", "/v1/leases")
    await asyncio.gather(desk.expire(), locks(book).expire())
    assert [event["event"] for event in book.events("lock.")] == ["lock.created", "lock.refused", "lock.expired"]


async def test_who_has_not_been_able_to_look_lets_nobody_in(book: Book) -> None:
    threads, now = Silent(book), Seconds()
    desk = locks(book, threads, now)
    with pytest.raises(AuditUnavailable):  # it has never looked
        await desk.admit(LEAD, SOURCE, "r1", "/v1/leases")
    await desk.look()
    threads.fails = True
    watching = asyncio.create_task(desk.watch(0.001))
    now.now += STALE_SECONDS
    await desk.admit(LEAD, SOURCE, "r1", "/v1/leases")
    now.now += 0.1
    with pytest.raises(AuditUnavailable):
        await desk.admit(LEAD, SOURCE, "r1", "/v1/leases")
    with pytest.raises(AuditUnavailable):
        desk.on(WEB)
    threads.fails = False
    async with asyncio.timeout(5):
        while True:
            with suppress(AuditUnavailable):
                await desk.admit(LEAD, SOURCE, "r1", "/v1/leases")
                break
            await asyncio.sleep(0.001)
    watching.cancel()


async def test_an_instance_is_locked_by_its_name_and_by_its_account(book: Book) -> None:
    desk = locks(book)
    lock = await desk.create(LockWish(kind=LockKind.INSTANCE, target="web-1"), says(reason="evidence"))
    assert (lock.target, desk.on(WEB)) == (str(WEB), lock)
    await desk.remove(lock.id, says())
    assert desk.on(WEB) is None
    whole = await desk.create(LockWish(kind=LockKind.ACCOUNT, target="main"), says(reason="evidence"))
    assert desk.on(WEB) == whole
    with pytest.raises(InvalidRequest):
        await desk.create(LockWish(kind=LockKind.INSTANCE, target="a/b"), says(reason="x"))
