"""The service as operators run it: created by init, looked at by check, started, signalled, killed, started again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from broker.demo.stage import make_tls
from broker.emulator import Emulator, small_company
from tests.end_to_end.conftest import run_broker
from tests.real.oidc_provider import OpenIdProvider

SETTINGS = """\
[server]
listen = "127.0.0.1:0"
tls_certificate = "tls.crt"
tls_private_key = "tls.key"
[[issuers]]
name = "ci"
issuer = "{issuer}"
audience = "lightsail-broker"
principal = "workload"
[[accounts]]
name = "main"
regions = ["eu-west-1"]
endpoint_url = "{endpoint}"
[policies]
directory = "policies"
[audit]
origin = "test.example/audit"
"""
POLICY = '@id("ci")\npermit(principal is Workload, action, resource);\n'
AWS = {"AWS_ACCESS_KEY_ID": "AKIDEMULATOR", "AWS_SECRET_ACCESS_KEY": "emulator-secret"}


@dataclass
class Place:
    """A folder with settings and policies, an emulator, and a real OpenID provider."""

    folder: Path
    emulator: Emulator
    provider: OpenIdProvider

    async def broker(self, *words: str) -> Any:
        """Run a command in the folder."""
        return await run_broker(words, {**AWS, "BROKER_CONFIG": str(self.folder / "broker.toml")})

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Running]:
        """Run `broker serve`."""
        log = self.folder / "stderr"
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "broker", "serve", "--config", str(self.folder / "broker.toml")],
                stderr=stderr,
                env={**os.environ, **AWS},
            )
            try:
                yield Running(self, process, await _url(log, process))
            finally:
                process.kill()
                process.wait()


@dataclass
class Running:
    """A service process."""

    place: Place
    process: subprocess.Popen[bytes]
    url: str

    def ask(self, path: str, token: str, body: dict[str, Any] | None = None) -> Any:
        """Ask a route."""
        request = Request(self.url + path, headers={"Authorization": f"Bearer {token}"})  # noqa: S310 - our own https
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        context = ssl.create_default_context(cafile=str(self.place.folder / "ca.pem"))
        with urlopen(request, timeout=20, context=context) as answer:  # noqa: S310 - our own https
            return json.load(answer)


def _lines(log: Path) -> list[str]:
    return log.read_text().splitlines()


async def _url(log: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        for line in _lines(log):
            if "serving on " in line:
                return line.partition("serving on ")[2]
        await asyncio.sleep(0.05)  # the emulator answers on this very loop
    raise AssertionError(_lines(log))


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    make_tls(tmp_path)
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "ci.cedar").write_text(POLICY)
    (tmp_path / "aws").mkdir()
    async with Emulator(small_company(tmp_path / "aws")) as emulator:
        with OpenIdProvider() as provider:
            (tmp_path / "broker.toml").write_text(SETTINGS.format(issuer=provider.issuer, endpoint=emulator.url))
            yield Place(tmp_path, emulator, provider)


@pytest.mark.real("node")
async def test_a_token_of_a_real_openid_provider_opens_an_instance(place: Place) -> None:
    assert (await place.broker("init")).code == 0
    checked = await place.broker("check")
    assert checked.code == 0, checked.out
    assert {line.split()[1] for line in checked.out.splitlines()} == {
        *("settings", "audit", "policies", "keys", "tls", "issuers", "lightsail"),
    }

    async with place.serving() as service:
        for algorithm in ("RS256", "ES256", "EdDSA"):
            token = place.provider.client_credentials(algorithm)
            document = await asyncio.to_thread(service.ask, "/v1/credentials", token, {"instance": "web-dev"})
            assert document["decision"]["policies"] == ["ci"]
        service.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(service.process.wait, 10) == 0
    verified = await place.broker("audit", "verify", "--require-sealed")
    assert verified.code == 0, verified.out + verified.err
