"""Locks: on every route, on every replica within a second, before anything is decided."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from broker.demo.stage import Person
from tests.end_to_end.office import DEPUTY, DEV, LEAD, OTHER, STRANGER, Office, two_replicas
from tests.end_to_end.places import LINUX, Place, a_place, eventually

POLICIES = """
@id("connect")
permit (principal in Group::"corp/dev", action == Action::"ssh", resource);

@id("see")
permit (principal, action == Action::"list", resource) unless { resource.hasTag("hidden") };

@id("guard")
permit (principal in Group::"corp/leads", action == Action::"lock", resource == Account::"main");

@id("guard-with-reason")
permit (principal in Group::"corp/deputies", action == Action::"lock", resource) when { context.reason like "INC-*" };
"""
ROUTES = ("/v1/instances", "/v1/leases", "/v1/whoami", "/v1/requests", "/v1/blueprints", "/v1/break-glass", "/v1/locks")


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    (tmp_path / "one").mkdir()
    instances = [{**LINUX, "name": "web-1"}, {**LINUX, "name": "web-2", "tags": {"hidden": "yes"}}]
    async with a_place(tmp_path / "one", instances) as place:
        (tmp_path / "one" / "policies" / "all.cedar").write_text(POLICIES)
        place.environment["BROKER__LIMITS__PER_CALLER_PER_MINUTE"] = "1000"
        place.environment["BROKER__LIMITS__ISSUES_PER_CALLER_PER_MINUTE"] = "1000"
        yield place


@pytest.fixture
async def office(place: Place) -> AsyncIterator[Office]:
    async with place.serving() as service:
        yield Office(place, service)


async def lock(office: Office, kind: str, target: str, person: Person = LEAD, **more: object) -> tuple[int, Any]:
    return await office.ask(person, "/v1/locks", {"kind": kind, "target": target, "message": "call 555", **more})


async def remove(office: Office, id_: str, person: Person = LEAD) -> tuple[int, Any]:
    return await office.ask(person, f"/v1/locks/{id_}/remove", {"reason": "over"})


async def get_in(office: Office, person: Person = DEV, instance: str = "web-1") -> tuple[int, Any]:
    return await office.ask(person, "/v1/credentials", {"instance": instance})


async def test_a_locked_person_is_refused_on_every_route(office: Office) -> None:
    assert (await get_in(office))[0] == 201
    status, made = await lock(office, "user", "corp/dev", ttl=3600)
    assert (status, made["in_force"], made["created_by"]) == (201, True, "corp/lead")
    for answer in [await get_in(office), *[await office.ask(DEV, route) for route in ROUTES]]:
        status, refused = answer
        assert (status, refused["code"], "call 555" in refused["detail"]) == (403, "locked", True), answer
        assert "corp/lead" in refused["next"]
    assert (await get_in(office, LEAD))[0] == 201
    assert (await office.service.ask("/healthz"))[0] == 200
    told = await office.events("lock.")
    assert [event["event"] for event in told] == ["lock.created", *["lock.refused"] * 8]
    assert told[0]["decision"]["policies"] == ["guard"]
    assert {event["details"]["route"] for event in told[1:]} == {"/v1/credentials", *ROUTES}

    assert (await remove(office, made["id"]))[1]["in_force"] is False
    assert (await get_in(office))[0] == 201
    assert (await remove(office, made["id"]))[1]["code"] == "request_closed"
    assert (await office.place.verify()).code == 0


async def test_a_locked_instance_lets_nobody_in_and_is_told_to_who_may_know_of_it(office: Office) -> None:
    assert (await lock(office, "instance", "web-1"))[0] == 201
    status, refused = await get_in(office)
    assert (status, refused["code"]) == (403, "locked")
    assert (await office.ask(DEV, "/v1/decisions", {"instance": "web-1"}))[1]["code"] == "locked"
    assert (await lock(office, "instance", "main/eu-west-1/web-2"))[0] == 201
    hidden = await get_in(office, STRANGER, "web-2")
    assert (hidden[0], hidden[1]["code"]) == (403, "denied")
    [event] = [event for event in await office.events("credential.denied") if event["actor"]["subject"] == "stranger"]
    assert event["error"] == "denied"


async def test_a_locked_account_lets_nobody_in(office: Office) -> None:
    status, made = await lock(office, "account", "main", ttl=1)
    assert status == 201
    assert (await get_in(office))[1]["code"] == "locked"

    async def is_over() -> bool:
        return (await get_in(office))[0] == 201

    await eventually(is_over)

    async def is_written_down() -> bool:
        return [event["details"]["thread"] for event in await office.events("lock.expired")] == [made["id"]]

    await eventually(is_written_down, 20)


async def test_a_lock_that_is_there_holds_after_a_restart(place: Place) -> None:
    async with place.serving() as service:
        assert (await lock(Office(place, service), "user", "corp/dev"))[0] == 201
    async with place.serving() as service:
        assert (await get_in(Office(place, service)))[1]["code"] == "locked"


async def test_who_may_lock_say_the_policies(office: Office) -> None:
    status, refused = await lock(office, "user", "corp/lead", STRANGER)
    assert (status, refused["code"]) == (403, "denied")
    assert (await lock(office, "user", "corp/dev", DEPUTY))[1]["code"] == "reason_required"
    status, made = await lock(office, "user", "corp/dev", DEPUTY, message="INC-7")
    assert status == 201
    assert (await remove(office, made["id"], STRANGER))[0] == 404
    for person, seen in ((LEAD, 1), (DEPUTY, 1), (STRANGER, 0)):
        assert len((await office.ask(person, "/v1/locks"))[1]["items"]) == seen
    assert [event["error"] for event in await office.events("lock.refused")] == ["denied", "reason_required"]


async def test_a_lock_on_nobody_is_refused(office: Office) -> None:
    for kind, target in (
        ("user", "dev"),
        ("user", "nowhere/dev"),
        ("workload", "corp/dev"),
        ("user", "corp/"),
        ("instance", "web-9"),
        ("instance", "elsewhere/eu-west-1/web-1"),
        ("account", "other"),
        ("group", "corp/dev"),
    ):
        assert (await lock(office, kind, target))[0] == 400, (kind, target)
    assert (await lock(office, "user", "corp/dev", message=""))[0] == 400
    assert (await lock(office, "user", "corp/dev", message="a\u001b[31m"))[0] == 400
    assert (await lock(office, "instance", "main/eu-west-1/not-yet"))[0] == 201


async def test_the_command_line_locks_and_tells_what_is_out(office: Office) -> None:
    assert (await get_in(office, LEAD))[0] == 201
    made = await office.broker(
        OTHER, "lock", "create", "--user", "corp/dev", "--ttl", "4h", "--message", "laptop stolen", "--format", "json"
    )
    assert made.code == 0, made.err
    [document] = json.loads(made.out)
    refused = await office.broker(DEV, "get", "web-1")
    assert (refused.code, "laptop stolen" in refused.err, "corp/other" in refused.err) == (3, True, True), refused.err
    assert document["id"][:8] in (await office.broker(LEAD, "lock")).out
    assert (await office.broker(STRANGER, "lock", "create", "--user", "corp/dev", "--message", "x")).code == 3
    assert (await office.broker(LEAD, "lock", "remove", document["id"][:8])).code == 0
    assert (await office.broker(DEV, "get", "web-1")).code == 0
    own = await office.broker(LEAD, "lock", "create", "--user", "corp/lead", "--message", "it is me")
    assert own.code == 0, own.err  # that nothing is taken back cannot be told to somebody who is locked by then


async def test_who_is_locked_while_their_body_still_comes_gets_nothing(office: Office) -> None:
    where = urlsplit(office.service.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port, ssl=office.place.client_context())
    body = json.dumps({"instance": "web-1"}).encode()
    head = (
        f"POST /v1/credentials HTTP/1.1\r\nHost: {where.netloc}\r\nAuthorization: Bearer {office.token(DEV)}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode() + body[:1])
    await asyncio.sleep(0.5)  # they have been let in by then
    assert (await lock(office, "user", "corp/dev"))[0] == 201
    writer.write(body[1:])
    answer = await reader.read()
    writer.close()
    assert (answer.split()[1], b'"locked"' in answer) == (b"403", True)
    assert [event["event"] for event in await office.events("credential.", "lock.")] == ["lock.created", "lock.refused"]


@pytest.mark.real("postgresql")
async def test_a_lock_holds_on_every_replica_and_comes_off_on_every_one(place: Place, postgresql: str) -> None:
    async with two_replicas(place, postgresql) as (one, other):
        assert (await get_in(other))[0] == 201
        made = {"id": ""}
        for _ in range(3):
            status, made = await lock(one, "user", "corp/dev")
            assert status == 201

            async def is_locked() -> bool:
                return (await get_in(other))[0] == 403

            await eventually(is_locked)
            assert (await remove(other, made["id"]))[0] == 200

            async def is_free() -> bool:
                return (await get_in(one))[0] == 201

            await eventually(is_free)
        removals = await asyncio.gather(*(remove(each, made["id"]) for each in (one, other)))
        assert [status for status, _ in removals] == [409, 409]
