"""Walking through all events that fit, page by page: what is held at a time is one page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from broker.audit.stores import Filters, Found, Position, Reader

PAGE = 1000


def walk(reader: Reader, filters: Filters) -> Iterator[Found]:
    """Answer every event that fits, newest first.

    Raises:
        StoreError: as `Reader.search` does, between two events.
    """
    after: Position | None = None
    while found := reader.search(filters, PAGE, after):
        yield from found
        if len(found) < PAGE:
            return
        after = Position(found[-1].time, found[-1].record.idx)
        # Also as a bound of the index: a page would begin its search at the newest event that fits, else.
        filters = replace(filters, until=after.time + 1)
