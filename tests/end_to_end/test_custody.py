"""Operators change custody beside a running service: it works at once, and the event is never lost. Real processes."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import ClientSession
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.demo.stage import ALICE, ISSUER, mint
from broker.emulator import Emulator, Fixture
from tests.end_to_end.conftest import Ran, run_broker

SETTINGS = """\
[server]
listen = "127.0.0.1:0"
[[issuers]]
name = "corp"
issuer = "{issuer}"
audience = "lightsail-broker"
jwks_file = "jwks.json"
[[accounts]]
name = "main"
regions = ["eu-west-1"]
endpoint_url = "{endpoint}"
[audit]
origin = "test.example/audit"
"""
POLICY = '@id("all")\npermit(principal, action, resource);\n'
WINDOWS = {
    "name": "win-1",
    "region": "eu-west-1",
    "blueprint": "windows_server_2022",
    "bundle": "medium_win_3_0",
    "key_pair": "team-key",
    "password": "S3cret-Admin-Pw!",
    "public_ip": "127.0.0.1",
}
TEAM_KEY = ("team-key", "--account", "main", "--region", "eu-west-1")
ME = pwd.getpwuid(os.getuid()).pw_name


@dataclass
class Service:
    """A `broker serve` process, and a client of it."""

    process: subprocess.Popen[bytes]
    url: str
    token: str
    session: ClientSession

    async def open_windows(self) -> int:
        """Ask for the password; answer the status."""
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self.session.post(f"{self.url}/v1/credentials", json={"instance": "win-1"}, headers=headers) as got:
            document = await got.json(content_type=None)
            assert got.status != 201 or document["rdp"]["password"] == WINDOWS["password"]
            return got.status


@dataclass
class Place:
    """A folder with settings, a policy, a key, and an emulated Lightsail beside it."""

    folder: Path
    environment: dict[str, str]
    token: str

    @property
    def spool(self) -> Path:
        return self.folder / "state" / "audit.db.spool"

    async def broker(self, *words: str) -> Ran:
        """Run a command in the folder."""
        return await run_broker(words, self.environment, self.folder)

    async def add(self) -> Ran:
        return await self.broker("keys", "add", *TEAM_KEY, "--private-key", "team-key.pem")

    async def events(self, name: str) -> list[dict[str, Any]]:
        """Read the log beside whoever writes it, and leave no trace of that in it."""
        where = ("--database", "state/audit.db")
        found = await self.broker("audit", "search", *where, "--event", name, "--format", "json")
        assert found.code == 0, found.err
        items: list[dict[str, Any]] = json.loads(found.out)
        return items

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Service]:
        process = self._start()
        try:
            async with ClientSession() as session:
                yield Service(process, await self._url(process), self.token, session)
        finally:
            process.kill()
            process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "broker", "serve"],
                stderr=log,
                cwd=self.folder,
                env={**os.environ, **self.environment},
            )

    async def _url(self, process: subprocess.Popen[bytes]) -> str:
        async with asyncio.timeout(30):
            while process.poll() is None:
                said = (self.folder / "log").read_text()
                if "serving on " in said and said.endswith("\n"):
                    return said.partition("serving on ")[2].split()[0]
                await asyncio.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text())


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    key = Ed25519PrivateKey.generate()
    public = jwt.algorithms.OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [{**public, "kid": "demo", "alg": "EdDSA", "use": "sig"}]}))
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "all.cedar").write_text(POLICY)
    pairs = [{"name": "team-key", "region": "eu-west-1", "private_key": "team-key.pem"}]
    fixture = Fixture.of({"key_pairs": pairs, "instances": [WINDOWS]}, tmp_path)
    async with Emulator(fixture) as emulator:
        (tmp_path / "broker.toml").write_text(SETTINGS.format(issuer=ISSUER, endpoint=emulator.url))
        place = Place(tmp_path, dict(emulator.environment), mint(ALICE, key, datetime.now(UTC)))
        assert (await place.broker("init")).code == 0
        yield place


async def within(seconds: float, holds: Callable[[], Awaitable[bool]]) -> bool:
    """Tell whether it holds in time."""
    end = time.monotonic() + seconds
    while not await holds():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.1)
    return True


async def test_a_key_is_added_and_removed_while_the_service_runs(place: Place) -> None:
    async with place.serving() as service:
        assert await service.open_windows() == 422

        added = await place.add()
        assert added.code == 0, added.err
        assert "will record this" in added.err

        async def opens() -> bool:
            return await service.open_windows() == 201

        async def is_refused() -> bool:
            return await service.open_windows() == 422

        assert await within(1, opens)

        async def is_recorded() -> bool:
            return len(await place.events("keys.added")) == 1

        assert await within(5, is_recorded)
        [event] = await place.events("keys.added")
        assert (event["outcome"], event["target"]) == ("success", "main/eu-west-1/team-key")
        assert event["details"]["os_user"] == ME
        assert event["details"]["spooled_at"] <= event["time"]

        removed = await place.broker("keys", "remove", *TEAM_KEY)
        assert removed.code == 0, removed.err
        assert await within(5, is_refused)
        service.process.send_signal(signal.SIGTERM)  # right away: what is still in the spool is recorded at the stop
        assert await asyncio.to_thread(service.process.wait, 20) == 0

    assert list(place.spool.iterdir()) == []
    assert len(await place.events("keys.removed")) == 1
    verified = await place.broker("audit", "verify", "--require-sealed")
    assert verified.code == 0, verified.out + verified.err


async def test_an_event_survives_the_death_of_the_service_before_it_was_recorded(place: Place) -> None:
    async with place.serving() as service:
        service.process.send_signal(signal.SIGSTOP)  # it has the log, and collects nothing
        added = await place.add()
        assert added.code == 0, added.err
        service.process.kill()
        service.process.wait()
    [waiting] = place.spool.iterdir()
    assert await place.events("keys.added") == []

    async with place.serving() as service:
        assert await service.open_windows() == 201
        [event] = await place.events("keys.added")
        assert event["details"]["spool_id"] in waiting.name
        assert event["details"]["os_user"] == ME
        assert list(place.spool.iterdir()) == []


async def test_a_command_after_the_service_died_records_what_was_left(place: Place) -> None:
    async with place.serving() as service:
        service.process.send_signal(signal.SIGSTOP)
        assert (await place.add()).code == 0
    removed = await place.broker("keys", "remove", *TEAM_KEY)
    assert removed.code == 0, removed.err
    assert "will record" not in removed.err
    [added], [gone] = await place.events("keys.added"), await place.events("keys.removed")
    assert added["index"] < gone["index"]
    assert len(await place.events("service.started")) == 1


async def test_what_others_leave_in_the_spool_is_set_aside_and_the_service_goes_on(place: Place) -> None:
    place.spool.mkdir(mode=0o700)
    forged = {"event": "credential.issued", "outcome": "success"}
    for name, content in {"0-bad.json": "{", "1-forged.json": json.dumps(forged), "2-strange.txt": ""}.items():
        (place.spool / name).write_text(content)
        (place.spool / name).chmod(0o600)
    (place.spool / "3-link.json").symlink_to(place.folder / "state" / "audit.key")
    async with place.serving() as service:
        assert (await place.add()).code == 0

        async def is_recorded() -> bool:
            return len(await place.events("keys.added")) == 1

        assert await within(5, is_recorded)
        rejected = await place.events("spool.rejected")
        assert sorted(event["details"]["file"] for event in rejected) == [
            *("0-bad.json", "1-forged.json", "2-strange.txt", "3-link.json"),
        ]
        assert {event["outcome"] for event in rejected} == {"failure"}
        assert await service.open_windows() == 201
    assert all(path.name.endswith(".rejected") for path in place.spool.iterdir())
    assert (place.folder / "state" / "audit.key").is_file()


async def test_what_cannot_be_left_in_the_spool_does_not_happen(place: Place) -> None:
    async with place.serving() as service:
        place.spool.write_text("in the way")
        added = await place.add()
        assert added.code == 7
        assert "spool" in added.err
        assert await service.open_windows() == 422
    assert list((place.folder / "state" / "keys").iterdir()) == []


async def test_keys_that_are_rewrapped_while_the_service_runs_go_on_opening_passwords(place: Place) -> None:
    assert (await place.add()).code == 0
    (place.folder / "new.key").touch(mode=0o600)
    (place.folder / "new.key").write_text("bmV3IG1hc3RlciBrZXkgb2YgMzIgYnl0ZXMsIHllcyE=")
    async with place.serving() as service:
        rewrapped = await place.broker("keys", "rewrap", "--new-master-key", "file:new.key")
        assert rewrapped.code == 0, rewrapped.err
        await asyncio.sleep(1.5)
        assert await service.open_windows() == 201
        async with service.session.get(f"{service.url}/readyz") as ready:
            document = await ready.json()
        assert ready.status == 200, document
        assert "cannot be read: 1" in document["components"]["keys"]["detail"]
