"""Budgets: what counts, for how long, and what is said when it is used up."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broker.errors import AuditUnavailable, BudgetExhausted
from broker.issuing.budgets import Budgets, Limits
from broker.model import Event, InstanceRef
from tests.issuing.conftest import Book, person

BOB = person("bob")


def asked(name: str, number: int) -> Event:
    ref = InstanceRef("main", "eu-west-1", name)
    return Event(event="credential.requested", outcome="success", request_id=f"r{number}", actor=BOB, instance=ref)


class Spender:
    """Somebody who is issued one credential after the other."""

    def __init__(self, book: Book, *, shared: bool = True, **limits: int) -> None:
        self.book = book
        self.budgets = Budgets(Limits(**limits), book.views, book.log, book.clock, shared=shared)
        self.number = 0

    async def spend(self, name: str = "web-1", *, gate: asyncio.Event | None = None) -> bool:
        self.number += 1
        event = asked(name, self.number)
        try:
            async with self.budgets.spending(event):
                if gate:
                    await gate.wait()
                await self.book.log.append(event)
        except BudgetExhausted:
            return False
        return True


both = pytest.mark.parametrize("shared", [True, False])


@both
async def test_a_minute_slides(book: Book, *, shared: bool) -> None:
    spender = Spender(book, shared=shared, issues_per_minute=3)
    for _ in range(3):
        assert await spender.spend()
        book.later(seconds=10)
    with pytest.raises(BudgetExhausted) as refusal:
        async with spender.budgets.spending(asked("web-1", 99)):
            pass
    assert refusal.value.retry_after == 30
    assert refusal.value.next_step.startswith("Wait 30 seconds")
    book.later(seconds=29.9)
    assert not await spender.spend()
    book.later(seconds=0.2)
    assert await spender.spend()
    assert not await spender.spend()


@both
async def test_an_instance_counts_once_until_an_hour_after_its_last_use(book: Book, *, shared: bool) -> None:
    spender = Spender(book, shared=shared, instances_per_hour=2)
    assert await spender.spend("web-1")
    book.later(minutes=30)
    assert await spender.spend("web-2")
    assert await spender.spend("web-1")
    assert not await spender.spend("web-3")
    book.later(minutes=59)
    assert not await spender.spend("web-3")
    book.later(minutes=1, seconds=1)
    assert await spender.spend("web-3")
    assert await spender.spend("web-4")
    assert not await spender.spend("web-1")


@both
async def test_what_is_on_its_way_counts_once(book: Book, *, shared: bool) -> None:
    spender, gate = Spender(book, shared=shared, issues_per_minute=4), asyncio.Event()
    waiting = [asyncio.create_task(spender.spend(gate=gate)) for _ in range(3)]
    await asyncio.sleep(0.05)
    assert await spender.spend()
    assert not await spender.spend()
    gate.set()
    assert await asyncio.gather(*waiting) == [True] * 3
    assert not await spender.spend()
    book.later(seconds=61)
    assert [await spender.spend() for _ in range(5)] == [True] * 4 + [False]


@both
async def test_what_did_not_get_into_the_log_is_given_back(book: Book, *, shared: bool) -> None:
    spender = Spender(book, shared=shared, issues_per_minute=1)
    for _ in range(3):
        with pytest.raises(AuditUnavailable):
            async with spender.budgets.spending(asked("web-1", 7)):
                raise AuditUnavailable
    assert await spender.spend()


async def test_a_broker_that_begins_counts_what_others_wrote(book: Book) -> None:
    one, other = (Spender(book, issues_per_minute=2, instances_per_hour=2) for _ in range(2))
    other.number = 100
    assert await one.spend("web-1")
    assert await other.spend("web-2")
    assert not await one.spend("web-1")
    book.later(minutes=2)
    assert not await other.spend("web-3")
    for shared in (True, False):
        assert not await Spender(book, shared=shared, instances_per_hour=2).spend("web-3")


async def test_each_burst_is_told_once(book: Book) -> None:
    spender = Spender(book, issues_per_minute=1)
    assert [await spender.spend() for _ in range(3)] == [True, False, False]
    assert [event["details"]["budget"] for event in book.events("budget.")] == ["1 credentials within a minute"]
    book.later(minutes=2)
    assert [await spender.spend() for _ in range(3)] == [True, False, False]
    assert len(book.events("budget.exhausted")) == 2


async def test_other_people_and_other_events_do_not_count(book: Book) -> None:
    spender = Spender(book, issues_per_minute=1)
    await book.log.append(replace(asked("web-1", 1), actor=person("carol")))
    await book.log.append(replace(asked("web-1", 2), event="credential.denied"))
    assert await spender.spend()


async def test_zero_is_no_limit(book: Book) -> None:
    spender = Spender(book)
    assert all([await spender.spend(f"web-{number}") for number in range(40)])
