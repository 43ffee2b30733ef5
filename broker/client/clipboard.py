"""The clipboard of the desktop, lent to a password for some seconds: it is set by standard input, and cleared after."""

from __future__ import annotations

import hashlib
import hmac
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass

from broker.client.errors import Misconfigured

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_SECONDS = 5.0
_LOOKS, _PAUSE_SECONDS = 40, 0.05
"""Under X11 the program ends a little before the clipboard is its own: only a look tells what is there."""


@dataclass(frozen=True)
class Clipboard:
    """Programs that write, read and clear it. Without `clears`, what clears it is to write nothing."""

    writes: tuple[str, ...]
    reads: tuple[str, ...]
    clears: tuple[str, ...] = ()
    needs: str = ""

    def write(self, text: str) -> None:
        """Put a text there. Raises Misconfigured when that does not work."""
        digest = hashlib.sha256(text.encode()).digest()
        try:
            self._run(self.writes, text.encode())
            for _ in range(_LOOKS):
                if self.holds(digest):
                    return
                time.sleep(_PAUSE_SECONDS)
        except (OSError, subprocess.SubprocessError) as error:
            raise Misconfigured(
                f"the clipboard cannot be used ({self.writes[0]}): install FreeRDP 3, which needs none"
            ) from error
        raise Misconfigured(f"the clipboard does not take what is written to it ({self.writes[0]})")

    def holds(self, digest: bytes) -> bool:
        """Tell whether what is there has this SHA-256; a line end behind it does not count. Unsure is yes."""
        try:
            shown = subprocess.run(  # noqa: S603  # a program of the table below
                self.reads, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False
            )
        except (OSError, subprocess.SubprocessError):
            return True
        found = hashlib.sha256(shown.stdout.rstrip(b"\r\n")).digest()
        return shown.returncode == 0 and hmac.compare_digest(found, digest)

    def clear(self) -> None:
        """Empty it."""
        self._run(self.clears or self.writes, b"")

    @staticmethod
    def _run(command: tuple[str, ...], text: bytes) -> None:
        """Run to the end. Some leave a process behind that holds the text: it must not hold our output open too."""
        subprocess.run(  # noqa: S603  # same
            command, input=text, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=_SECONDS, check=True
        )


_X = ("-selection", "clipboard")
CLIPBOARDS: tuple[Clipboard, ...] = (
    Clipboard(("wl-copy",), ("wl-paste", "--no-newline"), ("wl-copy", "--clear"), "WAYLAND_DISPLAY"),
    Clipboard(("xclip", *_X, "-in"), ("xclip", *_X, "-out"), needs="DISPLAY"),
    Clipboard(("xsel", "-b", "-i"), ("xsel", "-b", "-o"), ("xsel", "-b", "-c"), "DISPLAY"),
    Clipboard(("pbcopy",), ("pbpaste",)),
    Clipboard(("clip.exe",), ("powershell.exe", "-NoProfile", "-Command", "Get-Clipboard -Raw")),
)


def find(which: Callable[[str], str | None], environment: Mapping[str, str]) -> Clipboard:
    """Find the first clipboard whose programs are there.

    Raises:
        Misconfigured: there is none, with what to install.
    """
    for clipboard in CLIPBOARDS:
        if clipboard.needs and not environment.get(clipboard.needs):
            continue
        if which(clipboard.writes[0]) and which(clipboard.reads[0]):
            return clipboard
    raise Misconfigured(
        "there is no clipboard to hand the password over by: install wl-clipboard (Wayland), xclip or xsel (X11), "
        "or FreeRDP, which needs none"
    )


@contextmanager
def lent(clipboard: Clipboard, secret: str, seconds: float, cleared: Callable[[], None]) -> Iterator[threading.Event]:
    """Put a secret there; take it away after so many seconds, and at the end of the context at the latest.

    What somebody else copied meanwhile stays. The event that is answered is set once the clipboard is done with.

    Args:
        clipboard: where.
        secret: what.
        seconds: for how long at most.
        cleared: called when it was taken away in time, while the context goes on.
    """
    digest, done = hashlib.sha256(secret.encode()).digest(), threading.Event()

    def expire() -> None:
        _take_away(clipboard, digest)
        cleared()
        done.set()

    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    try:
        clipboard.write(secret)
        timer.start()
        yield done
    finally:
        timer.cancel()
        if timer.is_alive():
            timer.join()  # in the middle of it: a thread that still talks when Python ends would abort it
        if not done.is_set():
            _take_away(clipboard, digest)


def _take_away(clipboard: Clipboard, digest: bytes) -> None:
    """Clear until what was lent is not there any more."""
    try:
        for _ in range(_LOOKS):
            if not clipboard.holds(digest):
                return
            clipboard.clear()
            time.sleep(_PAUSE_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return  # the desktop is gone, and its clipboard with it
