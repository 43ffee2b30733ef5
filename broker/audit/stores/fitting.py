"""Filters as a test of one event, for where no index of a store answers them."""

from __future__ import annotations

from collections.abc import Mapping

from broker.audit import texts
from broker.audit.leaves import SearchColumns
from broker.audit.stores import Filters

_EQUAL = ("actor", "instance", "event", "outcome", "request_id")


def fits(filters: Filters, columns: SearchColumns, members: Mapping[str, object]) -> bool:
    """Tell whether an event is wanted, as a search would."""
    return (
        (filters.accounts is None or columns.account in filters.accounts)
        and all(getattr(filters, name) in {None, getattr(columns, name)} for name in _EQUAL)
        and (filters.protocol is None or filters.protocol == members.get("protocol"))
        and (filters.since is None or columns.time >= filters.since)
        and (filters.until is None or columns.time < filters.until)
        and (not filters.text or texts.fits(filters.text, members))
    )
