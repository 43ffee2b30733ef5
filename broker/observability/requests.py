"""What the edge tells of a request once it has been answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from broker.stages import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredRequest:
    """A request that was answered. Times are seconds of `perf_counter`; `route` is its template, `-` for none.

    `parent` is the `traceparent` (W3C Trace Context) of a caller who was let in, and empty for anybody else.
    """

    request_id: str
    method: str
    route: str
    status: int
    code: str
    began: float
    ended: float
    stages: Sequence[Span]
    parent: str = ""


class RequestObserver(Protocol):
    """Is told of every request that was answered."""

    def request(self, answered: AnsweredRequest) -> None:
        """Take note; it must not wait for anything."""
        ...
