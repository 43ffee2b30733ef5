"""What the tests of the embedded Lightsail share: keys made once, and an emulator that serves a small fixture."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.emulator import Emulator, Fixture
from broker.emulator.keys import read_or_make

PASSWORD = "S3cret-Admin-Pw!"


class MovedClock:
    """The real time, moved by `ahead`."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make keys once: they are what takes time."""
    directory = tmp_path_factory.mktemp("keys")
    for name in ("ca", "team-key.pem", "default-eu.pem", "default-us.pem"):
        read_or_make(directory / name, 2048)
    return directory


@pytest.fixture
def company(keys: Path) -> Mapping[str, Any]:
    """Describe instances of every kind, with the keys that were made once."""
    linux = {"region": "eu-west-1", "blueprint": "amazon_linux_2023", "bundle": "nano_3_0"}
    windows = {"region": "eu-west-1", "blueprint": "windows_server_2022", "bundle": "medium_win_3_0"}
    return {
        "ssh_ca": str(keys / "ca"),
        "key_pairs": [
            {"name": "team-key", "region": "eu-west-1", "private_key": str(keys / "team-key.pem")},
            {"name": "brought", "region": "eu-west-1", "private_key": str(keys / "team-key.pem"), "imported": True},
            {"name": "LightsailDefaultKeyPair", "region": "eu-west-1", "private_key": str(keys / "default-eu.pem")},
            {"name": "LightsailDefaultKeyPair", "region": "us-east-1", "private_key": str(keys / "default-us.pem")},
        ],
        "instances": [
            linux | {"name": "web-1", "tags": {"env": "prod", "pinned": ""}, "public_ip": "203.0.113.7"},
            linux | {"name": "old", "state": "stopped"},
            linux | {"name": "edge", "bundle": "nano_ipv6_3_0", "ipv6": ["2001:DB8::1"]},
            linux | {"name": "new", "ready_after": "10m"},
            windows | {"name": "win-1", "key_pair": "team-key", "password": PASSWORD},
            windows | {"name": "win-2", "password": PASSWORD},
            windows | {"name": "win-new", "password": PASSWORD, "ready_after": "10m"},
            linux | {"name": "web-1", "region": "us-east-1"},
        ],
    }


@pytest.fixture
async def emulator(company: Mapping[str, Any], clock: MovedClock, tmp_path: Path) -> AsyncIterator[Emulator]:
    async with Emulator(Fixture.of(company, tmp_path), clock=clock, key_pool=1) as emulator:
        yield emulator
