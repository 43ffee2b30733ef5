"""Where brokers are made to fail: a prepared folder to copy, an embedded Lightsail, and people who ask all the while.

What is asked is always the same, so that the system calls of one run are those of the next.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker import state
from broker.audit.checkpoints import VerifierKey
from broker.audit.evidence import open_database
from broker.audit.leaves import parse
from broker.audit.verification import verify_database
from broker.demo.stage import ALICE, ISSUER, make_tls, mint
from broker.emulator import Emulator, Fixture
from broker.settings import load
from tests.end_to_end.keys import lay_keys
from tests.end_to_end.places import LINUX, SETTINGS, WINDOWS
from tests.real.forks import Fork, Forks
from tests.real.strace import attached

POLICIES = """\
@id("all")
permit(principal, action, resource);
@id("closed")
forbid(principal, action in Action::"connect", resource) when { resource.hasTag("closed") };
"""
PASSWORD = "correct horse battery staple"
INSTANCES: Sequence[Mapping[str, Any]] = (
    {**LINUX, "name": "closed", "tags": {"closed": "yes"}},
    {**LINUX, "name": "stopped", "state": "stopped"},
    {**WINDOWS, "name": "win-1", "key_pair": "team-key", "password": PASSWORD},
    *({**LINUX, "name": f"web-{number}"} for number in range(1, 6)),
)
ROUNDS = (("closed",), ("web-1",), ("win-1",), ("stopped",), ("web-2", "web-3"))
"""What is asked for, those of one round at once. No instance comes twice, so its name tells the request."""
MORE_ROUNDS = (("web-5",),)
LAST_ROUNDS = (("web-4",),)
SERVES = 20.0
ANSWERS = 20.0


@dataclass(frozen=True, slots=True)
class Reply:
    """The bytes that somebody got who asked for an instance: all of an answer, a part, or nothing."""

    instance: str
    raw: bytes

    @property
    def status(self) -> int:
        """The status; 0 when not even that came."""
        found = re.match(rb"HTTP/1\.1 (\d{3}) ", self.raw)
        return int(found[1]) if found else 0

    @property
    def document(self) -> dict[str, Any]:
        """The whole document; empty when a part is missing."""
        with suppress(ValueError):
            document: dict[str, Any] = json.loads(self.raw.partition(b"\r\n\r\n")[2])
            return document
        return {}


@dataclass
class Service:
    """A broker that serves, as a process of its own."""

    ground: Ground
    folder: Path
    fork: Fork
    url: str = ""

    @property
    def database(self) -> Path:
        """Its log."""
        return self.folder / "state" / "audit.db"

    async def serves(self) -> bool:
        """Wait until it serves; False when it ended before."""
        async with asyncio.timeout(SERVES):
            while not (found := re.search(r"serving on (\S+)\n", self.fork.said)):
                if self.fork.ended():
                    return False
                await asyncio.sleep(0.005)
        self.url = found[1]
        return True

    async def ask(self, rounds: Sequence[Sequence[str]] = ROUNDS) -> list[Reply]:
        """Ask for credentials, round after round."""
        return [
            reply
            for instances in rounds
            for reply in await asyncio.gather(*(self._credential(instance) for instance in instances))
        ]

    async def _credential(self, instance: str) -> Reply:
        body = json.dumps({"instance": instance, "reason": f"visit to {instance}"})
        return Reply(instance, await self._exchange("POST", "/v1/credentials", body))

    async def readiness(self) -> tuple[int, str]:
        """Answer the status of `/readyz`, and what it says of the log."""
        raw = await self._exchange("GET", "/readyz")
        reply = Reply("", raw)
        audit = reply.document["components"]["audit"]
        return reply.status, audit.get("detail") or ""

    async def _exchange(self, method: str, path: str, body: str = "") -> bytes:
        """Send one request on a connection of its own; answer every byte that came, whatever happened."""
        secured = self.ground.tls if self.url.startswith("https") else None
        host, port = self.url.partition("://")[2].split(":")
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {self.ground.token}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        raw = bytearray()
        with suppress(OSError, ssl.SSLError):
            async with asyncio.timeout(ANSWERS):
                reader, writer = await asyncio.open_connection(host, int(port), ssl=secured)
                try:
                    writer.write(f"{head}{body}".encode())
                    while part := await reader.read(65_536):
                        raw += part
                finally:
                    writer.transport.abort()
        return bytes(raw)

    async def stop(self) -> int:
        """Stop it in order; answer its exit status."""
        self.fork.signal(signal.SIGTERM)
        return await self.end()

    async def end(self, seconds: float = SERVES) -> int:
        """Wait for its end; answer its exit status."""
        assert await asyncio.to_thread(self.fork.ended, seconds), "it does not end"
        return self.fork.reap()

    def events(self) -> list[dict[str, Any]]:
        """Read its log."""
        return read_events(self.database)

    def attached(self, *options: str, trace: str = "trace") -> Any:
        """Trace it, or let its system calls fail, in a context."""
        return attached(self.fork.pid, self.folder / trace, *options)


def read_events(database: Path) -> list[dict[str, Any]]:
    """Read a log in the order of its events, with the hash of each as member `leaf_hash`."""
    with open_database(database) as opened:
        return [{**parse(row.leaf), "leaf_hash": row.leaf_hash} for row in opened.rows()]


@dataclass
class Ground:
    """A prepared folder, the embedded Lightsail beside it, and from what services are forked."""

    folder: Path
    emulator: Emulator
    forks: Forks
    token: str
    tls: ssl.SSLContext
    key: VerifierKey
    _numbers: count[int] = field(default_factory=count)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs here."""
        return {**self.emulator.environment, "BROKER_CONFIG": "broker.toml"}

    def copy(self) -> Path:
        """Answer a fresh copy of the prepared folder."""
        folder = self.folder.with_name(f"{self.folder.name}-{next(self._numbers)}")
        shutil.copytree(self.folder, folder)
        return folder

    @asynccontextmanager
    async def forked(self, folder: Path, **environment: str) -> AsyncIterator[Service]:
        """Fork a service that waits for `go`; it is killed at the end of the context."""
        output = folder / f"output-{next(self._numbers)}"
        fork = self.forks.fork(["serve"], folder, {**self.environment, **environment}, output)
        try:
            yield Service(self, folder, fork)
        finally:
            fork.signal(signal.SIGKILL)
            fork.reap()

    @asynccontextmanager
    async def serving(self, folder: Path, **environment: str) -> AsyncIterator[Service]:
        """Run a service until the context ends."""
        async with self.forked(folder, **environment) as service:
            service.fork.go()
            assert await service.serves(), service.fork.said
            yield service

    def asked_of_aws(self, since: int) -> list[str]:
        """Answer for which instances access details were asked for, from the call of that number on."""
        calls = self.emulator.calls[since:]
        return [str(call.instance) for call in calls if call.operation == "GetInstanceAccessDetails"]

    def verdict(self, database: Path) -> str:
        """Verify a log of which every event must be sealed; answer what is wrong."""
        report = verify_database(database, self.key)
        if not report.exit_code(require_sealed=True):
            return ""
        return f"{report.unsealed} unsealed, {[finding.message for finding in report.findings]}"


