"""Processes of the broker that start at once: `prefork` on the far side of two pipes.

with Forks() as forks:
    process = forks.fork(["serve"], folder, environment, output)
    process.go()
    assert process.reap() == 0
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from select import poll
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]


class Forks:
    """A broker that has loaded its modules, to fork from. For one thread.

    With `private_mounts` whatever is mounted `inside` is seen there only, and gone at the end. Mark users of that
    real("unshare").
    """

    def __init__(self, *, private_mounts: bool = False) -> None:
        apart = ["unshare", "--mount", "--propagation", "private"] if private_mounts else []
        self._parent = subprocess.Popen(
            [*apart, sys.executable, "-m", "tests.real.prefork"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill what still runs, and end."""
        self._parent.communicate(timeout=30)

    def inside(self, *command: str) -> None:
        """Run a program where the forks run, among their mounts."""
        subprocess.run(["nsenter", f"--target={self._parent.pid}", "--mount", *command], check=True)

    def seen(self, path: Path) -> Path:
        """Answer the name under which everybody sees what the forks see as `path`."""
        return Path(f"/proc/{self._parent.pid}/root{path}")

    def fork(self, words: Sequence[str], folder: Path, environment: Mapping[str, str], output: Path) -> Fork:
        """Fork a process that waits for `go`."""
        order = {
            "words": list(words),
            "folder": str(folder),
            "environment": dict(environment),
            "output": str(output),
        }
        return Fork(self, self.tell(order)["pid"], output)

    def tell(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Give one order; answer the answer."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(json.dumps(order) + "\n")
        self._parent.stdin.flush()
        answer: dict[str, Any] = json.loads(self._parent.stdout.readline())
        return answer


@dataclass(slots=True)
class Fork:
    """One process, and the file that has its stdout and stderr."""

    forks: Forks
    pid: int
    output: Path
    status: int | None = None

    @property
    def said(self) -> str:
        """What it has said so far."""
        return self.output.read_text() if self.output.exists() else ""

    def go(self) -> None:
        """Let it run."""
        self.forks.tell({"go": self.pid})

    def ended(self, seconds: float = 0) -> bool:
        """Tell whether it has ended, or does within so many seconds."""
        if self.status is not None:
            return True
        descriptor = os.pidfd_open(self.pid)
        try:
            polling = poll()
            polling.register(descriptor)
            return bool(polling.poll(seconds * 1000))
        finally:
            os.close(descriptor)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; harmless when it has ended."""
        if self.status is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def reap(self) -> int:
        """Wait for its end; answer its status as `subprocess` has it."""
        if self.status is None:
            self.status = int(self.forks.tell({"reap": self.pid})["status"])
        return self.status
