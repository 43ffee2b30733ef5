"""Breaking the glass over HTTP and at the command line: at once, once, and reviewed by somebody else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from broker.demo.stage import Person
from tests.end_to_end.office import DEV, LEAD, OTHER, STRANGER, Office, two_replicas
from tests.end_to_end.places import LINUX, Place, a_place

POLICIES = """
@id("break")
@max_duration("30m")
permit (principal in Group::"corp/dev", action == Action::"ssh", resource) when { context.break_glass };

@id("with-ticket")
permit (principal in Group::"corp/dev", action == Action::"ssh", resource) when { context.ticket like "OPS-*" };

@id("answer")
permit (principal in Group::"corp/leads", action == Action::"approve", resource);

@id("see")
permit (principal, action == Action::"list", resource);
"""
EMERGENCY = {"instance": "web-1", "reason": "checkout is down", "break_glass": True}


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    (tmp_path / "one").mkdir()
    async with a_place(tmp_path / "one", [{**LINUX, "name": "web-1"}, {**LINUX, "name": "web-2"}]) as place:
        (tmp_path / "one" / "policies" / "all.cedar").write_text(POLICIES)
        yield place


@pytest.fixture
async def office(place: Place) -> AsyncIterator[Office]:
    async with place.serving() as service:
        yield Office(place, service)


async def breaks(office: Office, person: Person = DEV, **more: object) -> tuple[int, Any]:
    return await office.ask(person, "/v1/credentials", {**EMERGENCY, **more})


async def owed(office: Office, person: Person = LEAD) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await office.ask(person, "/v1/break-glass?show=reviewable"))[1]["items"]
    return found


async def review(office: Office, person: Person, use: str, **body: object) -> tuple[int, Any]:
    return await office.ask(person, f"/v1/break-glass/{use}/review", {"reason": "seen", **body})


async def test_it_works_at_once_and_leaves_a_debt_until_somebody_else_has_reviewed_it(office: Office) -> None:
    status, credential = await breaks(office)
    assert status == 201, credential
    assert any("you cannot do so again" in warning for warning in credential["warnings"])
    status, refused = await breaks(office, instance="web-2")
    assert (status, refused["code"], "web-1" in refused["detail"]) == (403, "review_required", True)
    status, decision = await office.ask(DEV, "/v1/decisions", EMERGENCY)
    assert (status, decision["decision"], decision["obligations"]) == (200, "deny", ["review"])

    [use] = await owed(office)
    assert (use["person"], use["reason"], use["state"], use["issued"]) == ("corp/dev", "checkout is down", "open", True)
    status, settled = await review(office, LEAD, use["id"], verdict="justified", reason="read the session's log")
    assert (status, settled["state"], settled["reviewed_by"], settled["verdict"]) == (
        200, "settled", "corp/lead", "justified",
    )  # fmt: skip
    assert await owed(office) == []
    assert (await review(office, OTHER, use["id"]))[1]["code"] == "request_closed"
    status, credential = await breaks(office)
    assert status == 201, credential
    [again] = await owed(office)
    assert again["id"] != use["id"]
    assert (await review(office, LEAD, use["id"]))[0] == 404  # the one that they had looked at is not this one

    told = [event["event"] for event in await office.events("break_glass.", "credential.")]
    assert told == [
        "break_glass.used", "credential.requested", "credential.issued", "credential.denied",
        "break_glass.reviewed",
        "break_glass.used", "credential.requested", "credential.issued",
    ]  # fmt: skip
    events = await office.events("credential.issued")
    assert all(event["break_glass"] for event in events)
    assert len({event["details"]["thread"] for event in events}) == 1
    assert (await office.place.verify()).code == 0


async def test_nobody_reviews_their_own_use_and_who_may_not_learns_nothing(office: Office) -> None:
    assert (await breaks(office, LEAD))[0] == 201  # leads are developers too
    assert await owed(office, LEAD) == await owed(office, STRANGER) == []
    [use] = await owed(office, OTHER)
    status, refused = await review(office, LEAD, use["id"])
    assert (status, refused["code"], "their own" in refused["detail"]) == (403, "denied", True)
    assert (await review(office, STRANGER, use["id"]))[1]["code"] == "not_found"
    assert (await review(office, OTHER, "nothing"))[0] == 404
    assert (await review(office, OTHER, use["id"], reason=""))[0] == 400
    assert [event["error"] for event in await office.events("break_glass.refused")] == ["denied", "denied"]
    mine = (await office.ask(LEAD, "/v1/break-glass?show=mine"))[1]["items"]
    assert [each["id"] for each in mine] == [use["id"]]
    status, settled = await review(office, OTHER, use["id"], verdict="unjustified")
    assert (status, settled["verdict"]) == (200, "unjustified")


async def test_the_glass_stays_whole_where_it_need_not_be_broken(office: Office) -> None:
    status, credential = await breaks(office, ticket="OPS-1")
    assert status == 201, credential
    assert any("glass is whole" in warning for warning in credential["warnings"])
    assert await owed(office) == []
    assert "break_glass" not in (await office.events("credential.issued"))[0]
    assert (await breaks(office))[0] == 201
    assert (await breaks(office, ticket="OPS-1"))[0] == 201  # a debt holds up nothing but the next breaking


async def test_it_takes_a_reason_whatever_the_policies_say(office: Office) -> None:
    status, refused = await breaks(office, reason=" ")
    assert (status, refused["code"]) == (403, "reason_required")
    assert (await breaks(office, STRANGER))[1]["code"] == "denied"
    assert await owed(office) == []


async def test_what_brought_no_credential_leaves_no_debt(office: Office) -> None:
    await office.fault(operation="GetInstanceAccessDetails", kind="error:AccessDeniedException", times=1)
    assert (await breaks(office))[0] == 502
    assert await owed(office) == []
    assert (await breaks(office))[0] == 201


async def test_the_command_line_shows_and_reviews(office: Office) -> None:
    got = await office.broker(DEV, "get", "web-1", "--break-glass", "--reason", "down")
    assert (got.code, "cannot do so again" in got.err + got.out) == (0, True), got.err
    refused = await office.broker(DEV, "get", "web-1", "--break-glass", "--reason", "down")
    assert (refused.code, "break-glass review" in refused.err) == (6, True), refused.err
    [use] = json.loads((await office.broker(LEAD, "break-glass", "ls", "--format", "json")).out)
    assert use["id"][:8] in (await office.broker(DEV, "break-glass")).out
    own = await office.broker(DEV, "break-glass", "review", use["id"][:8], "--reason", "mine")
    assert own.code == 3, own.err
    assert (await office.broker(LEAD, "break-glass", "review", use["id"][:8])).code == 2
    done = await office.broker(LEAD, "break-glass", "review", use["id"][:8], "--reason", "read the log")
    assert (done.code, "corp/dev" in done.err) == (0, True), done.err
    assert (await office.broker(DEV, "get", "web-1", "--break-glass", "--reason", "down")).code == 0


@pytest.mark.real("postgresql")
async def test_of_two_uses_on_two_replicas_exactly_one_gets_in(place: Place, postgresql: str) -> None:
    async with two_replicas(place, postgresql) as replicas:
        for _ in range(3):
            outcomes = await asyncio.gather(*(breaks(office) for office in replicas))
            assert sorted(status for status, _ in outcomes) == [201, 403], outcomes
            assert [answer["code"] for status, answer in outcomes if status == 403] == ["review_required"]
            [use] = await owed(replicas[1])
            assert (await review(replicas[0], LEAD, use["id"]))[0] == 200
