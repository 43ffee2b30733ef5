"""Clients that take no password from a program and hold to no certificate: they are checked before, and pasted into."""

from __future__ import annotations

from urllib.parse import quote

from broker.client.rdp.plan import Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker.client.rdp.session import Session


def remmina(program: str, _: Session, extras: Sequence[str], __: int) -> Plan:
    """Plan a start of Remmina, which reads `.rdp` files."""
    return Plan([program, *extras, "-c"], reads_file=True, returns_at_once=True)


def mstsc(program: str, _: Session, extras: Sequence[str], __: int) -> Plan:
    """Plan a start of Windows' own client. `cmdkey /pass:` would show the password in the process list."""
    return Plan([program], extras=extras, reads_file=True)


def mstsc_from_wsl(program: str, _: Session, extras: Sequence[str], __: int) -> Plan:
    """Plan a start of Windows' own client from the Linux that runs in it."""
    return Plan([program], extras=extras, reads_file=True, foreign=True)


def windows_app(program: str, session: Session, _: Sequence[str], __: int) -> Plan:
    """Plan a start of Windows App on macOS by its URI scheme, which has no place for a password."""
    fields = {
        "full address": f"s:{session.address}",
        "username": f"s:{session.username}",
        "prompt for credentials": "i:1",
        "enablecredsspsupport": "i:1",
        "redirectclipboard": "i:0",
        "drivestoredirect": "s:",
    }
    query = "&".join(f"{quote(name)}={quote(value, safe=':[]')}" for name, value in fields.items())
    return Plan([program, f"rdp://{query}"], returns_at_once=True)
