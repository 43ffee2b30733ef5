"""A folder with all that the service needs, and the service in it as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
from aiohttp import ClientSession, TCPConnector
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker import state
from broker.demo.stage import ALICE, ISSUER, make_tls, mint
from broker.emulator import Emulator, Fixture
from broker.settings import load
from tests.end_to_end.conftest import Ran, run_broker
from tests.end_to_end.keys import lay_keys

SETTINGS = """\
[server]
listen = "127.0.0.1:0"
tls_certificate = "tls.crt"
tls_private_key = "tls.key"
[[issuers]]
name = "corp"
issuer = "{issuer}"
audience = "lightsail-broker"
{keys}
[[accounts]]
name = "main"
regions = ["eu-west-1"]
endpoint_url = "{endpoint}"
[policies]
directory = "policies"
[audit]
origin = "test.example/audit"
"""
POLICY = '@id("all")\npermit(principal, action, resource);\n'
LINUX: Mapping[str, Any] = {
    "region": "eu-west-1",
    "blueprint": "amazon_linux_2023",
    "bundle": "nano_3_0",
    "public_ip": "127.0.0.1",
}
WINDOWS: Mapping[str, Any] = {
    "region": "eu-west-1",
    "blueprint": "windows_server_2022",
    "bundle": "medium_win_3_0",
    "public_ip": "127.0.0.1",
}


@dataclass
class Running:
    """A service process, and how to ask it."""

    process: Process
    url: str
    session: ClientSession
    token: str

    async def ask(
        self, path: str, body: Mapping[str, Any] | None = None, *, token: str | None = None
    ) -> tuple[int, Any]:
        """Get a route, or post to it; answer status and document."""
        headers = {"Authorization": f"Bearer {self.token if token is None else token}"}
        method = "GET" if body is None else "POST"
        async with self.session.request(method, self.url + path, json=body, headers=headers) as response:
            text = await response.text()
            return response.status, json.loads(text) if "json" in response.content_type else text

    async def issue(self, instance: str) -> tuple[int, Any]:
        """Ask for a credential."""
        return await self.ask("/v1/credentials", {"instance": instance})

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal; answer the exit code."""
        self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), 30)


@dataclass
class Place:
    """The folder, the embedded Lightsail beside it, and a person's token."""

    folder: Path
    emulator: Emulator
    token: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    issuer_key: Ed25519PrivateKey | None = None

    def token_with(self, **claims: object) -> str:
        """Answer a token of the same person that says more, such as what it is bound to."""
        assert self.issuer_key is not None
        return mint(ALICE, self.issuer_key, datetime.now(UTC), **claims)

    def __post_init__(self) -> None:
        self.environment |= {**self.emulator.environment, "BROKER_CONFIG": str(self.folder / "broker.toml")}

    def client_context(self) -> ssl.SSLContext:
        """Answer how a client of the service knows it."""
        return ssl.create_default_context(cafile=str(self.folder / "ca.pem"))

    @property
    def log(self) -> str:
        """What the last service said on stderr."""
        return (self.folder / "stderr").read_text()

    async def broker(self, *words: str, **environment: str) -> Ran:
        """Run a command of the command line here."""
        return await run_broker(words, {**self.environment, **environment}, self.folder)

    async def serve(self, **environment: str) -> Ran:
        """Run `broker serve` where it must not start; it is stopped when it does."""
        try:
            return await asyncio.wait_for(self.broker("serve", **environment), 20)
        except TimeoutError:
            raise AssertionError("it serves") from None

    async def events(self, *filters: str) -> list[dict[str, Any]]:
        """Read the log by the command line, oldest first, and leave no trace of that in it."""
        elsewhere = "BROKER__AUDIT__DATABASE" in self.environment
        where = () if elsewhere else ("--database", str(self.folder / "state" / "audit.db"))
        found = await self.broker("audit", "search", *where, "--format", "json", "--limit", "500", *filters)
        assert found.code == 0, found.err
        items: list[dict[str, Any]] = json.loads(found.out)
        return items[::-1]

    async def verify(self, *options: str) -> Ran:
        """Verify the log."""
        return await self.broker("audit", "verify", *options)

    @asynccontextmanager
    async def serving(self, *before: str) -> AsyncIterator[Running]:
        """Run `broker serve` as a process of its own until the context ends, by the command `before`, if any."""
        environment = {**os.environ, **self.environment}
        with (self.folder / "stderr").open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                *before, sys.executable, "-m", "broker", "serve", stderr=stderr, env=environment
            )
        try:
            async with ClientSession(connector=TCPConnector(ssl=self.client_context())) as session:
                yield Running(process, await self._url(process), session, self.token)
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _url(self, process: Process) -> str:
        async with asyncio.timeout(30):
            while process.returncode is None:
                for line in self.log.splitlines(keepends=True):
                    if "serving on " in line and line.endswith("\n"):
                        return line.partition("serving on ")[2].strip()
                await asyncio.sleep(0.03)
        raise AssertionError(self.log)


async def eventually(holds: Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
    """Wait until something holds.

    Raises:
        TimeoutError: it does not hold in time.
    """
    async with asyncio.timeout(seconds):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.05)


@asynccontextmanager
async def a_place(folder: Path, instances: Sequence[Mapping[str, Any]], *, issuer: str = "") -> AsyncIterator[Place]:
    """Lay a folder out and create its state.

    Args:
        folder: where.
        instances: what the embedded Lightsail has, beside the key pair `team-key`.
        issuer: an OpenID provider; without one, tokens are made here.
    """
    make_tls(folder)
    lay_keys(folder)
    (folder / "policies").mkdir()
    (folder / "policies" / "all.cedar").write_text(POLICY)
    key = Ed25519PrivateKey.generate()
    public = jwt.algorithms.OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    (folder / "jwks.json").write_text(json.dumps({"keys": [{**public, "kid": "demo", "alg": "EdDSA", "use": "sig"}]}))
    pairs = [{"name": "team-key", "region": "eu-west-1", "private_key": "team-key.pem"}]
    fixture = Fixture.of({"key_pairs": pairs, "instances": [dict(instance) for instance in instances]}, folder)
    async with Emulator(fixture) as emulator:
        keys = "" if issuer else 'jwks_file = "jwks.json"'
        settings = SETTINGS.format(issuer=issuer or ISSUER, keys=keys, endpoint=emulator.url)
        (folder / "broker.toml").write_text(settings)
        list(state.create(load(folder / "broker.toml", {})))
        yield Place(folder, emulator, mint(ALICE, key, datetime.now(UTC)), issuer_key=key)
