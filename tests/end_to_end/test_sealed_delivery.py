"""Between the client and the service stands a proxy that ends TLS: it learns who asks for what, and no secret."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, TCPConnector

from tests.doubles.client import Authority
from tests.end_to_end.places import LINUX, WINDOWS, Place, Running, a_place
from tests.end_to_end.test_secrets import bodies, spellings
from tests.real.logging_proxy import LoggingProxy

PASSWORD = "Sealed-Pw-7!-never-in-clear"


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    folder = tmp_path / "place"
    folder.mkdir()
    windows = {**WINDOWS, "name": "win-1", "password": PASSWORD}
    async with a_place(folder, [{**LINUX, "name": "web-1"}, windows]) as place:
        yield place


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    (tmp_path / "authority").mkdir()
    return Authority(tmp_path / "authority")


def between(place: Place, service: Running, authority: Authority) -> LoggingProxy:
    trusted = ssl.create_default_context(cafile=str(place.folder / "ca.pem"))
    return LoggingProxy(service.url, authority.server_context(), trusted)


def through(proxy: LoggingProxy, place: Place, authority: Authority) -> dict[str, str]:
    return {"BROKER_URL": proxy.url, "BROKER_CA_FILE": authority.ca_file, "BROKER_TOKEN": place.token}


async def test_a_proxy_that_ends_tls_sees_ciphertext_only(place: Place, authority: Authority) -> None:
    async with place.serving() as service:
        with between(place, service, authority) as proxy:
            environment = through(proxy, place, authority)
            linux = await place.broker("get", "web-1", **environment)
            windows = await place.broker("get", "win-1", **environment)
    assert (linux.code, windows.code) == (0, 0), linux.err + windows.err
    assert json.loads(windows.out)["rdp"]["password"] == PASSWORD
    secrets = [PASSWORD, *bodies(json.loads(linux.out)["ssh"]["private_key"])]
    assert len(secrets) > 20
    assert [secret[:6] for secret in secrets for spelling in spellings(secret) if spelling in proxy.log] == []
    assert proxy.log.count(b'"sealed":"') == 2


async def test_the_same_proxy_sees_what_is_not_sealed(place: Place, authority: Authority) -> None:
    """The control: it is the sealing that hides the password, not the proxy that looks away."""
    async with place.serving() as service:
        with between(place, service, authority) as proxy:
            context = ssl.create_default_context(cafile=authority.ca_file)
            headers = {"Authorization": f"Bearer {place.token}"}
            async with (
                ClientSession(connector=TCPConnector(ssl=context), headers=headers) as session,
                session.post(f"{proxy.url}/v1/credentials", json={"instance": "win-1"}) as response,
            ):
                document: Any = await response.json()
    assert document["rdp"]["password"] == PASSWORD
    assert PASSWORD.encode() in proxy.log
