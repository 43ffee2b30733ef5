"""`broker doctor` for Windows: a real server with Network Level Authentication, and a real FreeRDP."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.client import Answer, ServiceDouble, instance, page, rdp_credential
from tests.real.freerdp import RdpServer, self_signed

from .conftest import Terminal

PASSWORD = "First-Password-0f-Windows"
ROUTE = "POST /v1/credentials"
ME = {
    "issuer": "corp",
    "subject": "alice",
    "kind": "user",
    "groups": ["ops"],
    "email": None,
    "mfa": True,
    "bound": False,
    "authenticated_at": None,
    "token_expires_at": "2030-01-01T01:00:00.000Z",
    "token_id": "0" * 16,
}

pytestmark = pytest.mark.real("freerdp")


class Windows:
    """An instance: a server, and the fingerprint of its certificate."""

    def __init__(self, folder: Path, security: str = "nla") -> None:
        certificate, key, self.pin = self_signed()
        self.server = RdpServer(folder, password=PASSWORD, certificate=certificate, private_key=key, security=security)


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Windows]:
    found = Windows(tmp_path_factory.mktemp("windows") / "rdp")
    with found.server:
        yield found


def diagnosed(
    terminal: Terminal, service: ServiceDouble, windows: Windows, *, password: str = PASSWORD, **changes: Any
) -> list[dict[str, Any]]:
    """Run it on a credential for this server, changed; answer what it found."""
    credential = rdp_credential(password) | {"port": changes.get("port", windows.server.port)}
    pin = changes.get("pin", windows.pin)
    credential["rdp"] |= {"certificate_sha256": [bytes.fromhex(pin).hex(":")] if pin else []}
    service.tell(ROUTE, Answer(credential, 201))
    service.tell("GET /readyz", Answer({"ready": True, "components": {}}))
    service.tell("GET /v1/whoami", Answer(ME))
    service.tell("POST /v1/decisions", Answer({"decision": "allow", "policies": ["ops-rdp"], "obligations": []}))
    listed = instance("win-1", platform="WINDOWS", protocols=["rdp"])
    service.tell("GET /v1/instances", page(listed))
    environment = {"DISPLAY": changes.get("display", windows.server.screen), "PATH": os.environ["PATH"]}
    ended = windows.server.unhung(lambda: terminal.broker("doctor", "win-1", "--format", "json", **environment))
    assert password not in ended.stdout + ended.stderr
    found: list[dict[str, Any]] = json.loads(ended.stdout)["findings"]
    assert ended.returncode == int(any(each["status"] == "problem" for each in found)), ended.stderr
    return found


def causes(found: list[dict[str, Any]]) -> list[str]:
    return [each["cause"] for each in found if each["cause"]]


def test_where_all_is_well_the_password_is_proved(terminal: Terminal, service: ServiceDouble, windows: Windows) -> None:
    found = diagnosed(terminal, service, windows)
    assert causes(found) == []
    assert [(each["check"], each["status"]) for each in found[-2:]] == [("certificate", "ok"), ("login", "ok")]


def test_a_password_that_was_changed_in_windows_is_found(
    terminal: Terminal, service: ServiceDouble, windows: Windows
) -> None:
    assert causes(diagnosed(terminal, service, windows, password="Another-Password-1")) == ["password-changed"]


def test_another_certificate_is_found_before_any_password_is_tried(
    terminal: Terminal, service: ServiceDouble, windows: Windows
) -> None:
    before = len(windows.server.log)
    assert causes(diagnosed(terminal, service, windows, pin="ab" * 32)) == ["rdp-certificate"]
    assert "AcceptSecurityContext" not in windows.server.log[before:]
    assert causes(diagnosed(terminal, service, windows, pin="")) == ["host-keys-unknown"]


def test_a_server_without_network_level_authentication_is_found(
    terminal: Terminal, service: ServiceDouble, tmp_path: Path
) -> None:
    weak = Windows(tmp_path / "weak", security="tls")
    with weak.server:
        assert causes(diagnosed(terminal, service, weak)) == ["no-nla"]


def test_a_port_that_is_something_else_or_nothing_is_found(
    terminal: Terminal, service: ServiceDouble, windows: Windows
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as closed:
        free = closed.getsockname()[1]
    assert causes(diagnosed(terminal, service, windows, port=free)) == ["port-refused"]


def test_without_a_screen_the_password_is_not_tried_and_that_is_said(
    terminal: Terminal, service: ServiceDouble, windows: Windows
) -> None:
    found = diagnosed(terminal, service, windows, display="")
    assert (found[-1]["check"], found[-1]["status"]) == ("login", "skipped")
