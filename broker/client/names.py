"""What may stand where an instance is named."""

from __future__ import annotations

import re

from broker.client.errors import Misconfigured

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,253}[A-Za-z0-9]", re.ASCII)
"""Of an instance."""
PLACE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)
"""Of an account or a region."""
USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", re.ASCII)
"""Who can stand in ssh's configuration, which runs commands that stand in there."""
HOST = re.compile(r"[A-Za-z0-9:][A-Za-z0-9.:-]{0,254}", re.ASCII)
"""An address or a host name that can stand there."""

_LENGTHS = {1, 3}


def parts(instance: str) -> list[str]:
    """Take a name apart into `[name]` or `[account, region, name]`.

    Raises:
        Misconfigured: it is neither.
    """
    found = instance.split("/")
    if len(found) not in _LENGTHS or not all(found):
        raise Misconfigured("this names no instance: write NAME or ACCOUNT/REGION/NAME")
    return found


def is_well_formed(instance: str) -> bool:
    """Tell whether an instance may be named so: such a name holds nothing that a shell or ssh would heed."""
    *place, name = instance.split("/")
    return len(place) in {0, 2} and bool(NAME.fullmatch(name)) and all(map(PLACE.fullmatch, place))
