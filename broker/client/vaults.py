"""Where the tokens of a login are kept: the keyring of the system where one can be had, else a file of ours alone."""

from __future__ import annotations

import stat
from pathlib import Path

from broker.client import folders
from broker.client.errors import Misconfigured

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

KEYRING, FILE = "keyring", "file"
_SHARED = stat.S_IRWXG | stat.S_IRWXO
_NAME = "lightsail-credential-broker"


def write(url: str, path: Path, text: str) -> str:
    """Keep the tokens of a service; answer where: `keyring`, or `file`."""
    ring = _ring()
    if ring:
        try:
            ring.set_password(_NAME, url, text)
        except Exception:  # noqa: BLE001, S110  # backends raise whatever their system does; the file is as good
            pass
        else:
            path.unlink(missing_ok=True)
            return KEYRING
    folders.made(path.parent)
    folders.replace(path, text)
    return FILE


def read(place: str, url: str, path: Path) -> str:
    """Answer what was kept; "" when it is gone.

    Raises:
        Misconfigured: others can read it, so it is not to be relied on; or the keyring does not open.
    """
    if place == KEYRING:
        return _read_ring(url)
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_mode & _SHARED:
            raise Misconfigured(f"others can read {path}: remove it, and type `broker login`")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise Misconfigured(f"{path} cannot be read: {error.strerror}") from error


def forget(url: str, path: Path) -> None:
    """Remove what was kept, in either place: another process may have moved it meanwhile."""
    path.unlink(missing_ok=True)
    ring = _ring()
    if ring:
        try:
            ring.delete_password(_NAME, url)
        except Exception:  # noqa: BLE001  # it may be gone already, and each backend says that in its own way
            return


def _read_ring(url: str) -> str:
    ring = _ring()
    if ring is None:
        raise Misconfigured("your login is in the system's keyring, which cannot be had here: type `broker login`")
    try:
        return ring.get_password(_NAME, url) or ""
    except Exception as error:  # backends raise whatever their system does
        raise Misconfigured(f"the system's keyring does not open ({type(error).__name__})") from error


def _ring() -> ModuleType | None:
    """Answer the library where it is installed and has a keyring to work with."""
    try:
        import keyring
        import keyring.backends.fail

        return None if isinstance(keyring.get_keyring(), keyring.backends.fail.Keyring) else keyring
    except Exception:  # noqa: BLE001  # not installed, or a backend that fails when it is loaded
        return None
