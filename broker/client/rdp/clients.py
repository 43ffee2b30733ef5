"""The native clients, the best first: those that hold to a certificate before those that cannot."""

from __future__ import annotations

from dataclasses import dataclass

from broker.client.errors import Misconfigured
from broker.client.rdp import extras, freerdp, others

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from broker.client.rdp.plan import Plan
    from broker.client.rdp.session import Session

    Planning = Callable[[str, Session, Sequence[str], int], Plan]
    Admission = Callable[[Sequence[str]], list[str]]

X11, WAYLAND = ("DISPLAY",), ("WAYLAND_DISPLAY",)


@dataclass(frozen=True)
class Client:
    """One row.

    `plan` says how it is started, `admits` lets arguments of the person through or raises Misconfigured.
    `needs` are the variables of which one must be set for it to have a screen; none are needed when empty.
    `version` is FreeRDP's major one, where the program's name does not tell it. `systems` are as `sys.platform` says.
    """

    name: str
    program: str
    plan: Planning
    admits: Admission = extras.for_freerdp
    needs: tuple[str, ...] = ()
    version: int = 0
    pins: bool = True
    systems: tuple[str, ...] = ("linux", "darwin", "freebsd", "win32")


CLIENTS: tuple[Client, ...] = (
    Client("xfreerdp3", "xfreerdp3", freerdp.version_3, needs=X11),
    Client("sdl-freerdp3", "sdl-freerdp3", freerdp.version_3, systems=("linux", "darwin", "freebsd")),
    Client("sdl-freerdp", "sdl-freerdp", freerdp.version_3, version=3, systems=("linux", "darwin", "freebsd")),
    Client("xfreerdp", "xfreerdp", freerdp.version_3, needs=X11, version=3),
    Client("wlfreerdp3", "wlfreerdp3", freerdp.version_3, needs=WAYLAND),
    Client("xfreerdp", "xfreerdp", freerdp.version_2, needs=X11, version=2),
    Client(
        "remmina",
        "remmina",
        others.remmina,
        extras.for_remmina,
        X11 + WAYLAND,
        pins=False,
        systems=("linux", "freebsd"),
    ),
    Client("mstsc", "mstsc", others.mstsc, extras.for_mstsc, pins=False, systems=("win32",)),
    Client("mstsc", "mstsc.exe", others.mstsc_from_wsl, extras.for_mstsc, pins=False, systems=("linux",)),
    Client("windows-app", "open", others.windows_app, extras.for_nobody, pins=False, systems=("darwin",)),
)

NAMES = tuple(dict.fromkeys(client.name for client in CLIENTS))

_PACKAGES = {
    "linux": "install FreeRDP: apt install freerdp3-x11 (Debian 13, Ubuntu 24.04) or freerdp2-x11 (older), "
    "dnf install freerdp, pacman -S freerdp, apk add freerdp",
    "darwin": "brew install freerdp, or Windows App from the App Store",
    "freebsd": "pkg install freerdp3",
    "win32": "mstsc is part of Windows; it should be on PATH",
}


def find(
    name: str,
    which: Callable[[str], str | None],
    version: Callable[[str], int],
    environment: Mapping[str, str],
    system: str,
) -> tuple[Client, str]:
    """Find the best client that is there; answer it and its program.

    Args:
        name: the one to take, or "" for the best.
        which: finds a program on PATH, as `shutil.which`.
        version: asks a FreeRDP for its major version; 0 when it does not say.
        environment: where `DISPLAY` may be.
        system: as `sys.platform`.

    Raises:
        Misconfigured: there is none, with what to install; or none has a screen here.
    """
    blind = ""
    for client in CLIENTS:
        program = which(client.program) if system in client.systems and name in {"", client.name} else None
        if not program:
            continue
        if client.needs and not any(map(environment.get, client.needs)):
            blind = f"{client.program} needs a screen, and {' or '.join(client.needs)} is not set"
            continue
        if client.version and version(program) != client.version:
            continue
        return client, program
    raise Misconfigured(blind or f"there is no {name or 'RDP client'} that can be used here: {_advice(system)}")


def _advice(system: str) -> str:
    return f"{_PACKAGES.get(system, 'install FreeRDP')}; or use `broker get --format files` with a client of your own"
