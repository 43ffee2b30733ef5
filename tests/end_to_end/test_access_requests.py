"""Access requests over HTTP: several people, real policies, the log, and replicas that come at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.demo.stage import Person
from tests.doubles.outbound import SECRET, inbox
from tests.end_to_end.office import DEPUTY, DEV, LEAD, OTHER, STRANGER, Office, two_replicas
from tests.end_to_end.places import LINUX, Place, a_place, eventually

POLICIES = """
@id("ask")
@max_duration("2h")
permit (principal in Group::"corp/dev", action == Action::"ssh", resource)
when { resource.hasTag("approvals") && context.reason != "" }
when { resource.getTag("approvals") == "one" && context.approvals >= 1
    || resource.getTag("approvals") == "two" && context.approvals >= 2 };

@id("answer")
permit (principal in Group::"corp/leads", action == Action::"approve", resource);

@id("answer-late")
permit (principal in Group::"corp/deputies", action == Action::"approve", resource) when { context.reason != "" };

@id("see")
permit (principal, action == Action::"list", resource);
"""
WEBHOOK = """
[[notify.webhooks]]
name = "pager"
url = "{url}"
secret = "file:pager.secret"
events = ["request.*"]
allow_private = true
"""
WISH = {"instance": "web-1", "reason": "a look at its logs"}


class RequestOffice(Office):
    """People who ask each other."""

    async def created(self, instance: str = "web-1", **wish: object) -> str:
        status, request = await self.ask(DEV, "/v1/requests", {**WISH, "instance": instance, **wish})
        assert (status, request["state"]) == (201, "pending"), request
        return str(request["id"])

    async def answered(self, person: Person, request: str, verb: str, **body: object) -> tuple[int, Any]:
        return await self.ask(person, f"/v1/requests/{request}/{verb}", body)

    async def gets_in(self, person: Person = DEV, instance: str = "web-1") -> tuple[int, Any]:
        return await self.ask(person, "/v1/credentials", {**WISH, "instance": instance})


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    (tmp_path / "one").mkdir()
    tags = {"web-1": {"approvals": "one"}, "web-2": {"approvals": "two"}, "web-3": {}}
    instances = [{**LINUX, "name": name, "tags": {"env": "test", **of}} for name, of in tags.items()]
    async with a_place(tmp_path / "one", instances) as place:
        (tmp_path / "one" / "policies" / "all.cedar").write_text(POLICIES)
        place.environment["BROKER__LIMITS__PER_CALLER_PER_MINUTE"] = "1000"
        yield place


@pytest.fixture
async def office(place: Place) -> AsyncIterator[RequestOffice]:
    async with place.serving() as service:
        yield RequestOffice(place, service)


async def test_an_approval_lets_somebody_in_until_its_end(office: RequestOffice) -> None:
    status, refused = await office.gets_in()
    assert (status, refused["code"]) == (403, "approval_required")
    request = await office.created(duration=600)
    assert (await office.gets_in())[0] == 403
    status, approved = await office.answered(LEAD, request, "approve", reason="go ahead")
    assert (status, approved["state"], approved["approvals_needed"]) == (200, "approved", 1)
    assert [(each["approver"], each["reason"]) for each in approved["approvals"]] == [("corp/lead", "go ahead")]
    lasting = datetime.fromisoformat(approved["ends_at"]) - datetime.fromisoformat(approved["starts_at"])
    assert lasting == timedelta(seconds=600)
    status, credential = await office.gets_in()
    assert status == 201, credential
    assert datetime.fromisoformat(credential["lease"]["expires_at"]) <= datetime.fromisoformat(approved["ends_at"])
    assert (await office.gets_in(LEAD))[0] == 403  # it was not approved for anybody else
    assert (await office.answered(DEV, request, "cancel"))[1]["state"] == "cancelled"
    assert (await office.gets_in())[0] == 403

    told = [event for event in await office.place.events() if event["event"].startswith("request.")]
    assert [event["event"] for event in told] == ["request.created", "request.approved", "request.cancelled"]
    assert {event["details"]["thread"] for event in told} == {request}
    [issued] = [event for event in await office.place.events() if event["event"] == "credential.issued"]
    assert issued["details"]["request"] == request
    assert (await office.place.verify()).code == 0


async def test_nobody_approves_their_own_request(office: RequestOffice) -> None:
    status, request = await office.ask(LEAD, "/v1/requests", WISH, email="Lead@corp.example", email_verified=True)
    assert status == 201, request
    status, refused = await office.answered(LEAD, request["id"], "approve")
    assert (status, refused["code"], "their own" in refused["detail"]) == (403, "denied", True)
    same = await office.ask(
        OTHER, f"/v1/requests/{request['id']}/approve", {}, email="lead@CORP.example", email_verified=True
    )
    assert same[0] == 403
    assert (await office.answered(LEAD, request["id"], "deny"))[0] == 403
    unverified = await office.ask(
        OTHER, f"/v1/requests/{request['id']}/approve", {}, email="lead@corp.example", email_verified=False
    )
    assert (unverified[0], unverified[1]["state"]) == (200, "approved")
    names = [event["event"] for event in await office.place.events()]
    assert names.count("request.refused") == 3


async def test_two_approvals_are_of_two_people(office: RequestOffice) -> None:
    request = await office.created("web-2")
    status, first = await office.answered(LEAD, request, "approve")
    assert (status, first["state"], first["approvals_needed"], first["ends_at"]) == (200, "pending", 2, None)
    again = await office.answered(LEAD, request, "approve")
    assert len(again[1]["approvals"]) == 1
    assert (await office.gets_in(instance="web-2"))[0] == 403
    status, refused = await office.answered(DEPUTY, request, "approve")
    assert (status, refused["code"]) == (403, "reason_required")
    status, second = await office.answered(DEPUTY, request, "approve", reason="as agreed")
    assert (status, second["state"]) == (200, "approved")
    assert (await office.gets_in(instance="web-2"))[0] == 201


async def test_who_may_not_answer_learns_nothing(office: RequestOffice) -> None:
    request = await office.created()
    for verb in ("approve", "deny", "cancel"):
        status, hidden = await office.answered(STRANGER, request, verb)
        assert (status, hidden["code"]) == (404, "not_found")
    assert (await office.ask(STRANGER, f"/v1/requests/{request}"))[0] == 404
    assert (await office.ask(STRANGER, "/v1/requests"))[1]["items"] == []
    assert (await office.answered(LEAD, "nothing", "approve"))[0] == 404


async def test_what_needs_no_approval_or_is_never_allowed_is_no_request(office: RequestOffice) -> None:
    hidden = await office.ask(DEV, "/v1/requests", {**WISH, "instance": "web-3"})
    missing = await office.ask(DEV, "/v1/requests", {**WISH, "instance": "web-9"})
    assert {name: hidden[1][name] for name in ("status", "code", "detail")} == {
        name: missing[1][name] for name in ("status", "code", "detail")
    }
    assert hidden[0] == 403
    status, refused = await office.ask(DEV, "/v1/requests", {"instance": "web-1"})
    assert (status, refused["code"]) == (403, "reason_required")
    (office.place.folder / "policies" / "all.cedar").write_text('@id("all") permit(principal, action, resource);')

    async def is_loaded() -> bool:
        return (await office.ask(DEV, "/v1/requests", WISH))[0] == 400

    await eventually(is_loaded)


async def test_people_see_what_is_theirs_and_what_waits_for_them(office: RequestOffice) -> None:
    first, second = await office.created(), await office.created("web-2")

    async def listed(person: Person, **query: str) -> list[str]:
        text = "&".join(f"{name}={value}" for name, value in query.items())
        return [each["id"] for each in (await office.ask(person, f"/v1/requests?{text}"))[1]["items"]]

    assert await listed(DEV) == [second, first]
    assert await listed(DEV, show="reviewable") == []
    assert await listed(LEAD) == await listed(DEPUTY, show="reviewable") == [second, first]
    assert await listed(LEAD, show="mine") == []
    await office.answered(LEAD, second, "approve")
    await office.answered(LEAD, first, "deny", reason="not today")
    assert await listed(LEAD) == []
    assert await listed(OTHER) == [second]
    status, denied = await office.ask(DEV, f"/v1/requests/{first}")
    assert (status, denied["state"], denied["closing_reason"], denied["closed_by"]) == (
        200, "denied", "not today", "corp/lead",
    )  # fmt: skip
    status, closed = await office.answered(OTHER, first, "approve")
    assert (status, closed["code"]) == (409, "request_closed")
    status, page = await office.ask(DEV, "/v1/requests?limit=1")
    assert [each["id"] for each in page["items"]] == [second]
    status, rest = await office.ask(DEV, f"/v1/requests?cursor={page['next_cursor']}")
    assert [each["id"] for each in rest["items"]] == [first]


async def test_access_begins_when_it_was_wanted(office: RequestOffice) -> None:
    begin = datetime.now(UTC) + timedelta(hours=1)
    request = await office.created(starts_at=begin.isoformat(), duration=7 * 86_400)
    status, approved = await office.answered(LEAD, request, "approve")
    assert (status, approved["state"]) == (200, "approved")
    starts, ends = (datetime.fromisoformat(approved[name]) for name in ("starts_at", "ends_at"))
    assert abs(starts - begin) < timedelta(seconds=1)
    assert ends - starts == timedelta(hours=2)  # as long as the policies allow
    assert (await office.gets_in())[0] == 403


async def test_an_approval_follows_the_policies_of_its_moment(office: RequestOffice) -> None:
    request, other = await office.created(duration=3600), await office.created(duration=3600)
    folder = office.place.folder / "policies" / "all.cedar"
    folder.write_text(POLICIES.replace("2h", "5m"))

    async def is_loaded() -> bool:
        names = [event["event"] for event in await office.place.events()]
        return names.count("policies.loaded") == 2

    await eventually(is_loaded)
    approved = (await office.answered(LEAD, request, "approve"))[1]
    lasting = datetime.fromisoformat(approved["ends_at"]) - datetime.fromisoformat(approved["starts_at"])
    assert lasting == timedelta(minutes=5)
    folder.write_text(POLICIES.replace("approvals >= 1", "approvals >= 9"))

    async def is_too_late() -> bool:
        return bool((await office.answered(LEAD, other, "approve"))[1].get("code") == "request_closed")

    await eventually(is_too_late)


async def test_times_that_make_no_sense_are_refused(office: RequestOffice) -> None:
    for wrong in ({"pending_for": 59}, {"duration": 0}, {"starts_at": "2026-01-01T00:00:00"}, {"break_glass": True}):
        assert (await office.ask(DEV, "/v1/requests", {**WISH, **wrong}))[0] == 400


async def test_the_command_line_asks_and_answers(office: RequestOffice) -> None:
    broker = office.broker

    async def waiting_for_lead() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads((await broker(LEAD, "request", "ls", "--format", "json")).out)
        return found

    refused = await broker(DEV, "get", "web-1", "--reason", "a look")
    assert (refused.code, "broker request create web-1" in refused.err) == (6, True), refused.err
    made = await broker(
        DEV, "request", "create", "web-1", "--reason", "a look", "--duration", "10m", "--format", "json"
    )
    assert made.code == 0, made.err
    [request] = json.loads(made.out)
    assert (request["state"], request["duration"]) == ("pending", 600)
    assert f"broker request approve {request['id'][:8]}" in made.err
    assert request["id"][:8] in (await broker(LEAD, "request")).out
    own = await broker(DEV, "request", "approve", request["id"][:8])
    assert (own.code, "their own" in own.err) == (3, True), own.err

    waiting = asyncio.create_task(broker(DEV, "request", "create", "web-1", "--reason", "b", "--wait", "60s"))

    async def both() -> bool:
        return len(await waiting_for_lead()) == 2

    await eventually(both, 30)
    [other] = [each for each in await waiting_for_lead() if each["reason"] == "b"]
    denied = await broker(LEAD, "request", "deny", other["id"], "--reason", "not now")
    assert (denied.code, "may not get into web-1: denied" in denied.err) == (0, True), denied.err
    assert (await waiting).code == 3

    approved = await broker(LEAD, "request", "approve", request["id"][:8], "--reason", "go")
    assert (approved.code, "corp/dev may get into web-1 from" in approved.err) == (0, True), approved.err
    assert "approved by corp/lead" in (await broker(DEV, "request", "show", request["id"][:8])).err
    assert (await broker(DEV, "get", "web-1", "--reason", "a look")).code == 0
    unknown = await broker(DEV, "request", "show", "ffffffff")
    assert (unknown.code, "`broker request ls`" in unknown.err) == (2, True), unknown.err
    assert (await broker(DEV, "request", "create", "web-1", "--start", "soon")).code == 2
    assert (await broker(DEV, "request", "cancel", request["id"])).code == 0
    assert (await broker(DEV, "get", "web-1", "--reason", "a look")).code == 6


async def test_approvers_are_told_at_once(place: Place) -> None:
    async with inbox() as pager:
        settings = place.folder / "broker.toml"
        (place.folder / "pager.secret").write_text(SECRET)
        (place.folder / "pager.secret").chmod(0o600)
        settings.write_text(settings.read_text() + WEBHOOK.format(url=pager.url))
        async with place.serving() as service:
            office = RequestOffice(place, service)
            request = await office.created()

            async def is_told() -> bool:
                return [each["data"]["event"]["details"]["thread"] for each in pager.taken] == [request]

            await eventually(is_told)
            await office.answered(LEAD, request, "approve")

            async def is_answered() -> bool:
                return [each["type"] for each in pager.taken] == ["request.created", "request.approved"]

            await eventually(is_answered)
            assert (await office.ask(DEV, f"/v1/requests/{request}"))[1]["undelivered"] == []


@pytest.mark.real("postgresql")
async def test_of_two_answers_on_two_replicas_exactly_one_counts(place: Place, postgresql: str) -> None:
    async with two_replicas(place, postgresql) as (one, other):
        first, second = RequestOffice(one.place, one.service), RequestOffice(other.place, other.service)
        for _ in range(5):
            request = await first.created()
            approve = first.answered(LEAD, request, "approve")
            deny = second.answered(OTHER, request, "deny")
            outcomes = [status for status, _ in await asyncio.gather(approve, deny)]
            assert sorted(outcomes) == [200, 409]
            _, left = await first.ask(DEV, f"/v1/requests/{request}")
            assert left["state"] == ("approved" if outcomes[0] == 200 else "denied")
