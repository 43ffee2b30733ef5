"""What is measured on: an emulator with a replaying double in front, and a broker process with shipped defaults."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import BinaryIO

import aioboto3
import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from benchmarks.processes import cpu_of
from broker import settings, state
from broker.demo.stage import make_tls
from broker.emulator import Emulator, Fixture
from broker.emulator.keys import new_key, pem_of

PEOPLE = 1_000
POLICIES = 100
ISSUER = "https://id.bench.example"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKIDEMULATOR", "AWS_SECRET_ACCESS_KEY": "emulator-secret"}
KEY_BITS = 2048
"""Of the key pair of the Windows instance."""

Meter = Callable[[], float]

SETTINGS = """\
[server]
listen = "127.0.0.1:0"
tls_certificate = "tls.crt"
tls_private_key = "tls.key"
[[issuers]]
name = "corp"
issuer = "{issuer}"
audience = "broker"
jwks_file = "jwks.json"
[[accounts]]
name = "main"
regions = ["eu-west-1"]
endpoint_url = "{endpoint}"
[audit]
origin = "bench.example/audit"
{database}[limits]
per_caller_per_minute = 1000000
connections_per_peer = 4096
issues_per_caller_per_minute = 1000000
instances_per_caller_per_hour = 1000000
failures_per_peer_per_minute = 0
"""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of a load. Counts are of the measured time, `statuses` of all time; times are in milliseconds."""

    answered: int
    good: int
    seconds: float
    own_cpu: float
    statuses: Mapping[str, int]
    quantiles: Mapping[str, float]
    spent: float = 0.0
    """What the meter told of the time: CPU seconds of the broker, if nothing else is said."""

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return self.good / self.seconds

    @property
    def p50(self) -> float:
        """Half of the good answers took no longer."""
        return self.quantiles["50"]

    @property
    def p99(self) -> float:
        """Nearly all of the good answers took no longer."""
        return self.quantiles["99"]

    def only(self, status: int = 201) -> Loaded:
        """Answer itself when every answer had this status; anything else is no measurement."""
        assert set(self.statuses) == {str(status)}, self
        return self

    def served(self) -> Loaded:
        """Answer itself when whoever got no credential was turned away because too many asked."""
        assert set(self.statuses) <= {"201", "503"}, self
        return self


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything but the broker."""

    folder: Path
    double: str

    @property
    def ca(self) -> Path:
        """The authority of the broker's certificate."""
        return self.folder / "ca.pem"

    def tokens(self) -> list[str]:
        """Answer tokens, each of another person."""
        return (self.folder / "tokens").read_text().split()

    def requests(
        self, instance: str = "web-1", protocol: str = "ssh", *, people: int = PEOPLE, forged: bool = False
    ) -> Path:
        """Write one request for each person, for a load to send; forged ones have another signature."""
        path = self.folder / f"requests-{instance}-{protocol}-{people}-{forged}"
        body = json.dumps({"instance": instance, "protocol": protocol}).encode()
        tokens = [_forged(token) if forged else token for token in self.tokens()[:people]]
        path.write_bytes(b"\0".join(_request(token, body) for token in tokens))
        return path

    def events(self) -> Counter[str]:
        """Answer how many events of each kind the audit log holds."""
        path = self.folder / "state" / "audit.db"
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            return Counter(dict(database.execute("SELECT event, count(*) FROM events GROUP BY event")))


@dataclass(frozen=True, slots=True)
class World(Stage):
    """A running broker."""

    url: str
    broker: int
    """Process id of the broker."""

    async def load(
        self, which: str, *, requests: Path | None = None, meter: Meter | None = None, **options: object
    ) -> Loaded:
        """Load the broker. Every credential must have its two records."""
        before = self.events()
        words = {"requests": requests or self.requests(), "ca": self.ca, **options}
        loaded = await load(which, self.url, words, meter=meter or partial(cpu_of, self.broker))
        issued = loaded.statuses.get("201", 0)
        added = self.events() - before
        failed = added["credential.failed"]
        assert added["credential.issued"] == issued == added["credential.requested"] - failed, (added, loaded)
        return loaded

    async def peak(self, seconds: float, connections: int = 32) -> float:
        """Answer how many SSH credentials a second come out when so many connections are kept busy."""
        return (await self.load("closed", seconds=seconds, connections=connections)).served().rate


