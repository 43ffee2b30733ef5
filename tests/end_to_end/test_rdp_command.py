"""`broker rdp` through a real broker, against the embedded Lightsail and a real RDP server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.places import LINUX, WINDOWS, a_place
from tests.real.freerdp import RdpServer, ended_when_hung, self_signed

pytestmark = pytest.mark.real("freerdp")
PASSWORD = "?8h2!kZ;=wQ_Tr4u"
TRIED = "AcceptSecurityContext"


async def test_a_person_opens_the_instance_that_aws_names_and_no_other(tmp_path: Path) -> None:
    certificate, key, _ = self_signed()
    (tmp_path / "rdp.pem").write_bytes(certificate)
    (tmp_path / "other.pem").write_bytes(self_signed()[0])
    with RdpServer(tmp_path / "rdp", password=PASSWORD, certificate=certificate, private_key=key) as server:
        common = {**WINDOWS, "key_pair": "", "password": PASSWORD, "tags": {"rdp-port": str(server.port)}}
        named = {"rdp_certificate": "rdp.pem"}
        instances = [
            {**common, "name": "win-1", **named},
            {**common, "name": "win-2", "rdp_certificate": "other.pem"},
            {**common, "name": "win-3", **named, "password": "changed meanwhile"},
            {**LINUX, "name": "web-1"},
        ]
        async with a_place(tmp_path, instances) as place, place.serving() as service:
            environment = {
                "BROKER_URL": service.url,
                "BROKER_TOKEN": service.token,
                "BROKER_CA_FILE": str(tmp_path / "ca.pem"),
                "DISPLAY": server.screen,
                "HOME": str(tmp_path / "home"),
            }

            async def rdp(instance: str) -> tuple[int, str]:
                with ended_when_hung() as hung:
                    ran = await place.broker("rdp", instance, "--wait", "0s", "--", "+auth-only", **environment)
                assert PASSWORD not in ran.out + ran.err
                if hung.is_set():
                    server.revive()
                    return await rdp(instance)
                return ran.code, ran.err

            code, said = await rdp("win-2")
            assert (code, TRIED in server.log) == (5, False), said
            code, said = await rdp("win-1")
            assert (code, TRIED in server.log) == (0, True), said
            assert said.count("broker: warning: ") == 2
            code, said = await rdp("win-3")
            assert code > 128
            assert "Message Integrity Check (MIC) verification failed" in server.log
            code, said = await rdp("web-1")
            assert (code, "`broker ssh web-1`" in said) == (2, True)
