"""`broker doctor` against a real broker and the embedded Lightsail."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.end_to_end.places import LINUX, Place, Running, a_place

POLICY = """\
@id("list") permit(principal, action == Action::"list", resource) unless { resource.name == "hidden" };
@id("ops-ssh") permit(principal, action == Action::"ssh", resource) when { resource.name != "hidden" && resource.name
!= "team" && (resource.name != "asks" || context.reason != "") };
@id("dba") permit(principal in Group::"corp/dba", action == Action::"ssh", resource);
@id("freeze") forbid(principal, action == Action::"ssh", resource) when { resource.name == "frozen" };
"""
NAMES = ("asks", "team", "hidden", "frozen")


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    instances = [{**LINUX, "name": name} for name in NAMES]
    stopped = {**LINUX, "name": "stopped", "state": "stopped"}
    closed = {**LINUX, "name": "closed", "public_ip": ""}
    async with a_place(tmp_path, [*instances, stopped, closed]) as place:
        (place.folder / "policies" / "all.cedar").write_text(POLICY)
        yield place


async def causes(place: Place, service: Running, *words: str) -> list[str]:
    environment = {
        "BROKER_URL": service.url,
        "BROKER_CA_FILE": str(place.folder / "ca.pem"),
        "BROKER_TOKEN": service.token,
    }
    ended = await place.broker("doctor", *words, "--format", "json", **environment)
    assert ended.code == 1, ended.out + ended.err
    return [each["cause"] for each in json.loads(ended.out)["findings"] if each["status"] == "problem"]


async def test_the_cause_is_named(place: Place) -> None:
    async with place.serving() as service:
        assert await causes(place, service, "stopped") == ["not-running"]
        assert await causes(place, service, "closed") == ["no-address"]
        assert await causes(place, service, "asks") == ["obligation"]
        assert await causes(place, service, "team") == ["group-missing"]
        assert await causes(place, service, "frozen") == ["forbidden"]
        assert await causes(place, service, "hidden") == ["not-visible"]
        assert await causes(place, service, "nobody") == ["not-visible"]
