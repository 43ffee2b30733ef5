"""Where the client keeps what belongs to one person on one machine; nobody else can look in (mode 0700)."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from contextlib import contextmanager
from pathlib import Path

from broker.client.errors import Misconfigured, NotReady

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def passing(environment: Mapping[str, str]) -> Path:
    """Answer the folder for what ends with the session: `$XDG_RUNTIME_DIR/broker`, else the lasting one."""
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/") and _is_ours(Path(runtime)):
        return Path(runtime) / "broker"
    return lasting(environment)


def lasting(environment: Mapping[str, str]) -> Path:
    """Answer the folder for what stays: `$XDG_STATE_HOME/broker`, else `~/.local/state/broker`."""
    state = environment.get("XDG_STATE_HOME", "")
    if state.startswith("/"):
        return Path(state) / "broker"
    home = environment.get("HOME", "") or os.path.expanduser("~")  # noqa: PTH111  # pathlib's raises where there is none
    return Path(home) / ".local" / "state" / "broker"


def made(path: Path) -> Path:
    """Make a folder, and what is above it, for ourselves alone.

    Raises:
        Misconfigured: something else is there, or others may look in.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        pass
    except OSError as error:
        raise Misconfigured(f"the folder {path} cannot be made: {error.strerror}") from error
    if not _is_ours(path):
        raise Misconfigured(f"{path} has to be a folder of yours alone: chmod 700, or remove it")
    return path


def replace(path: Path, text: str) -> None:
    """Write a file (0600) beside the old one and put it in its place: whoever reads it sees the one or the other."""
    fresh = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


@contextmanager
def locked(path: Path, seconds: float) -> Iterator[None]:
    """Hold a lock file while the context lasts; the system lets go of it when a process ends, however that happens.

    Raises:
        NotReady: another process holds it for longer than so many seconds.
    """
    deadline = time.monotonic() + seconds
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not _lock(descriptor):
            if time.monotonic() > deadline:
                raise NotReady("another process has been asking for the same for too long")
            time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_ours(path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
