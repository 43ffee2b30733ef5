"""Policies over what AWS says of an instance, and over where a request comes from, through the whole service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.office import DEV, Office
from tests.end_to_end.places import LINUX, Place, a_place

INSTANCES = [
    {**LINUX, "name": "web-1", "tags": {"env": "prod"}},
    {**LINUX, "name": "web-2", "tags": {"env": "dev"}, "blueprint": "debian_12"},
    {**LINUX, "name": "web-3", "tags": {"env": "dev", "owner": "dev"}, "region": "us-east-1"},
]


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    (tmp_path / "one").mkdir()
    async with a_place(tmp_path / "one", INSTANCES) as place:
        place.environment["BROKER__SERVER__TRUSTED_PROXIES"] = '["127.0.0.0/8"]'
        settings = place.folder / "broker.toml"
        settings.write_text(settings.read_text().replace('["eu-west-1"]', '["eu-west-1", "us-east-1"]'))
        yield place


def permits(place: Place, condition: str) -> None:
    text = f'@id("p") permit (principal, action == Action::"ssh", resource) when {{ {condition} }};\n'
    (place.folder / "policies" / "all.cedar").write_text(text)


async def opened(office: Office, **headers: str) -> set[str]:
    """Answer the instances that open for a request with these headers."""
    found = set()
    for instance in INSTANCES:
        path = f"{office.service.url}/v1/decisions"
        sent = {"Authorization": f"Bearer {office.token(DEV)}", **headers}
        body = {"instance": instance["name"]}
        async with office.service.session.post(path, json=body, headers=sent) as answer:
            if answer.status == 200 and (await answer.json())["decision"] == "allow":
                found.add(str(instance["name"]))
    return found


@pytest.mark.parametrize(
    ("condition", "names"),
    [
        ('resource.hasTag("env") && resource.getTag("env") == "dev"', {"web-2", "web-3"}),
        ('resource.hasTag("owner") && resource.getTag("owner") == principal.subject', {"web-3"}),
        ('resource in Region::"main/us-east-1"', {"web-3"}),
        ('resource in Account::"main" && resource.region != "us-east-1"', {"web-1", "web-2"}),
        ('resource.blueprint == "debian_12"', {"web-2"}),
        ('resource.platform == "LINUX_UNIX" && resource.state == "running"', {"web-1", "web-2", "web-3"}),
        ('resource.key_pair == "another"', set()),
    ],
)
async def test_what_aws_says_of_an_instance_decides(place: Place, condition: str, names: set[str]) -> None:
    permits(place, condition)
    async with place.serving() as service:
        assert await opened(Office(place, service)) == names


async def test_the_network_is_the_callers_behind_a_trusted_proxy_and_nobodys_claim(place: Place) -> None:
    permits(place, 'context.source.isInRange(ip("10.0.0.0/8"))')
    everything = {"web-1", "web-2", "web-3"}
    async with place.serving() as service:
        office = Office(place, service)
        assert await opened(office) == set()
        assert await opened(office, **{"X-Forwarded-For": "10.1.2.3"}) == everything
        assert await opened(office, **{"X-Forwarded-For": "10.1.2.3, 192.0.2.9"}) == set()  # what the client wrote
        assert await opened(office, **{"X-Forwarded-For": "192.0.2.9, 10.1.2.3"}) == everything
        assert await opened(office, **{"X-Forwarded-For": "not-an-address"}) == set()
    place.environment["BROKER__SERVER__TRUSTED_PROXIES"] = "[]"
    async with place.serving() as service:
        assert await opened(Office(place, service), **{"X-Forwarded-For": "10.1.2.3"}) == set()


QUARANTINE = """
@id("fresh")
@max_staleness("1s")
permit (principal, action == Action::"ssh", resource == Instance::"main/eu-west-1/web-1");

@id("as-listed")
permit (principal, action == Action::"ssh", resource == Instance::"main/us-east-1/web-3");

@id("quarantine")
forbid (principal, action, resource) when { resource.hasTag("quarantine") };
"""


async def test_a_permit_that_asks_for_fresh_tags_sees_what_was_tagged_a_moment_ago(place: Place) -> None:
    (place.folder / "policies" / "all.cedar").write_text(QUARANTINE)
    async with place.serving() as service:
        office = Office(place, service)
        assert await opened(office) == {"web-1", "web-3"}
        for instance in place.emulator.fixture.instances:
            assert isinstance(instance.tags, dict)
            instance.tags["quarantine"] = "yes"
        await asyncio.sleep(1.1)
        assert await opened(office) == {"web-3"}  # its tags are those of the last list, up to a minute old
        status, refused = await office.ask(DEV, "/v1/credentials", {"instance": "web-1"})
        assert (status, refused["code"]) == (403, "denied")
        [event] = await office.events("credential.")
        assert event["instance"]["tags"]["quarantine"] == "yes"
        assert event["details"]["tags_age"] <= 1
        await office.fault(operation="GetInstances", kind="error:ServiceException")
        (place.folder / "policies" / "all.cedar").write_text(QUARANTINE.partition('@id("quarantine")')[0])
        await asyncio.sleep(1.1)
        refused = await eventually_refused(office)
        assert refused["code"] in {"upstream_error", "upstream_unavailable"}  # nobody knows how it is tagged by now
        assert await opened(office) == {"web-3"}


async def eventually_refused(office: Office) -> dict[str, Any]:
    """Ask until the changed policies are in force, and the refusal is of another kind."""
    async with asyncio.timeout(10):
        while True:
            status, refused = await office.ask(DEV, "/v1/credentials", {"instance": "web-1"})
            assert status >= 400
            if refused["code"] != "denied":
                return dict(refused)
            await asyncio.sleep(0.1)