@asynccontextmanager
async def stage(
    folder: Path, *, delay: float = 0.0, policy_count: int = POLICIES, key_bits: int = KEY_BITS, database: str = ""
) -> AsyncIterator[Stage]:
    """Start all but the broker; a call of Lightsail takes `delay` seconds. The log is in SQLite or in `database`."""
    os.environ.update(CREDENTIALS)
    async with Emulator(_fixture(folder, key_bits)) as emulator:
        with helper("benchmarks.double", emulator.url, str(delay)) as double:
            people(folder)
            make_tls(folder)
            policies(folder / "policies", policy_count)
            where = f'database = "{database}"\n' if database else ""
            (folder / "broker.toml").write_text(SETTINGS.format(issuer=ISSUER, endpoint=double, database=where))
            await asyncio.to_thread(lambda: list(state.create(settings.load(folder / "broker.toml", {}))))
            await _take_custody(folder)
            await _teach(double)
            yield Stage(folder, double)
            await run(folder, "audit", "verify")


@asynccontextmanager
async def world(
    folder: Path,
    *,
    delay: float = 0.0,
    policy_count: int = POLICIES,
    key_bits: int = KEY_BITS,
    under: Sequence[str | Path] = (),
) -> AsyncIterator[World]:
    """Start everything, and end it with the context; the broker runs `under` a command, if there is one."""
    async with (
        stage(folder, delay=delay, policy_count=policy_count, key_bits=key_bits) as set_up,
        serve(folder, under=under) as (url, process),
    ):
        yield World(folder, set_up.double, url, process)


