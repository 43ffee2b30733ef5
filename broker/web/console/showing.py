"""What all pages of the console share: how a route of theirs is written down, and times as forms send them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import BeforeValidator

from broker.web.routes import Answer, Input, Nothing, Page, SignedIn

Handler = Callable[..., Awaitable[Answer]]
"""A method of the pages; its own types say more than a table of routes could."""


_YEARS: Final = range(1970, 9000)
"""Around them there is room for what a page draws."""


def _utc(value: object) -> datetime:
    """Read a time without a zone, as a form sends it, as UTC."""
    when = datetime.fromisoformat(str(value))
    if when.year not in _YEARS:
        raise ValueError(f"a year from {_YEARS.start} to {_YEARS.stop - 1}")
    return when.replace(tzinfo=when.tzinfo or UTC)


Moment = Annotated[datetime, BeforeValidator(_utc)]


def page(
    method: str, path: str, summary: str, handler: Handler, query: type[Input] = Nothing, body: type[Input] = Nothing
) -> Page[Any, Any]:
    """Write down a page that is open to everybody."""
    return Page(method=method, path=path, summary=summary, handler=handler, query=query, body=body)


def signed_in(
    method: str, path: str, summary: str, handler: Handler, query: type[Input] = Nothing, body: type[Input] = Nothing
) -> SignedIn[Any, Any]:
    """Write down a page for people with a session."""
    return SignedIn(method=method, path=path, summary=summary, handler=handler, query=query, body=body)
