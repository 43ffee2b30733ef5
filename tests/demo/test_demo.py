"""`broker demo`: the story is told to its end, shows nothing secret, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from broker.cli.demo import try_it
from broker.client.leases import forget
from broker.demo.stage import ALICE, BOB, CAROL, WINDOWS_PASSWORD, Stage, stage
from broker.demo.story import Disappointment, Story
from broker.emulator import parse_faults
from tests.end_to_end.keys import lay_keys


@pytest.fixture(autouse=True)
def quiet_afterwards() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def without_style(text: str) -> str:
    return text


@pytest.mark.real("sshd", "ssh")
def test_the_command_tells_the_story_and_leaves_nothing_behind(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "broker", "demo"],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR": str(tmp_path), "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stderr == ""
    assert re.findall(r"^(\d)  ", ran.stdout, re.MULTILINE) == ["1", "2", "3", "4", "5"]
    for line in (
        "allowed by policy ",
        "in: a real sshd took the certificate",
        "A reason is required.",
        "exit code 3",
        "exit code 6",
        "credential.denied",
        "clean: ",
    ):
        assert line in ran.stdout, line
    assert "\x1b" not in ran.stdout
    assert list(tmp_path.iterdir()) == []


def secrets_of(running: Stage) -> list[str]:
    """List what must not be seen, each key by one of its lines."""
    found = [WINDOWS_PASSWORD]
    found += [running.token_file(person).read_text() for person in (ALICE, BOB, CAROL)]
    for path in running.folder.rglob("*"):
        text = path.read_text(errors="replace") if path.is_file() else ""
        if "PRIVATE KEY" in text:
            found.append(text.splitlines()[2 if "RSA" in text else 1])
    return found


async def test_no_secret_is_told(tmp_path: Path) -> None:
    lines: list[str] = []
    lay_keys(tmp_path / "stage")
    async with stage(tmp_path / "stage") as running:
        await Story(running, lines.append, without_style, without_style).play()
        secrets = secrets_of(running)
        told = "\n".join(lines) + (running.folder / "broker.log").read_text()
    assert len(secrets) > 6
    assert all(len(secret) > 10 for secret in secrets)
    assert [secret for secret in secrets if secret in told] == []
    assert "PRIVATE KEY" not in told
    assert "••••" in told


@pytest.mark.real("sshd", "ssh", "ssh-keygen")
async def test_what_it_says_to_paste_gets_one_in(tmp_path: Path) -> None:
    lay_keys(tmp_path / "stage")
    async with stage(tmp_path / "stage") as running:
        told = try_it(running, "https://127.0.0.1/console/sign-in?link=x")
        exports = [line for line in told.splitlines() if line.startswith("  export ")]
        script = "\n".join([*exports, "broker ssh web-1 --reason 'a look' -- true", "broker audit verify >&2"])
        assert 'broker ssh web-1 --reason "a look around"' in told
        copies = [
            "broker ssh-config > config",
            "BROKER_REASON=copy scp -q -F config config web-1:$PWD/copied",
            "cmp config copied",
        ]
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
        ran = await asyncio.to_thread(
            subprocess.run,
            ["sh", "-ec", "\n".join([script, *copies])],
            env=environment,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        await asyncio.to_thread(forget, environment)
    assert ran.returncode == 0, ran.stderr


async def test_a_story_that_goes_wrong_is_no_success(tmp_path: Path) -> None:
    lay_keys(tmp_path / "stage")
    async with stage(tmp_path / "stage") as running:
        fault = {"operation": "GetInstanceAccessDetails", "kind": "error:AccessDeniedException"}
        running.emulator.faults.add(parse_faults([fault]))
        with pytest.raises(Disappointment):
            await Story(running, lambda _: None, without_style, without_style).play()


async def test_every_settings_file_of_the_stage_is_private(tmp_path: Path) -> None:
    async with stage(tmp_path / "stage") as running:
        assert running.folder.stat().st_mode & 0o077 == 0
        for path in running.folder.glob("*.token"):
            assert path.stat().st_mode & 0o077 == 0
        assert json.loads((running.folder / "jwks.json").read_text())["keys"][0].keys().isdisjoint({"d"})
