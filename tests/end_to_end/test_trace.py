"""Who was it: a real sshd's log, and the audit log of the service that let people in."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from broker.demo.sshd import Sshd
from tests.end_to_end.places import LINUX, Place, a_place, eventually

pytestmark = pytest.mark.real("sshd", "ssh", "ssh-keygen")
KNOWN = "not issued by the broker"


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with a_place(tmp_path, [{**LINUX, "name": "web-1"}]) as place:
        yield place


class Intruder:
    """Has a key of their own, and certificates that the trusted authority signed past the broker."""

    def __init__(self, key: Path, authority: Path) -> None:
        self._key = key
        self._authority = authority
        self._run("-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(self._key))

    @property
    def private_key(self) -> str:
        return self._key.read_text()

    @property
    def public_key(self) -> str:
        return self._key.with_suffix(".pub").read_text()

    def certificate(self, key_id: str, serial: int = 0) -> str:
        """Answer a certificate that sshd accepts."""
        names = ("-n", "ec2-user", "-V", "-1m:+5m", "-I", key_id, "-z", str(serial))
        self._run("-q", "-s", str(self._authority), *names, str(self._key.with_suffix(".pub")))
        return self._key.with_name(f"{self._key.name}-cert.pub").read_text().strip()

    def _run(self, *words: str) -> None:
        subprocess.run(["ssh-keygen", *words], check=True)


def server(place: Place, folder: Path, authorized: str = "") -> Sshd:
    """Make a server that trusts the authority, and perhaps a plain key."""
    folder.mkdir()
    (folder / "authorized").write_text(authorized)
    settings = [
        f"AuthorizedKeysCommand {shutil.which('cat')} {folder / 'authorized'}",
        f"AuthorizedKeysCommandUser {pwd.getpwuid(os.getuid()).pw_name}",
    ]
    return Sshd(folder, trusted_ca=place.emulator.ssh_ca_line, principals=["ec2-user"], settings=settings)


async def enter(sshd: Sshd, private_key: str, certificate: str) -> None:
    ran = await asyncio.to_thread(sshd.login, private_key=private_key, certificate=certificate)
    assert ran.returncode == 0, ran.stderr + sshd.log()


async def trace(place: Place, log: Path, code: int) -> list[dict[str, Any]]:
    ran = await place.broker("audit", "trace", "--sshd-log", str(log), "--format", "json")
    assert ran.code == code, ran.err
    items: list[dict[str, Any]] = json.loads(ran.out)
    return items


async def test_a_login_leads_to_the_person_and_one_past_the_broker_stands_out(place: Place, tmp_path: Path) -> None:
    authority = place.folder / "ca"
    intruder, guest = Intruder(tmp_path / "intruder", authority), Intruder(tmp_path / "guest", authority)
    with server(place, tmp_path / "sshd", guest.public_key) as sshd:
        log = sshd.directory / "log"
        async with place.serving() as service:
            status, document = await service.ask("/v1/credentials", {"instance": "web-1", "reason": "to look"})
            assert status == 201, document
            ssh = document["ssh"]
            await enter(sshd, ssh["private_key"], ssh["certificate"])
            [login] = await trace(place, log, 0)
            issued = login["issue"]
            assert (login["verdict"], login["user"], login["address"]) == ("issued", sshd.user, "127.0.0.1")
            assert (issued["index"], issued["reason"]) == (document["audit"]["index"], "to look")
            assert issued["instance"] == "main/eu-west-1/web-1"

            key_id = login["certificate"]["key_id"]
            for certificate in (
                intruder.certificate("alice", 4711),
                intruder.certificate(key_id),  # serial and key id of the broker's own
                intruder.certificate(f"{key_id} (serial 0) CA RSA SHA256:{login['certificate']['fingerprint']}", 1),
                intruder.certificate("back\\slash (serial 1)"),
            ):
                await enter(sshd, intruder.private_key, certificate)
            await enter(sshd, guest.private_key, "")

            items = await trace(place, log, 1)
            assert [item["verdict"] for item in items] == ["issued", *[KNOWN] * 5]
            assert items[1]["certificate"]["serial"] == "4711"
            assert items[4]["certificate"]["key_id"] == "back\\slash (serial 1)"
            assert items[5]["notes"][0].startswith("by a plain key: ED25519 SHA256:")

            async def recorded() -> bool:
                readings = await place.events("--event", "audit.read")
                return [f"sshd_log={log}"] in [event["details"]["filters"] for event in readings]

            await eventually(recorded)


async def test_a_key_id_with_a_line_end_in_it_hides_no_login(place: Place, tmp_path: Path) -> None:
    """`sshd -E` writes line ends as they are: the login loses its end, and is a finding still."""
    intruder = Intruder(tmp_path / "intruder", place.folder / "ca")
    with server(place, tmp_path / "sshd") as sshd:
        await enter(sshd, intruder.private_key, intruder.certificate("alice\nReceived disconnect from 127.0.0.1"))
        [login] = await trace(place, sshd.directory / "log", 1)
        assert (login["verdict"], login["notes"]) == (KNOWN, ["the certificate's line cannot be read"])
