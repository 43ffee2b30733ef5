"""The small company that is served without a fixture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from broker.emulator.fixture import Fixture

_LINUX: Final = {"blueprint": "amazon_linux_2023", "bundle": "nano_3_0", "public_ip": "127.0.0.1"}
_WINDOWS: Final = {"blueprint": "windows_server_2022", "bundle": "medium_win_3_0", "public_ip": "127.0.0.1"}

_COMPANY: Final[Mapping[str, Any]] = {
    "key_pairs": [{"name": "team-key", "region": "eu-west-1", "private_key": "team-key.pem"}],
    "instances": [
        _LINUX | {"name": "web-1", "region": "eu-west-1", "tags": {"env": "prod", "team": "shop", "ssh-port": "2222"}},
        _LINUX
        | {
            "name": "web-dev",
            "region": "eu-west-1",
            "blueprint": "ubuntu_24_04",
            "tags": {"env": "dev", "team": "shop"},
        },
        _LINUX
        | {
            "name": "db-1",
            "region": "eu-west-1",
            "blueprint": "debian_12",
            "bundle": "medium_3_0",
            "ipv6": ["2001:db8::17"],
            "tags": {"env": "prod", "team": "data"},
        },
        _LINUX | {"name": "batch-old", "region": "eu-west-1", "state": "stopped", "tags": {"env": "dev"}},
        _WINDOWS | {"name": "win-1", "region": "eu-west-1", "key_pair": "team-key", "tags": {"env": "prod"}},
        _WINDOWS | {"name": "win-dev", "region": "eu-west-1", "tags": {"env": "dev"}},
        _LINUX
        | {
            "name": "edge-v6",
            "region": "us-east-1",
            "bundle": "nano_ipv6_3_0",
            "public_ip": "",
            "ipv6": ["::1"],
            "tags": {"env": "prod", "team": "edge"},
        },
        _LINUX | {"name": "web-1", "region": "us-east-1", "tags": {"env": "prod", "team": "shop"}},
    ],
}


def small_company(directory: Path) -> Fixture:
    """Answer the fixture of eight instances in two Regions; keys are made in `directory` at start."""
    return Fixture.of(_COMPANY, directory)
