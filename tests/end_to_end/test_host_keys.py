"""An instance that makes new host keys, or a new RDP certificate, lets nobody in until somebody has looked at them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from broker.emulator import Emulator, Fixture
from tests.end_to_end.places import LINUX, WINDOWS, Place, Running, a_place

INSTANCES: Sequence[Mapping[str, Any]] = (
    {"name": "web-1", "tags": {"env": "prod"}, **LINUX},
    {"name": "win-1", **WINDOWS},
)


@asynccontextmanager
async def rebuilt_instances(place: Place) -> AsyncIterator[None]:
    """Let the broker see a Lightsail in which both instances were made anew, with keys of their own."""
    async with Emulator(Fixture.of({"instances": [dict(each) for each in INSTANCES]}, place.folder)) as emulator:
        settings = place.folder / "broker.toml"
        settings.write_text(settings.read_text().replace(place.emulator.url, emulator.url))
        place.environment.update(emulator.environment)
        yield


def client_of(place: Place, running: Running) -> Mapping[str, str]:
    """Answer the environment of a person's commands."""
    return {"BROKER_URL": running.url, "BROKER_TOKEN": place.token, "BROKER_CA_FILE": str(place.folder / "ca.pem")}


async def test_changed_host_keys_keep_everybody_out_until_they_are_accepted(tmp_path: Path) -> None:
    async with a_place(tmp_path, INSTANCES) as place:
        async with place.serving() as running:
            first = {name: await running.issue(name) for name in ("web-1", "win-1")}
            assert [status for status, _ in first.values()] == [201, 201]
            await running.stop()
        async with rebuilt_instances(place), place.serving() as running:
            environment = client_of(place, running)
            for name in first:
                status, refused = await running.issue(name)
                assert (status, refused["code"]) == (409, "host_key_changed")
                assert f"broker hosts accept main/eu-west-1/{name}" in refused["next"]
                got = await place.broker("get", name, **environment)
                assert got.code == 5
            shown = await place.broker("hosts", "ls", "--format", "json", **environment)
            for host in json.loads(shown.out):
                [offered] = host["offered"]
                assert offered not in host["host_keys"]
                options = ("--fingerprint", offered.partition(" ")[2], "--reason", "rebuilt")
                accepted = await place.broker("hosts", "accept", host["name"], *options, **environment)
                assert accepted.code == 0, accepted.err
            again = {name: await running.issue(name) for name in first}
            assert [status for status, _ in again.values()] == [201, 201]
            assert again["web-1"][1]["ssh"]["known_hosts"] != first["web-1"][1]["ssh"]["known_hosts"]
            leases = await place.broker("leases", "--format", "json", **environment)
            assert {lease["lease_id"] for lease in json.loads(leases.out)} >= {
                document["lease"]["id"] for _, document in again.values()
            }
            checked = await place.broker("audit", "rebuild", "--check")  # while the service writes
            assert (checked.code, checked.out) == (0, ""), checked.err
            await running.stop()
        events = await place.events("--instance", "main/eu-west-1/web-1")
        assert {event["instance"]["tags"]["env"] for event in events} == {"prod"}
        assert (await place.verify()).code == 0
