"""Files that hold secrets: private from the first byte, whole or not there at all."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from broker.errors import KeysUnavailable

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def write_new(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 that must not exist yet, durably.

    Raises:
        FileExistsError: When it exists.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        _put(file.fileno(), content)
    _sync_directory(path.parent)


def replace(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 atomically and durably: after a crash the old content is there, or the new."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")  # mkstemp makes it 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            _put(file.fileno(), content)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def remove(path: Path) -> None:
    """Remove a file durably."""
    path.unlink()
    _sync_directory(path.parent)


def require_private(path: Path) -> None:
    """Refuse a file or directory that other users of the machine may touch.

    Raises:
        KeysUnavailable: When group or world have any right, or it belongs to another user than us or root.
        FileNotFoundError: When there is none.
    """
    status = path.stat()
    if status.st_mode & _OTHERS:
        wanted = "0700" if stat.S_ISDIR(status.st_mode) else "0600"
        raise KeysUnavailable(f"{path} is open to other users of this machine; its mode must be {wanted}")
    if status.st_uid not in {os.geteuid(), 0}:
        raise KeysUnavailable(f"{path} belongs to another user")


def _put(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]
    os.fsync(descriptor)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
