"""What is measured on: an emulator with a replaying double in front, and a broker process with shipped defaults."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from broker import settings, state
from broker.demo.stage import make_tls
from broker.emulator import Emulator, Fixture

PEOPLE = 1_000
POLICIES = 100
ISSUER = "https://id.bench.example"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKIDEMULATOR", "AWS_SECRET_ACCESS_KEY": "emulator-secret"}

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
[limits]
per_caller_per_minute = 1000000
connections_per_peer = 4096
issues_per_caller_per_minute = 1000000
instances_per_caller_per_hour = 1000000
"""


@dataclass(frozen=True, slots=True)
class World:
    """Where everything is."""

    folder: Path
    double: str
    url: str
    broker: int
    """Process id of the broker."""

    @property
    def ca(self) -> Path:
        """The authority of the broker's certificate."""
        return self.folder / "ca.pem"

    @property
    def tokens(self) -> Path:
        """One token a line, each of another person."""
        return self.folder / "tokens"

    def events(self) -> Counter[str]:
        """Answer how many events of each kind the audit log holds."""
        path = self.folder / "state" / "audit.db"
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            return Counter(dict(database.execute("SELECT event, count(*) FROM events GROUP BY event")))


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    """Start everything, and end it with the context."""
    os.environ.update(CREDENTIALS)
    async with Emulator(_fixture(folder)) as emulator:
        with _double(emulator.url) as double:
            _people(folder)
            make_tls(folder)
            policies(folder / "policies", POLICIES)
            (folder / "broker.toml").write_text(SETTINGS.format(issuer=ISSUER, endpoint=double))
            list(state.create(settings.load(folder / "broker.toml", {})))
            await _take_custody(folder)
            async with _serve(folder) as (url, process):
                yield World(folder, double, url, process)
            await _run(folder, "audit", "verify")


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


def _fixture(folder: Path) -> Fixture:
    place = {"region": "eu-west-1", "public_ip": "127.0.0.1", "tags": {"env": "dev"}}
    return Fixture.of(
        {
            "key_pairs": [{"name": "team-key", "region": "eu-west-1", "private_key": "team-key.pem"}],
            "instances": [
                {**place, "name": "web-1", "blueprint": "amazon_linux_2023", "bundle": "nano_3_0"},
                {
                    **place,
                    "name": "win-1",
                    "blueprint": "windows_server_2022",
                    "bundle": "medium_win_3_0",
                    "key_pair": "team-key",
                },
            ],
        },
        folder,
    )


def _people(folder: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    public = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    (folder / "jwks.json").write_text(json.dumps({"keys": [{**public, "kid": "1", "alg": "RS256", "use": "sig"}]}))
    now = datetime.now(UTC)
    common = {"iss": ISSUER, "aud": "broker", "groups": ["ops"], "iat": now, "exp": now + timedelta(hours=1)}
    tokens = (
        jwt.encode({**common, "sub": f"person-{n}"}, key, "RS256", headers={"typ": "at+jwt", "kid": "1"})
        for n in range(PEOPLE)
    )
    (folder / "tokens").write_text("\n".join(tokens))


async def _take_custody(folder: Path) -> None:
    """Put the Windows key into custody; the emulator, which is asked about it, runs in this very loop."""
    options = ["--account", "main", "--region", "eu-west-1", "--private-key", str(folder / "team-key.pem")]
    await _run(folder, "keys", "add", "team-key", *options)


async def _run(folder: Path, *words: str) -> None:
    words = (*words, "--config", str(folder / "broker.toml"))
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", "broker", *words)
    assert await child.wait() == 0, words


@contextmanager
def _double(emulator_url: str) -> Iterator[str]:
    words = [sys.executable, "-m", "benchmarks.double", emulator_url]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


@asynccontextmanager
async def _serve(folder: Path) -> AsyncIterator[tuple[str, int]]:
    log = folder / "broker.log"
    words = [sys.executable, "-m", "broker", "serve", "--config", str(folder / "broker.toml")]
    with _written(log) as stderr:
        process = await asyncio.create_subprocess_exec(*words, stderr=stderr)
    async with asyncio.timeout(60):
        while not (url := _served_at(log)):
            assert process.returncode is None, log.name
            await asyncio.sleep(0.1)
    try:
        yield url, process.pid
    finally:
        process.terminate()
        await process.wait()


def _written(path: Path) -> BinaryIO:
    return path.open("wb")


def _served_at(log: Path) -> str:
    return next(
        (line.partition("serving on ")[2] for line in log.read_text().splitlines() if "serving on " in line), ""
    )
