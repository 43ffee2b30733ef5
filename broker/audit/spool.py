"""Events of operators' commands that run while another process has the log: one small file each, durable.

SQLite's log serves one process. So a command beside the running service leaves its event in the folder
`<database>.spool`, before it makes its change, and whoever has the log collects it: the service every second, and
every operator's command that gets the log. A file goes only after its event is durable in the log; a crash in between
records it twice, with the same `spool_id`.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import stat
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Final
from uuid import uuid4

from broker.audit import spooled
from broker.audit.spooled import Malformed
from broker.audit.stores.files import sync_folder
from broker.errors import AuditUnavailable
from broker.model import Clock, Event, rfc3339, utc_now

Append = Callable[[Event], Awaitable[object]]

MAX_WAITING: Final = 1024
"""So many events may wait; a command that would leave one more is refused."""
_AT_ONCE: Final = 256
_SUFFIX, _ASIDE = ".json", ".rejected"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_NOT_OURS: Final = {errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENXIO}
"""What opening a link, a foreign file or a socket raises; any other error is the machine's, and may pass."""
_ODD: Final = re.compile(r"[^A-Za-z0-9._-]", re.ASCII)


class Spool:
    """The spool beside a database. Any process may leave an event; only the one that has the log collects.

    Args:
        database: The file of the log.
        clock: The time.
    """

    def __init__(self, database: Path, clock: Clock = utc_now) -> None:
        self.folder = database.with_name(database.name + ".spool")
        self._clock = clock
        self._numbers = count()
        """Tell the events of one command apart, should its clock stand still."""
        self._recorded: set[str] = set()
        """Files whose events are in the log, but which could not be cleared away: they are not recorded again."""

    async def append(self, event: Event) -> None:
        """Leave an event to be recorded; it is durable when this returns.

        Raises:
            AuditUnavailable: It is no event of an operator's command, or it cannot be written, or too many wait.
        """
        await asyncio.to_thread(self._put, event)

    async def collect(self, append: Append) -> int:
        """Record what waits, oldest first, and set aside what is malformed; answer how many files were cleared away.

        Raises:
            AuditUnavailable: The log cannot be written, or the spool not be read; what waits goes on waiting.
        """
        names = (await asyncio.to_thread(self._waiting))[:_AT_ONCE]
        trouble: OSError | None = None
        for name in names:
            try:
                await self._take(name, append)
            except OSError as problem:  # one bad file does not hold up the others
                trouble = trouble or problem
        if trouble:
            raise _trouble(self.folder, trouble) from trouble
        return len(names)

    async def _take(self, name: str, append: Append) -> None:
        path = self.folder / name
        event = await asyncio.to_thread(_event_of, path)
        if event is None:
            return
        if name not in self._recorded:
            await append(event)
            self._recorded.add(name)
        await asyncio.to_thread(_clear, path, aside=event.event == "spool.rejected")
        self._recorded.discard(name)

    def _put(self, event: Event) -> None:
        spool_id, now = uuid4().hex, self._clock()
        content = spooled.encode(event, spool_id, rfc3339(now))
        try:
            _make(self.folder)
            if len(self._waiting()) >= MAX_WAITING:
                raise AuditUnavailable(f"{MAX_WAITING} events wait in {self.folder} already: does the service run?")
            order = f"{now:%Y%m%dT%H%M%S.%f}-{next(self._numbers):04d}"
            _write(self.folder, f"{order}-{spool_id}{_SUFFIX}", content)
        except OSError as problem:
            raise _trouble(self.folder, problem) from problem

    def _waiting(self) -> Sequence[str]:
        """Answer the names of what waits, oldest first. Hidden files are not finished yet."""
        try:
            _require_private(self.folder)
            with os.scandir(self.folder) as entries:
                return sorted(e.name for e in entries if not e.name.startswith(".") and not e.name.endswith(_ASIDE))
        except FileNotFoundError:
            return ()
        except OSError as problem:
            raise _trouble(self.folder, problem) from problem


def _make(folder: Path) -> None:
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        sync_folder(folder.parent)


def _require_private(folder: Path) -> None:
    """Refuse a folder that is not ours, and close it to others: what they left there shows by its owner."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise AuditUnavailable(f"{folder} is no folder of this user")
    if status.st_mode & _OTHERS:
        folder.chmod(0o700)


def _write(folder: Path, name: str, content: bytes) -> None:
    """Write a file (0600) whole or not at all, durably."""
    temporary = folder / f".{name}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(folder / name)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(folder)


def _event_of(path: Path) -> Event | None:
    """Answer what to record for a file: its event, or that it is malformed; None when it is gone. May raise OSError."""
    try:
        return spooled.decode(_content(path), path.name.removesuffix(_SUFFIX).rpartition("-")[2])
    except Malformed as problem:
        details = {"file": _ODD.sub("_", path.name), "cause": str(problem)}
        return Event(event="spool.rejected", outcome="failure", error="malformed", details=details)
    except FileNotFoundError:
        return None


def _content(path: Path) -> bytes:
    """Read a plain file that is ours alone, and no more of it than an event has."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as problem:
        if problem.errno in _NOT_OURS:
            raise Malformed("it is no plain file of this user alone") from None
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & _OTHERS:
            raise Malformed("it is no plain file of this user alone")
        return os.read(descriptor, spooled.MAX_BYTES + 1)
    finally:
        os.close(descriptor)


def _clear(path: Path, *, aside: bool) -> None:
    if aside:
        path.rename(path.with_name(_ODD.sub("_", path.name)[:128] + _ASIDE))
    else:
        path.unlink(missing_ok=True)
    sync_folder(path.parent)


def _trouble(folder: Path, problem: OSError) -> AuditUnavailable:
    return AuditUnavailable(f"the spool of the audit log, {folder}: {problem.strerror}")
