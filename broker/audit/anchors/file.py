"""An anchor that is a file, such as one on another disk: one note after the other, an empty line after each."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from broker.audit.anchors.notes import notes_in
from broker.audit.anchors.places import AnchorFailed
from broker.audit.stores.files import sync_folder

_TAIL: Final = 64 * 1024
"""So many bytes at the end are looked at before something is appended: some hundred notes. No note is longer."""
_CHUNK: Final = 1024 * 1024
_DIGITS: Final = 19
_WRITABLE_BY_OTHERS: Final = 0o022
_OF_SQLITE: Final = ("", "-wal", "-shm", "-journal", ".lock")
_FLAGS: Final = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

_Answer = TypeVar("_Answer")


class FileAnchor:
    """Keeps notes in the file `path`, which must not be one of the `database`'s. Blocks nobody, however it hangs."""

    def __init__(self, path: Path, database: Path | None = None) -> None:
        self._path = path
        self._foreign = [database.with_name(database.name + suffix) for suffix in _OF_SQLITE] if database else []
        self._busy = threading.Lock()
        self._doubtful = False

    def shares_the_disk_of(self, database: Path) -> bool:
        """Tell whether both lie on one file system, and so can be rolled back together."""
        with suppress(OSError):
            return self._path.parent.stat().st_dev == database.parent.stat().st_dev
        return False

    async def newest(self) -> str | None:
        """Answer the note of the greatest size in the whole file; None when there is no file, or nothing in it.

        Whoever can only append must not be able to hide it behind a pile of older ones.

        Raises:
            AnchorFailed: the file is not fit to be an anchor.
            OSError: it cannot be read.
        """
        return await self._in_thread(self._newest)

    async def add(self, size: int, note: str, after: int) -> None:
        """Append a note durably, after completing what a crash cut off. Only the first one makes the file.

        One that stands near the end already is not written again.

        Raises:
            AnchorFailed: the file is gone, or not fit to be an anchor.
            OSError: it cannot be written.
        """
        del size
        await self._in_thread(partial(self._add, note, after))

    def _newest(self) -> str | None:
        try:
            with self._opened(os.O_RDONLY) as descriptor:
                found = _greatest(descriptor)
                if found is None and os.fstat(descriptor).st_size >= _TAIL:
                    raise AnchorFailed("there is no checkpoint in the file")
        except FileNotFoundError:
            self._path.parent.stat()  # a folder that is not there is a disk that is not mounted
            return None
        return found

    def _add(self, note: str, after: int) -> None:
        try:
            with self._opened(os.O_RDWR | os.O_APPEND | (0 if after else os.O_CREAT)) as descriptor:
                self._append(descriptor, f"{note}\n".encode())
        except FileNotFoundError:
            raise AnchorFailed("the file is gone, and with it what it held; put it back or make an empty one") from None
        if not after:
            sync_folder(self._path.parent)

    def _append(self, descriptor: int, payload: bytes) -> None:
        tail = _tail(descriptor)
        there = not self._doubtful and tail.endswith(b"\n\n") and payload in tail
        missing = b"" if there else _missing(tail, payload)
        self._doubtful = True  # after a failed sync nobody knows what of it is on the disk: it is written once more
        while missing:
            missing = missing[os.write(descriptor, missing) :]
        os.fsync(descriptor)
        self._doubtful = False

    @contextmanager
    def _opened(self, flags: int) -> Iterator[int]:
        if any(self._path.resolve() == foreign.resolve() for foreign in self._foreign):
            raise AnchorFailed("the file is the audit log itself")
        descriptor = os.open(self._path, flags | _FLAGS, 0o600)
        try:
            self._check(os.fstat(descriptor))
            yield descriptor
        finally:
            os.close(descriptor)

    def _check(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise AnchorFailed("it is a link or no plain file")
        if status.st_mode & _WRITABLE_BY_OTHERS:
            raise AnchorFailed("others may write to the file: chmod 640 it")

    async def _in_thread(self, work: Callable[[], _Answer]) -> _Answer:
        """Work in a thread of its own: one that hangs on a dead mount holds up neither the service nor its end."""
        if not self._busy.acquire(blocking=False):
            raise AnchorFailed("the disk does not answer")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_Answer] = loop.create_future()

        def run() -> None:
            try:
                answer = work()
            except Exception as problem:  # noqa: BLE001 - whoever waits gets it
                tell = partial(_fail, future, problem)
            else:
                tell = partial(_answer, future, answer)
            self._busy.release()
            with suppress(RuntimeError):  # the loop is gone, and with it who waited
                loop.call_soon_threadsafe(tell)

        threading.Thread(target=run, name="file-anchor", daemon=True).start()
        return await future


def _tail(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, _TAIL, max(0, size - _TAIL))


def _greatest(descriptor: int) -> str | None:
    """Answer the first of the notes of the greatest size, reading from end to end."""
    greatest: str | None = None
    text, start = b"", 0
    while chunk := os.pread(descriptor, _CHUNK, start):
        start += len(chunk)
        text = text[-_TAIL:] + chunk
        for note in notes_in(text.decode(errors="replace")):
            if greatest is None or _size(note) > _size(greatest):
                greatest = note
    return greatest


def _size(note: str) -> int:
    """Answer the size that a note claims."""
    digits = note.split("\n", 2)[1]
    return int(digits) if len(digits) <= _DIGITS else 0


def _missing(tail: bytes, payload: bytes) -> bytes:
    """Answer what to append so that the payload stands whole at the end, whatever a crash has left there."""
    for length in range(len(payload) - 1, 0, -1):
        before = tail[: len(tail) - length]
        if tail.endswith(payload[:length]) and (not before or before.endswith(b"\n\n")):
            return payload[length:]
    return payload if not tail or tail.endswith(b"\n\n") else b"\n\n" + payload


def _answer(future: asyncio.Future[_Answer], answer: _Answer) -> None:
    if not future.done():
        future.set_result(answer)


def _fail(future: asyncio.Future[_Answer], problem: Exception) -> None:
    if not future.done():
        future.set_exception(problem)
