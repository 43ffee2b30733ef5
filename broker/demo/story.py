"""The story: who asks for what, what is decided, the real login, the refusal, and the proof of it all.

Every command that is shown is really run, as a process of its own, the way a person or a script would.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker.client.leases import forget
from broker.demo.stage import ALICE, BOB, CAROL, Person, Stage

TAMPERED, DENIED, NEEDS_MORE = 1, 3, 6
Say = Callable[[str], None]


class Disappointment(Exception):
    """The demonstration did not go as it must."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a command answered."""

    code: int
    out: str
    err: str


class Story:
    """Plays on a stage; `say` prints a line, `strong` and `faint` are how it stands out."""

    def __init__(self, stage: Stage, say: Say, strong: Callable[[str], str], faint: Callable[[str], str]) -> None:
        self._stage = stage
        self._say = say
        self._strong = strong
        self._faint = faint
        self._act = 0

    async def play(self) -> None:
        """Play every act; raises Disappointment when one does not go as it must."""
        await self._custody()
        await self._getting_in()
        await self._windows()
        await self._refusals()
        await self._proof()

    async def _custody(self) -> None:
        self._open_act("The key of the Windows servers goes into custody, encrypted; nobody needs it again")
        key = self._stage.folder / "team-key.pem"
        options = ["--account", "main", "--region", "eu-west-1", "--private-key", str(key)]
        await self._broker(ALICE, ["keys", "add", "team-key", *options, "--config", str(self._stage.config)])

    async def _getting_in(self) -> None:
        self._open_act("alice, an operator, asks for web-1 in production")
        await self._expect(NEEDS_MORE, ALICE, ["get", "web-1"])
        shown = await self._expect(0, ALICE, ["get", "web-1", "--reason", "checkout is slow"])
        credential = json.loads(shown.out)
        self._describe(credential)
        if self._stage.sshd is None:
            self._tell("(no sshd is installed here, so nobody logs in; the certificate is real all the same)")
            return
        login = await self._expect(0, ALICE, ["ssh", "web-1", "--reason", "checkout is slow", "--", "echo", "in"])
        if login.out != "in\n":
            raise Disappointment(f"the login failed: {login.err}")
        await asyncio.to_thread(forget, self._apart())
        self._tell("in: a real sshd took the certificate, and proved itself by the pinned key; ours is in no file")

    async def _windows(self) -> None:
        self._open_act("alice asks for win-1, whose password is sealed to a key pair of the company")
        shown = await self._expect(0, ALICE, ["get", "win-1", "--reason", "patch day"])
        credential = json.loads(shown.out)
        self._describe(credential)
        password = credential["rdp"]["password"]
        self._tell(f"Administrator's password, opened in custody: {'•' * len(password)} (not shown here)")
        for warning in credential["warnings"]:
            self._tell(self._faint(warning))

    async def _refusals(self) -> None:
        self._open_act("bob, a developer, tries production; a stranger tries anything")
        await self._expect(DENIED, BOB, ["get", "db-1", "--reason", "just looking"])
        stranger = Person("mallory", ())
        self._stage.give_token(stranger, self._stage.token_file(ALICE).read_text()[:-8] + "AAAAAAAA")
        await self._expect(DENIED, stranger, ["get", "web-1"])

    async def _proof(self) -> None:
        self._open_act("carol, an auditor, reads what happened, and proves that nothing was changed")
        config = ["--config", str(self._stage.config)]
        await self._broker(CAROL, ["audit", "search", *config], show_output=True)
        await self._stage.seal()
        await self._broker(CAROL, ["audit", "verify", *config], show_output=True)
        self._say("")
        self._tell("Somebody with root edits one word in a copy of the log, and hopes that nobody notices:")
        copy = self._stage.folder / "copy.db"
        await asyncio.to_thread(edit_copy, self._stage.folder / "state" / "audit.db", copy)
        pinned = f"@{self._stage.folder / 'state' / 'audit.key.pub'}"
        await self._expect(TAMPERED, CAROL, ["audit", "verify", "--database", str(copy), "--key", pinned])

    def _open_act(self, title: str) -> None:
        self._act += 1
        self._say("")
        self._say(self._strong(f"{self._act}  {title}"))

    def _tell(self, line: str) -> None:
        self._say(f"    {line}")

    def _describe(self, credential: dict[str, Any]) -> None:
        policies = ", ".join(credential["decision"]["policies"])
        self._tell(f"allowed by policy {self._strong(policies)} until {credential['lease']['expires_at']}")
        self._tell(f"audit event {credential['audit']['index']}, leaf {credential['audit']['leaf_hash'][:16]}…")

    async def _expect(self, code: int, person: Person, words: Sequence[str]) -> Shown:
        shown = await self._run(person, words)
        if shown.code != code:
            raise Disappointment(f"exit code {shown.code} instead of {code}: {shown.err}")
        if code:
            for line in (shown.out + shown.err).splitlines():
                if "request:" not in line:
                    self._tell(line)
            self._tell(self._faint(f"exit code {code}"))
        return shown

    async def _broker(self, person: Person, words: Sequence[str], *, show_output: bool = False) -> Shown:
        shown = await self._run(person, words)
        for line in (shown.out if show_output else shown.err).splitlines():
            self._tell(line)
        if shown.code != 0:
            raise Disappointment(f"exit code {shown.code}: {shown.err}")
        return shown

    def _apart(self) -> dict[str, str]:
        """Keep what the command line remembers, and the keys in agents, apart from those of who plays this."""
        run = self._stage.folder / "run"
        run.mkdir(mode=0o700, exist_ok=True)
        return {"XDG_RUNTIME_DIR": str(run), "XDG_STATE_HOME": str(run), "SSH_AUTH_SOCK": ""}

    async def _run(self, person: Person, words: Sequence[str]) -> Shown:
        folder = f"{self._stage.folder}/"
        line = shlex.join(["broker", *words]).replace(folder, "")
        self._say(f"    {self._faint(f'{person.name} $')} {line}")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "broker",
            *words,
            env={**os.environ, **self._stage.environment(person), **self._apart()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await process.communicate()
        return Shown(process.returncode or 0, out.decode(), err.decode())


def edit_copy(log: Path, copy: Path) -> None:
    """Copy an audit log, and put other words into bob's mouth: same length, everything else left alone."""
    with closing(sqlite3.connect(f"file:{log}?mode=ro", uri=True)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        target.execute(
            "UPDATE events SET leaf = CAST(replace(CAST(leaf AS TEXT), 'just looking', 'root said ok') AS BLOB)"
        )
        target.commit()
    copy.chmod(0o600)
