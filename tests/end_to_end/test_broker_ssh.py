"""`broker ssh` and plain ssh, through the real service, to a real sshd; nothing here is a double but Lightsail."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker.client.leases import forget
from broker.demo.sshd import Sshd
from tests.end_to_end.conftest import Ran
from tests.end_to_end.places import LINUX, WINDOWS, Place, Running, a_place, eventually
from tests.real.door import SSH

pytestmark = pytest.mark.real("sshd", "ssh", "ssh-keygen")
LIFETIME = 8  # seconds: of a credential, a quarter is held back


@dataclass
class Desk:
    """A person's machine, and the service that it asks."""

    place: Place
    service: Running
    sshd: Sshd
    folder: Path
    environment: dict[str, str]

    async def run(self, *words: str | Path) -> Ran:
        process = await asyncio.create_subprocess_exec(
            *map(str, words),
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await process.communicate()
        return Ran(process.returncode or 0, out.decode(), err.decode())

    async def broker(self, *words: str) -> Ran:
        return await self.run(sys.executable, "-m", "broker", *words)

    async def issued(self) -> int:
        return len(await self.place.events("--event", "credential.issued"))


@asynccontextmanager
async def a_desk(tmp_path: Path) -> AsyncIterator[Desk]:
    with tempfile.TemporaryDirectory(prefix="desk-") as name:
        folder = Path(name)
        settings = ["MaxStartups 100"]
        with Sshd(folder / "sshd", trusted_ca="", principals=["x"], settings=settings) as sshd:
            (sshd.directory / "principals").write_text(f"{sshd.user}\n")
            linux = {**LINUX, "username": sshd.user, "host_keys": [str(sshd.host_key_file)]}
            tags = {"ssh-port": str(sshd.port), "env": "prod"}
            instances = [
                {**linux, "name": "web-1", "tags": tags},
                {**linux, "name": "short", "tags": tags, "certificate_lifetime": f"{LIFETIME}s"},
                {**WINDOWS, "name": "win-1"},
            ]
            async with a_place(tmp_path, instances) as place, place.serving() as service:
                sshd.trust(place.emulator.ssh_ca_line)
                environment = _environment(folder, place, service)
                yield Desk(place, service, sshd, folder, environment)
                forget(environment)


def _environment(folder: Path, place: Place, service: Running) -> dict[str, str]:
    (folder / "run").mkdir(0o700)
    (folder / "bin").mkdir()
    (folder / "config").touch(0o600)
    (folder / "token").touch(0o600)
    (folder / "token").write_text(place.token)
    (folder / "bin" / "ssh").write_text(SSH.format(ssh=shutil.which("ssh"), config=folder / "config"))
    (folder / "bin" / "ssh").chmod(0o700)
    return {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "HOME": str(folder),
        "XDG_RUNTIME_DIR": str(folder / "run"),
        "BROKER_URL": service.url,
        "BROKER_TOKEN_FILE": str(folder / "token"),
        "BROKER_CA_FILE": str(place.folder / "ca.pem"),
    }


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with a_desk(tmp_path) as opened:
        yield opened


async def test_a_person_gets_in_and_the_audit_log_names_the_reason_once(desk: Desk) -> None:
    for _ in range(2):
        ended = await desk.broker("ssh", "web-1", "--reason", "disk is full", "--", "id -un")
        assert (ended.code, ended.out) == (0, f"{desk.sshd.user}\n"), ended.err + desk.sshd.log()
    (event,) = await desk.place.events("--event", "credential.issued")

    assert event["reason"] == "disk is full"
    assert desk.sshd.logged(f"ID {event['credential']['key_id']}")


async def test_twenty_at_once_are_one_credential_in_the_log(desk: Desk) -> None:
    ended = await asyncio.gather(*(desk.broker("ssh", "web-1", "--", "echo in") for _ in range(20)))

    assert [(each.code, each.out) for each in ended] == [(0, "in\n")] * 20
    assert await desk.issued() == 1


async def test_the_end_of_the_lease_ends_the_key_and_the_next_login_gets_another(desk: Desk) -> None:
    first = await desk.broker("ssh", "short", "--", "echo in")
    assert (first.code, first.out) == (0, "in\n"), first.err
    (state,) = [json.loads(path.read_text()) for path in desk.folder.rglob("lease.json")]
    desk.environment["SSH_AUTH_SOCK"] = state["agent"]
    assert "RSA-CERT" in (await desk.run("ssh-add", "-l")).out

    async def is_gone() -> bool:
        return "RSA-CERT" not in (await desk.run("ssh-add", "-l")).out

    await eventually(is_gone, LIFETIME + 5)
    second = await desk.broker("ssh", "short", "--", "echo in")
    assert (second.code, second.out) == (0, "in\n"), second.err
    assert await desk.issued() == 2


async def test_plain_ssh_and_a_windows_instance_by_the_block(desk: Desk) -> None:
    (desk.folder / "config").write_text((await desk.broker("ssh-config")).out)
    ended = await desk.run("ssh", "web-1", "id -un")
    assert (ended.code, ended.out) == (0, f"{desk.sshd.user}\n"), ended.err
    closed = await desk.run("ssh", "win-1", "id")
    assert (closed.code, closed.out) == (255, "")
    assert "`broker rdp win-1` opens it" in closed.err
    assert "web-1" in (await desk.broker("ls", "--format", "ansible")).out


async def test_an_instance_that_is_none_of_mine_is_denied_and_not_connected_to(desk: Desk) -> None:
    ended = await desk.broker("ssh", "no-such")

    assert (ended.code, ended.out) == (3, "")
    assert "denied" in ended.err
    assert not list(desk.folder.rglob("lease.json"))
