"""Budgets: a burst is refused, noticed, and answered by what to do next; the log is what is counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from broker.demo.stage import Person
from tests.end_to_end.office import DEV, LEAD, Office, two_replicas
from tests.end_to_end.places import LINUX, Place, a_place

POLICIES = """
@id("connect")
permit (principal in Group::"corp/dev", action == Action::"ssh", resource);

@id("break")
permit (principal in Group::"corp/leads", action == Action::"ssh", resource) when { context.break_glass };
"""


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    (tmp_path / "one").mkdir()
    async with a_place(tmp_path / "one", [{**LINUX, "name": f"web-{number}"} for number in range(1, 6)]) as place:
        (tmp_path / "one" / "policies" / "all.cedar").write_text(POLICIES)
        yield place


def limited(place: Place, *, minute: int = 0, hour: int = 0) -> Place:
    place.environment["BROKER__LIMITS__ISSUES_PER_CALLER_PER_MINUTE"] = str(minute)
    place.environment["BROKER__LIMITS__INSTANCES_PER_CALLER_PER_HOUR"] = str(hour)
    return place


async def get_in(office: Office, instance: str = "web-1", person: Person = DEV, **more: object) -> tuple[int, Any]:
    return await office.ask(person, "/v1/credentials", {"instance": instance, **more})


async def test_so_many_instances_an_hour_and_not_one_more(place: Place) -> None:
    async with limited(place, hour=3).serving() as service:
        office = Office(place, service)
        for name in ("web-1", "web-2", "web-3", "web-1"):
            assert (await get_in(office, name))[0] == 201
        status, refused = await get_in(office, "web-4")
        assert (status, refused["code"], 3590 < refused["retry_after"] <= 3600) == (429, "budget_exhausted", True)
        assert "Wait 60 minutes" in refused["next"]
        assert (await get_in(office, "web-5"))[0] == 429
        assert (await get_in(office, "web-2"))[0] == 201  # one that they are in already
        assert (await get_in(office, "web-4", LEAD))[0] == 201  # everybody has their own
        said = [event["event"] for event in await office.events("budget.", "credential.denied")]
        assert said == ["budget.exhausted", "credential.denied", "credential.denied"]
        [exhausted] = await office.events("budget.")
        assert exhausted["details"]["budget"] == "3 different instances within an hour"
    async with place.serving() as service:
        assert (await get_in(Office(place, service), "web-4"))[0] == 429  # a restart forgets nothing


async def test_of_many_at_once_as_many_get_in_as_may(place: Place) -> None:
    async with limited(place, minute=5).serving() as service:
        office = Office(place, service)
        outcomes = await asyncio.gather(*(get_in(office) for _ in range(12)))
        assert sorted(status for status, _ in outcomes) == [201] * 5 + [429] * 7
        assert all(0 < answer["retry_after"] <= 60 for status, answer in outcomes if status == 429)
        assert len(await office.events("budget.")) == 1


async def test_an_emergency_is_not_held_up_by_a_budget(place: Place) -> None:
    async with limited(place, minute=1, hour=1).serving() as service:
        office = Office(place, service)
        only_lead = Person("chief", ("leads",))
        assert (await get_in(office, person=only_lead, break_glass=True, reason="down"))[0] == 201
        [use] = (await office.ask(only_lead, "/v1/break-glass"))[1]["items"]
        assert use["state"] == "open"


async def test_no_limit_is_none(place: Place) -> None:
    async with limited(place).serving() as service:
        office = Office(place, service)
        for name in ("web-1", "web-2", "web-3", "web-4", "web-5"):
            assert (await get_in(office, name))[0] == 201


@pytest.mark.real("postgresql")
async def test_replicas_share_a_budget(place: Place, postgresql: str) -> None:
    async with two_replicas(limited(place, minute=3), postgresql) as (one, other):
        for office, status in ((one, 201), (other, 201), (one, 201), (other, 429), (one, 429)):
            assert (await get_in(office))[0] == status
