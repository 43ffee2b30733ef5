"""The whole service on a stage: embedded Lightsail, broker over HTTPS, real sshd where there is one."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp import ClientSession, TCPConnector

from broker.demo.stage import Person, Stage, stage
from tests.end_to_end.keys import lay_keys


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command of the command line did."""

    code: int
    out: str
    err: str


async def run_broker(words: Sequence[str], environment: dict[str, str] | None = None, cwd: Path | None = None) -> Ran:
    """Run `broker …` as a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "broker",
        *words,
        env={**os.environ, **(environment or {})},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate()
    return Ran(process.returncode or 0, out.decode(), err.decode())


@dataclass(frozen=True, slots=True)
class Scene:
    """A stage, and two ways to reach what plays on it."""

    stage: Stage
    session: ClientSession

    async def broker(self, person: Person, *words: str) -> Ran:
        """Run a command as somebody."""
        return await run_broker(words, self.stage.environment(person))

    async def get(self, person: Person, path: str) -> tuple[int, Any]:
        """Ask a route as somebody; answer status and document."""
        async with self.session.get(self.stage.url + path, headers=self._headers(person)) as response:
            text = await response.text()
            return response.status, json.loads(text) if "json" in response.content_type else text

    async def post(self, person: Person, body: dict[str, Any], path: str = "/v1/credentials") -> tuple[int, Any]:
        """Ask for a credential as somebody; answer status and document."""
        async with self.session.post(self.stage.url + path, json=body, headers=self._headers(person)) as response:
            return response.status, await response.json(content_type=None)

    def _headers(self, person: Person) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.stage.token_file(person).read_text()}"}


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    lay_keys(tmp_path / "stage")
    async with stage(tmp_path / "stage") as running:
        context = ssl.create_default_context(cafile=str(running.folder / "ca.pem"))
        async with ClientSession(connector=TCPConnector(ssl=context)) as session:
            yield Scene(running, session)
    structlog.reset_defaults()
