"""What the verbs that read for people share. Reading is an event, as over HTTP, where settings tell of which log."""

from __future__ import annotations

import asyncio
from dataclasses import fields

from broker.cli.configuration import settings_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Literal, TypeVar

    from broker.audit.joining.reconciling import Noted
    from broker.audit.joining.tracing import Issue

    Source = TypeVar("Source")
    Detail = str | int | tuple[str, ...]


class Listed:
    """Items that are made when they are looked at, from what is held anyway: a long listing needs no more room."""

    def __init__(self, sources: Sequence[Source], made: Callable[[Source], dict[str, object]]) -> None:
        self._sources = sources
        self._made = made

    def __len__(self) -> int:
        return len(self._sources)

    def __iter__(self) -> Iterator[dict[str, object]]:
        return map(self._made, self._sources)


def note_reading(arguments: Namespace, filters: Iterable[str]) -> None:
    """Record `audit.read` with what is asked for; a log that `--database` names may be a copy, and is left alone.

    Raises:
        AuditUnavailable: it cannot be recorded, and so nothing may be shown.
    """
    if not arguments.database:
        asyncio.run(_append(arguments, "audit.read", {"filters": tuple(filters)}))


def note_export(arguments: Namespace, form: str, filters: Iterable[str]) -> None:
    """Record `audit.exported` before anything is written out; as `note_reading` does."""
    if not arguments.database:
        asyncio.run(_append(arguments, "audit.exported", {"format": form, "filters": tuple(filters)}))


def note_verification(arguments: Namespace, details: Mapping[str, Detail], *, clean: bool) -> str:
    """Record `audit.verified`; answer why that could not be done, "" when it was."""
    from broker.errors import AuditUnavailable

    try:
        asyncio.run(_append(arguments, "audit.verified", details, "success" if clean else "failure"))
    except AuditUnavailable as problem:
        return problem.cause
    return ""


def members_of(record: Issue | Noted) -> dict[str, object]:
    """Answer a flat record's members; `dataclasses.asdict` copies each, and takes ten times as long."""
    return {field.name: getattr(record, field.name) for field in fields(record)}


def rfc3339_of(moment: int | None) -> str | None:
    """Write milliseconds since 1970 for people."""
    from datetime import UTC, datetime, timedelta

    from broker.model import rfc3339

    return None if moment is None else rfc3339(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=moment))


def _quiet(_: str) -> None:
    """That a running service writes the event is nothing that a reader has to know."""


async def _append(
    arguments: Namespace,
    event: Literal["audit.read", "audit.exported", "audit.verified"],
    details: Mapping[str, Detail],
    outcome: Literal["success", "failure"] = "success",
) -> None:
    from broker.model import Event
    from broker.wiring import operator_log

    async with operator_log(settings_of(arguments), _quiet) as append:
        await append(Event(event=event, outcome=outcome, details=details))