@asynccontextmanager
async def serve(
    folder: Path, *, under: Sequence[str | Path] = (), name: str = "broker"
) -> AsyncIterator[tuple[str, int]]:
    """Start a broker; answer its URL and process id."""
    log = folder / f"{name}.log"
    words = [*under, sys.executable, "-m", "broker", "serve", "--config", folder / "broker.toml"]
    with _written(log) as stderr:
        process = await asyncio.create_subprocess_exec(*map(str, words), stderr=stderr)
    try:
        async with asyncio.timeout(60):
            while not (url := _served_at(log)):
                assert process.returncode is None, log.read_text()
                await asyncio.sleep(0.1)
        yield url, process.pid
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def load(
    which: str,
    url: str,
    options: Mapping[str, object],
    *,
    meter: Meter = lambda: 0.0,
    under: Sequence[str | Path] = (),
) -> Loaded:
    """Run a load of `benchmarks.load` against a place; the meter is read when the measured time begins and ends."""
    words = [*under, sys.executable, "-m", "benchmarks.load", which, url]
    words += [f"--{name}={value}" for name, value in options.items()]
    process = await asyncio.create_subprocess_exec(*map(str, words), stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"measuring\n", words
    before = meter()
    assert await process.stdout.readline() == b"measured\n", words
    spent = meter() - before
    line = await process.stdout.readline()
    assert await process.wait() == 0, words
    loaded = Loaded(**json.loads(line), spent=spent)
    assert loaded.good, loaded
    return loaded


async def direct(scene: Stage, instance: str, protocol: str, *, seconds: float) -> Loaded:
    """Call Lightsail directly by one shared client, 32 at a time."""
    loaded = await load("direct", scene.double, {"instance": instance, "protocol": protocol, "seconds": seconds})
    return loaded.only()


def policies(folder: Path, count: int) -> None:
    """Write so many policies, of which one lets the group in."""
    folder.mkdir(exist_ok=True)
    rules = [
        f'@id("team-{n}")\npermit(principal in Group::"corp/team-{n}", action in Action::"connect", resource)\n'
        f'when {{ resource.hasTag("team") && resource.getTag("team") == "team-{n}" }};\n'
        for n in range(count - 1)
    ]
    rules.append('@id("ops")\npermit(principal in Group::"corp/ops", action in Action::"connect", resource);\n')
    for number, start in enumerate(range(0, len(rules), 200)):
        (folder / f"{number:04}.cedar").write_text("\n".join(rules[start : start + 200]))


def _fixture(folder: Path, key_bits: int) -> Fixture:
    folder.mkdir(exist_ok=True)
    place = {"region": "eu-west-1", "public_ip": "127.0.0.1", "tags": {"env": "dev"}}
    linux = {**place, "name": "web-1", "blueprint": "amazon_linux_2023", "bundle": "nano_3_0"}
    windows = {**place, "name": "win-1", "blueprint": "windows_server_2022", "bundle": "medium_win_3_0"}
    (folder / "team-key.pem").touch(mode=0o600)
    (folder / "team-key.pem").write_text(pem_of(new_key(key_bits)))
    pair = {"name": "team-key", "region": "eu-west-1", "private_key": "team-key.pem"}
    return Fixture.of({"key_pairs": [pair], "instances": [linux, windows | {"key_pair": "team-key"}]}, folder)


def people(folder: Path) -> None:
    """Write the keys of an issuer, and a token for each of many people."""
    key = rsa.generate_private_key(65537, 2048)
    public = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    (folder / "jwks.json").write_text(json.dumps({"keys": [{**public, "kid": "1", "alg": "RS256", "use": "sig"}]}))
    now = datetime.now(UTC)
    common = {"iss": ISSUER, "aud": "broker", "groups": ["ops"], "iat": now, "exp": now + timedelta(hours=8)}
    tokens = (
        jwt.encode({**common, "sub": f"person-{n}"}, key, "RS256", headers={"typ": "at+jwt", "kid": "1"})
        for n in range(PEOPLE)
    )
    (folder / "tokens").write_text("\n".join(tokens))


def _forged(token: str) -> str:
    signed, _, signature = token.rpartition(".")
    return f"{signed}.{signature[19::-1]}{signature[20:]}"


def _request(token: str, body: bytes) -> bytes:
    return (
        b"POST /v1/credentials HTTP/1.1\r\nHost: broker\r\nAuthorization: Bearer %s\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (token.encode(), len(body), body)
    )


async def _take_custody(folder: Path) -> None:
    """Put the Windows key into custody; the emulator, which is asked about it, runs in this very loop."""
    options = ["--account", "main", "--region", "eu-west-1", "--private-key", str(folder / "team-key.pem")]
    await run(folder, "keys", "add", "team-key", *options)


async def _teach(double: str) -> None:
    """Let the double learn its answers: the emulator, which makes keys for them, must not be what is measured."""
    async with aioboto3.Session().client("lightsail", "eu-west-1", endpoint_url=double) as client:
        await client.get_instance_access_details(instanceName="web-1", protocol="ssh")
        await client.get_instance_access_details(instanceName="win-1", protocol="rdp")


async def run(folder: Path, *words: str) -> None:
    """Run a command of the broker, which must succeed."""
    words = (*words, "--config", str(folder / "broker.toml"))
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "broker", *words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    told, _ = await child.communicate()
    assert child.returncode == 0, (words, told)


@contextmanager
def helper(module: str, *words: str) -> Iterator[str]:
    """Start a program of ours that prints its URL and ends with its input."""
    command = [sys.executable, "-m", module, *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


def _written(path: Path) -> BinaryIO:
    return path.open("wb")


def _served_at(log: Path) -> str:
    return next(
        (line.partition("serving on ")[2] for line in log.read_text().splitlines() if "serving on " in line), ""
    )
