"""Which instance may have been meant: of the names that the person may see anyway, the closest one."""

from __future__ import annotations

import os
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

PATIENCE = 1.0
"""Seconds that the service has to name the instances, once more than the answer that somebody waits for."""


def likely(instance: str, places: Iterable[str]) -> str:
    """Answer the name that is close to this one; "" when there is none, or this one is right.

    Args:
        instance: as it was typed, a bare name or `account/region/name`.
        places: `account/region/name`, or bare names.
    """
    from difflib import get_close_matches

    known = sorted({name for place in places for name in (place, place.rpartition("/")[2])})
    if instance in known:
        return ""
    return next(iter(get_close_matches(instance, known, n=1, cutoff=0.7)), "")


def likely_instance(instance: str) -> str:
    """Answer the same from the names of a few minutes ago, else of now; "" where they cannot be had."""
    from broker.client import Broker, ClientError
    from broker.client.names_cache import FRESH, NamesCache

    cache = NamesCache(lambda: Broker.from_environment(os.environ), os.environ, patience=PATIENCE)
    with suppress(ClientError):
        Broker.from_environment(os.environ).close()  # a token that was in the environment is gone from there by now
        cache.refresh(older_than=FRESH)
    return likely(instance, cache.names)
