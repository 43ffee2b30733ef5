"""To which host keys instances are held, at hand: for a log that this process alone writes.

Reading a pin costs little but for what it sets in motion: the reader lets go of the interpreter's lock, and
the writer takes it. A pin changes by one kind of event, so it is kept until one comes by.
"""

from __future__ import annotations

from typing import Protocol

from broker.audit.log import AuditLog
from broker.audit.projections import ACCEPTED
from broker.model import Event, InstanceRef


class Source(Protocol):
    """Where pins are read: the views of the log."""

    async def pinned(self, instance: InstanceRef) -> frozenset[str] | None:
        """Answer the host keys that an instance is held to; None when it is held to none yet."""
        ...


class Pins:
    """Keeps what was read of the views until the log says that it has changed."""

    def __init__(self, views: Source, log: AuditLog) -> None:
        self._views = views
        self._kept: dict[InstanceRef, frozenset[str]] = {}
        log.tell(self._note)

    def _note(self, event: Event) -> None:
        if event.event == ACCEPTED and event.instance:
            self._kept.pop(event.instance, None)

    async def pinned(self, instance: InstanceRef) -> frozenset[str] | None:
        """Answer the host keys that an instance is held to; None when it is held to none yet.

        Raises:
            AuditUnavailable: when the log cannot be read.
        """
        if kept := self._kept.get(instance):
            return kept
        pinned = await self._views.pinned(instance)  # of a file, without a pause: no event can come between
        if pinned:
            self._kept[instance] = pinned
        return pinned