@asynccontextmanager
async def a_ground(folder: Path, forks: Forks) -> AsyncIterator[Ground]:
    """Prepare a folder, with a Windows key in custody, and run an embedded Lightsail."""
    lay_keys(folder)
    make_tls(folder)
    (folder / "policies").mkdir()
    (folder / "policies" / "all.cedar").write_text(POLICIES)
    key = Ed25519PrivateKey.generate()
    public = jwt.algorithms.OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    (folder / "jwks.json").write_text(json.dumps({"keys": [{**public, "kid": "demo", "alg": "EdDSA", "use": "sig"}]}))
    pairs = [{"name": "team-key", "region": "eu-west-1", "private_key": "team-key.pem"}]
    fixture = Fixture.of({"key_pairs": pairs, "instances": [dict(each) for each in INSTANCES]}, folder)
    async with AsyncExitStack() as stack:
        emulator = await stack.enter_async_context(Emulator(fixture, fresh_keys=False))
        settings = SETTINGS.format(issuer=ISSUER, keys='jwks_file = "jwks.json"', endpoint=emulator.url)
        (folder / "broker.toml").write_text(settings)
        list(state.create(load(folder / "broker.toml", {})))
        ground = Ground(
            folder,
            emulator,
            forks,
            mint(ALICE, key, datetime.now(UTC)),
            ssl.create_default_context(cafile=str(folder / "ca.pem")),
            VerifierKey.parse((folder / "state" / "audit.key.pub").read_text().strip()),
        )
        await _take_into_custody(ground)
        yield ground


async def _take_into_custody(ground: Ground) -> None:
    words = ["keys", "add", "team-key", "--account", "main", "--region", "eu-west-1", "--private-key", "team-key.pem"]
    adding = ground.forks.fork(words, ground.folder, ground.environment, ground.folder / "added")
    adding.go()
    assert await asyncio.to_thread(adding.ended, SERVES)
    assert adding.reap() == 0, adding.said
