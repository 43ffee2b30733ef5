"""A real sshd judges the certificates: in while they hold, out when they have ended or name somebody else."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from broker.demo.sshd import Sshd
from tests.end_to_end.places import LINUX, Place, Running, a_place

pytestmark = pytest.mark.real("sshd", "ssh", "ssh-keygen")
LIFETIME = 6  # seconds, of which a login takes half of one


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    short = {**LINUX, "name": "short", "certificate_lifetime": f"{LIFETIME}s"}
    other = {**LINUX, "name": "other", "username": "ubuntu"}
    async with a_place(tmp_path, [short, other, {**LINUX, "name": "web-1"}]) as place:
        yield place


async def log_in(service: Running, sshd: Sshd, instance: str) -> tuple[subprocess.CompletedProcess[str], Any]:
    """Get a credential and log in with it at once; answer what ssh did, and the credential."""
    status, document = await service.issue(instance)
    assert status == 201, document
    return await log_in_with(sshd, document), document


async def log_in_with(sshd: Sshd, document: Any) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        sshd.login, private_key=document["ssh"]["private_key"], certificate=document["ssh"]["certificate"]
    )


async def test_a_certificate_lets_in_until_it_ends(place: Place, tmp_path: Path) -> None:
    with Sshd(tmp_path / "sshd", trusted_ca=place.emulator.ssh_ca_line, principals=["ec2-user"]) as sshd:
        async with place.serving() as service:
            before, document = await log_in(service, sshd, "short")
            assert before.returncode == 0, before.stderr + sshd.log()
            assert sshd.logged("Accepted publickey")
            await asyncio.sleep(LIFETIME + 1)
            after = await log_in_with(sshd, document)
            assert after.returncode == 255
            assert sshd.logged("Certificate invalid: expired")
            again, _ = await log_in(service, sshd, "short")  # the door is still there for who asks again
            assert again.returncode == 0, again.stderr


async def test_a_certificate_for_another_user_does_not_let_in(place: Place, tmp_path: Path) -> None:
    with Sshd(tmp_path / "sshd", trusted_ca=place.emulator.ssh_ca_line, principals=["ec2-user"]) as sshd:
        async with place.serving() as service:
            right, _ = await log_in(service, sshd, "web-1")
            assert right.returncode == 0, right.stderr + sshd.log()
            wrong, document = await log_in(service, sshd, "other")
            assert (wrong.returncode, document["username"]) == (255, "ubuntu")
            assert sshd.logged("does not contain an authorized principal")


async def test_a_certificate_of_another_authority_does_not_let_in(place: Place, tmp_path: Path) -> None:
    foreign = Sshd(tmp_path / "foreign", trusted_ca="", principals=[])
    authority = foreign.host_key_file.read_text()
    with Sshd(tmp_path / "sshd", trusted_ca=place.emulator.ssh_ca_line, principals=["ec2-user"]) as sshd:
        async with place.serving() as service:
            right, document = await log_in(service, sshd, "web-1")
            assert right.returncode == 0, right.stderr + sshd.log()
            sshd.trust(authority)
            assert (await log_in_with(sshd, document)).returncode == 255
            sshd.trust(place.emulator.ssh_ca_line)
            assert (await log_in_with(sshd, document)).returncode == 0
