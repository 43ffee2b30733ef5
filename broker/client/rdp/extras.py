"""Arguments that a person hands through to the client: all but those that would undo what the broker set up."""

from __future__ import annotations

import re

from broker.client.errors import Misconfigured

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_FREERDP = re.compile(r"[/+-]([A-Za-z][A-Za-z0-9_-]*)(?::.*)?")
"""One syntax of the three that FreeRDP knows: a second one on the same line may make it read the first anew."""

_OURS = frozenset(
    {
        "v",
        "port",
        "u",
        "d",
        "p",
        "pth",
        "pass-the-hash",
        "args-from",
        "from-stdin",
        "authentication",
        "nego",
        "encryption",
        "server-name",
        "assistance",
        "proxy",
        "vmconnect",
        "smartcard-logon",
        "azure",
        "gateway",
        "g",
        "gu",
        "gp",
        "gd",
        "gt",
        "gat",
        "gum",
        "gateway-usage-method",
        "reconnect-cookie",
    }
)
_OUR_FAMILIES = ("cert", "sec", "tls")

_MSTSC = re.compile(
    r"/(?:admin|f|fullscreen|multimon|span|public|restrictedadmin|remoteguard|[wh]:\d{1,5})", re.IGNORECASE
)
_REMMINA = re.compile(r"--(?:enable-(?:fullscreen|extra-hardening)|disable-(?:toolbar|news|stats)|no-tray-icon)")


def for_freerdp(words: Sequence[str]) -> list[str]:
    """Let through options such as `/f`, `+clipboard` or `/drive:x,/tmp`.

    Raises:
        Misconfigured: one says where to, as whom or by which certificate, or is no option.
    """
    for word in words:
        found = _FREERDP.fullmatch(word) if word.isprintable() else None
        if found is None:
            raise Misconfigured(f"{_shown(word)} is not handed to FreeRDP: write /name, /name:value, +name or -name")
        name = found[1].lower()
        if name in _OURS or name.startswith(_OUR_FAMILIES):
            raise Misconfigured(
                f"/{name} is not handed to FreeRDP: the broker itself says where to go, as whom, and by which "
                "certificate; leave it out"
            )
    return list(words)


def for_mstsc(words: Sequence[str]) -> list[str]:
    """Let through what changes how the window looks, as `/f` or `/w:1600`. Raises Misconfigured for all else."""
    return _listed(words, _MSTSC, "mstsc", "/f, /w:N, /h:N, /multimon, /span, /admin, /public and such")


def for_remmina(words: Sequence[str]) -> list[str]:
    """Let through what changes how the window looks. Raises Misconfigured for all else."""
    return _listed(words, _REMMINA, "Remmina", "--enable-fullscreen, --disable-toolbar and such")


def for_nobody(words: Sequence[str]) -> list[str]:
    """Let nothing through. Raises Misconfigured."""
    return _listed(words, re.compile(r"(?!)"), "Windows App", "none")


def _listed(words: Sequence[str], allowed: re.Pattern[str], client: str, named: str) -> list[str]:
    for word in words:
        if not allowed.fullmatch(word):
            raise Misconfigured(f"{_shown(word)} is not handed to {client}; what is: {named}")
    return list(words)


def _shown(word: str) -> str:
    """Name an argument, but not its value, which may be a secret."""
    return repr(re.split(r"[:= ]", word, maxsplit=1)[0])
