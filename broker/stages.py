"""How long each stage of a request takes: whoever serves it measures, and rooms say which stage they are at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import perf_counter
from typing import Final, NamedTuple

AUTHENTICATION: Final = "authentication"
DECISION: Final = "decision"
RECORD: Final = "record"
LIGHTSAIL: Final = "lightsail"
UNSEALING: Final = "unsealing"
STAGES: Final = (AUTHENTICATION, DECISION, RECORD, LIGHTSAIL, UNSEALING)
"""Every stage: who calls, may they, the log is written, AWS answers, a password is opened."""


class Span(NamedTuple):
    """A stage, from when to when (seconds of `perf_counter`)."""

    stage: str
    began: float
    ended: float


_spans: ContextVar[list[Span] | None] = ContextVar("spans", default=None)


@contextmanager
def measured() -> Iterator[list[Span]]:
    """Measure the stages of what is done within; answers the list that they are added to."""
    spans: list[Span] = []
    before = _spans.set(spans)
    try:
        yield spans
    finally:
        _spans.reset(before)


class stage:  # noqa: N801 - used like a function, as the standard library's `suppress` is
    """Be at a stage. It costs next to nothing where nobody measures."""

    __slots__ = ("_began", "_name")

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        """Begin."""
        self._began = perf_counter()

    def __exit__(self, *_: object) -> None:
        """End, also by an error."""
        if (spans := _spans.get()) is not None:
            spans.append(Span(self._name, self._began, perf_counter()))
