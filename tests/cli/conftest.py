"""`broker` as a person runs it: a process of its own, against a service double over real TLS."""

import os
import pty
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.doubles.client import Authority, ServiceDouble

TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2VjcmV0LXNpZ25hdHVyZQ"


@dataclass(frozen=True)
class Terminal:
    """A shell's environment and folder."""

    environment: Mapping[str, str]
    folder: Path

    def start(self, *arguments: str, **changes: str | None) -> subprocess.Popen[str]:
        """Start a command; variables that are None are not set."""
        variables = {name: value for name, value in {**self.environment, **changes}.items() if value is not None}
        return subprocess.Popen(
            [sys.executable, "-m", "broker.cli.main", *arguments],
            env=variables,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def broker(self, *arguments: str, **changes: str | None) -> subprocess.CompletedProcess[str]:
        """Run a command to its end. Whatever it was and however it went, it showed neither token nor traceback."""
        with self.start(*arguments, **changes) as process:
            out, err = process.communicate(timeout=30)
        assert TOKEN not in out + err
        assert "Traceback" not in out + err
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def on_a_terminal(columns: int, terminal: Terminal, *words: str, **variables: str) -> list[str]:
    """Answer the lines that a command shows on a terminal of this width, without colours."""
    ours, theirs = pty.openpty()
    environment = {**terminal.environment, "NO_COLOR": "1", "COLUMNS": str(columns), **variables}
    subprocess.run([sys.executable, "-m", "broker", *words], env=environment, stdout=theirs, check=False, timeout=30)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    os.close(theirs)
    return shown.splitlines()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def service(authority: Authority) -> Iterator[ServiceDouble]:
    with ServiceDouble(authority.server_context()) as double:
        yield double


@pytest.fixture
def terminal(service: ServiceDouble, authority: Authority, tmp_path: Path) -> Terminal:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "BROKER_URL": service.url,
        "BROKER_TOKEN": TOKEN,
        "BROKER_CA_FILE": authority.ca_file,
    }
    return Terminal(environment, tmp_path)
