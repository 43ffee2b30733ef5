"""Events as they are written: a page that follows the log is told of each (server-sent events, WHATWG HTML 9.2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import suppress
from time import monotonic
from typing import Any, Final

import orjson

from broker.audit.leaves import search_columns
from broker.audit.review import Entry, Review
from broker.audit.stores import Filters
from broker.audit.stores.fitting import fits
from broker.errors import BrokerError, Overloaded

AT_ONCE: Final = 16
"""So many pages follow the log at the same time."""
LONGEST: Final = 600.0
"""After so many seconds a page has to ask anew; that somebody reads is in the log then, once more."""
_MOST: Final = 200
"""So many events are looked at in one go."""
_LOOK_SECONDS: Final = 1.0
_ASK_SECONDS: Final = 5.0
"""After so many seconds it is asked anew whether the reader may still read."""


class Tail:
    """Follows the log for pages."""

    def __init__(self, review: Review) -> None:
        self._review = review
        self._open = 0
        self._over = asyncio.Event()

    def end(self) -> None:
        """Let all pages go: the service stops."""
        self._over.set()

    def follow(
        self, filters: Filters, after: int, may_read: Callable[[], Awaitable[object]]
    ) -> AsyncGenerator[bytes, None]:
        """Answer the events after one that fit, as they come.

        Args:
            filters: which events are wanted.
            after: the index of the last one that the page knows.
            may_read: raises a BrokerError when the reader may not read any more.

        Raises:
            Overloaded: too many pages follow the log.
        """
        if self._open >= AT_ONCE:
            raise Overloaded(retry_after=10)
        return self._follow(filters, after, may_read)

    async def _follow(
        self, filters: Filters, after: int, may_read: Callable[[], Awaitable[object]]
    ) -> AsyncGenerator[bytes, None]:
        self._open += 1
        try:
            yield b": following\n\n"
            ends, next_question = monotonic() + LONGEST, monotonic() + _ASK_SECONDS
            with suppress(BrokerError):  # an end, not a cut: the page says so
                while not await self._is_over() and monotonic() < ends:
                    if asks := monotonic() >= next_question:
                        await may_read()
                        next_question = monotonic() + _ASK_SECONDS
                    after, found = await self._news(filters, after)
                    if found or asks:
                        yield b"".join(map(_message, found)) or b": nothing new\n\n"
            yield b"event: over\ndata: over\n\n"
        finally:
            self._open -= 1

    async def _is_over(self) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), _LOOK_SECONDS)
        return self._over.is_set()

    async def _news(self, filters: Filters, after: int) -> tuple[int, list[Entry]]:
        """Answer up to where the log was looked at, and what fits in it."""
        size = await self._review.size()
        if size <= after + 1:
            return after, []
        records = await self._review.records(after + 1, min(size, after + 1 + _MOST))
        entries = [Entry(*record) for record in records]
        last = entries[-1].index if entries else after
        return last, [entry for entry in entries if _fits(filters, entry.event)]


def _fits(filters: Filters, members: Mapping[str, object]) -> bool:
    return fits(filters, search_columns(members), members)


def _message(entry: Entry) -> bytes:
    return b"id: %d\ndata: %s\n\n" % (entry.index, orjson.dumps(_row(entry.index, entry.event)))


def _row(index: int, event: Mapping[str, Any]) -> Mapping[str, object]:
    """Answer what a row of the page shows."""
    actor, place = event.get("actor"), event.get("instance")
    return {
        "index": index,
        "time": event["time"],
        "event": event["event"],
        "outcome": event["outcome"],
        "who": f"{actor['issuer']}/{actor['subject']}" if actor else "",
        "where": f"{place['account']}/{place['region']}/{place['name']}" if place else event.get("target", ""),
        "why": event.get("reason") or event.get("error") or "",
    }
