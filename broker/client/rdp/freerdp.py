"""FreeRDP, told everything but on its command line, which every process of the machine may read.

Version 3 takes all of its arguments from a descriptor, one a line (`/args-from:fd:N`, which must stand alone);
version 2 has only the password come from somewhere else (`/from-stdin:force`).

Its pins are certificates that it takes without a question; beside them it takes those that it met before and kept in
its settings. So it gets settings of its own, which are empty (`isolated`).
"""

from __future__ import annotations

import re

from broker.client.rdp.pins import colons
from broker.client.rdp.plan import Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker.client.rdp.session import Session

_VERSION = re.compile(r"FreeRDP version (\d+)\.")


def version_in(shown: str) -> int:
    """Read the major version out of what `--version` shows; 0 when it does not say."""
    found = _VERSION.search(shown)
    return int(found[1]) if found else 0


def arguments(session: Session, extras: Sequence[str]) -> list[str]:
    """Answer all arguments but the password. `deny` makes FreeRDP end instead of asking about another certificate."""
    pins = ",".join(f"fingerprint:sha256:{colons(pin)}" for pin in session.pins)
    return [
        f"/v:{session.bracketed}",
        f"/port:{session.port}",  # FreeRDP 2.11 reads the port of `/v:[::1]:3390` as 0
        f"/u:{session.username}",
        "/d:.",
        "/sec:nla",
        f"/cert:deny,{pins}",
        *extras,
    ]


def version_3(program: str, session: Session, extras: Sequence[str], descriptor: int) -> Plan:
    """Plan a start of FreeRDP 3: its command line is the number of a descriptor."""
    lines = [*arguments(session, extras), f"/p:{session.password}"]
    return Plan(
        [program, f"/args-from:fd:{descriptor}"], by_descriptor="".join(f"{line}\n" for line in lines), isolated=True
    )


def version_2(program: str, session: Session, extras: Sequence[str], _: int) -> Plan:
    """Plan a start of FreeRDP 2: the password is the one line of its standard input."""
    return Plan(
        [program, *arguments(session, extras), "/from-stdin:force"], by_stdin=f"{session.password}\n", isolated=True
    )
