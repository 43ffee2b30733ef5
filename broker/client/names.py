"""What may stand where an instance is named."""

from __future__ import annotations

from broker.client.errors import Misconfigured

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
