"""Pages of what has a place in the log, the newest first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

from pydantic import Field

from broker.errors import InvalidRequest
from broker.web.encoding import cursor, position
from broker.web.routes import Input

_Item = TypeVar("_Item")
_MAX_DIGITS = 16


class Paged(Input):
    """Which page."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str, Field(max_length=1000)] | None = None


def page(items: Sequence[_Item], index: Callable[[_Item], int], asked: Paged) -> tuple[Sequence[_Item], str | None]:
    """Answer one page of items by their index in the log, and where the next one begins.

    Raises:
        InvalidRequest: this is no cursor of such a listing.
    """
    before = _position(asked.cursor)
    found = sorted((item for item in items if before is None or index(item) < before), key=index, reverse=True)
    shown = found[: asked.limit]
    return shown, cursor(str(index(shown[-1]))) if len(found) > len(shown) else None


def _position(text: str | None) -> int | None:
    if not text:
        return None
    found = position(text)
    if not (found.isascii() and found.isdecimal() and len(found) < _MAX_DIGITS):
        raise InvalidRequest(detail="cursor: not a cursor of this listing")
    return int(found)
