"""A bound on the memory of programs: a control group of the kernel's, of version 1 or 2."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

_ROOT = Path("/sys/fs/cgroup")
_NAMES = {1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.oom_control")}
_NAMES[2] = ("memory.max", "memory.current", "memory.events")


def _place() -> tuple[Path, int] | None:
    """Answer where a group can be made, and the version; None when there is no such place."""
    unified = _ROOT / "cgroup.subtree_control"
    with suppress(OSError):
        if "memory" in unified.read_text().split():
            return _ROOT, 2
    return (_ROOT / "memory", 1) if (_ROOT / "memory" / _NAMES[1][0]).exists() else None


def is_there() -> bool:
    """Tell whether a group can be made here."""
    try:
        with Memory():
            return True
    except OSError:
        return False


class Memory:
    """A group, as long as the context; `inside` is what a command begins with that belongs to it."""

    def __init__(self) -> None:
        found = _place()
        if found is None:
            raise FileNotFoundError(_ROOT / "memory")
        where, version = found
        self._folder = where / f"test-{uuid4().hex}"
        self._limit, self._used, self._events = _NAMES[version]
        self.inside = ("sh", "-c", f'echo $$ > "{self._folder}/cgroup.procs" && exec "$@"', "sh")

    def __enter__(self) -> Self:
        self._folder.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove it; what ran in it has ended."""
        self._folder.rmdir()

    def limit(self, bytes_: int) -> None:
        """Bound it."""
        (self._folder / self._limit).write_text(str(bytes_))

    @property
    def used(self) -> int:
        """How many bytes it uses."""
        return int((self._folder / self._used).read_text())

    @property
    def kills(self) -> int:
        """How many of its processes the kernel has killed because there was no more."""
        lines = (self._folder / self._events).read_text().splitlines()
        return int(dict(line.split() for line in lines)["oom_kill"])
