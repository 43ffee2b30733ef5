"""The files under a SQLite log: who may touch them, on which disk they lie, and that one process holds them."""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path

from broker.audit.stores import InUse, StoreError

_OPEN_TO_OTHERS = 0o077
_WRITABLE_BY_OTHERS = 0o022
_NETWORK = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "afs",
    "ceph",
    "glusterfs",
    "lustre",
    "fuse.sshfs",
    "fuse.s3fs",
}


def make_new(path: Path) -> None:
    """Make an empty file (0600), and its folder (0700) when that is missing; make both names durable.

    Raises:
        StoreError: when it exists already, or cannot be made.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_folder(path.parent)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        sync_folder(path.parent)
    except FileExistsError:
        raise StoreError(f"there is an audit log already: {path}") from None
    except OSError as problem:
        raise StoreError(f"the audit log {path} cannot be made: {problem}") from problem


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. SQLite ignores a failure of this, we do not."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_existing(path: Path) -> None:
    """Refuse what is not our own plain file on a local disk; close it to others where it stood open.

    Never opens the file: closing a second descriptor would drop SQLite's POSIX locks on it.

    Raises:
        StoreError: with the reason.
    """
    try:
        status = path.lstat()
    except OSError as problem:
        raise StoreError(f"there is no audit log at {path} ({problem.strerror}); `broker init` makes one") from problem
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise StoreError(f"the audit log {path} is a link or no plain file")
    if status.st_uid != os.geteuid():
        raise StoreError(f"the audit log {path} belongs to another user")
    _check_folder(path.parent)
    if filesystem_of(path) in _NETWORK:
        raise StoreError(f"the audit log {path} lies on a network file system, where locks do not hold")
    if status.st_mode & _OPEN_TO_OTHERS:
        path.chmod(0o600)


def _check_folder(folder: Path) -> None:
    if folder.stat().st_mode & _WRITABLE_BY_OTHERS:
        raise StoreError(f"others may write to {folder}, so they could replace the audit log: chmod 700 it")


def filesystem_of(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """Answer the type of the file system that holds `path`; empty when the system does not tell."""
    best, kind = "", ""
    with suppress(OSError):
        for line in mounts.read_text(errors="replace").splitlines():
            mount, _, rest = line.partition(" - ")
            point = mount.split(" ")[4]
            if len(point) >= len(best) and path.resolve().is_relative_to(point):
                best, kind = point, rest.split(" ")[0]
    return kind


class ProcessLock:
    """A lock on a file beside the database: a second process on the same log is turned away."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + ".lock")
        self._descriptor = -1

    def acquire(self) -> None:
        """Take it, or raise InUse when another process has it. The system frees it when the process dies."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._descriptor = os.open(self._path, flags, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise InUse("another broker process is writing this audit log; SQLite serves one") from None
        except OSError as problem:
            self.release()
            raise StoreError(f"the lock of the audit log cannot be taken: {problem}") from problem

    def release(self) -> None:
        """Let it go."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class FileIdentity:
    """Remembers which files a connection has open, to notice when their names lead elsewhere."""

    def __init__(self, *paths: Path) -> None:
        self._known = {path: _identity(path) for path in paths}

    def check(self) -> None:
        """Raise StoreError when one was removed, renamed or replaced."""
        for path, known in self._known.items():
            if _identity(path) != known:
                raise StoreError(f"{path.name} was removed or replaced while it was in use")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
