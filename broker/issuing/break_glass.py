"""Breaking the glass: at once where the policies allow it, with a reason, and once until somebody has reviewed it.

A use is written after the newest event of the same person's uses that its writer has seen, so of two at once, on
whatever replicas, one is in, and the other owes a review. Two accounts of one person, told by a verified address, have
one debt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from itertools import compress
from typing import Final

from broker.approvals.facts import Person, read
from broker.approvals.glass import REVIEWED, USED, GlassUse, thread_named, thread_of, use_of
from broker.errors import BrokerError, Denied, NotFound, RequestClosed, ReviewRequired, Superseded
from broker.issuing.answering import Answering, Verb
from broker.issuing.rooms import Inventory, Ledger, Policies, StoredThread, Threads
from broker.model import Caller, Clock, Event, Instance, Platform, Protocol, Source

KIND: Final = "break_glass"
_ATTEMPTS: Final = 5


class Verdict(StrEnum):
    """What a reviewer makes of a use."""

    JUSTIFIED = "justified"
    UNJUSTIFIED = "unjustified"


class GlassDesk:
    """Takes uses and reviews. Holds no state of its own."""

    def __init__(
        self, *, inventory: Inventory, policies: Policies, ledger: Ledger, threads: Threads, clock: Clock
    ) -> None:
        self._answering = Answering(inventory, policies, clock)
        self._ledger = ledger
        self._threads = threads

    async def owed(self, caller: Caller) -> GlassUse | None:
        """Answer a use of the same person, by whichever account, that nobody has reviewed; raises AuditUnavailable."""
        me = Person.of(caller)
        uses = map(_folded, await self._threads.threads(KIND))
        return next((use for use in uses if not use.settled and use.person.is_same(me)), None)

    async def use(self, event: Event, caller: Caller) -> str:
        """Write down that the glass is broken; answer the thread to which all that comes of it belongs.

        Raises:
            ReviewRequired: a use of the same person has not been reviewed.
            AuditUnavailable: it cannot be written.
        """
        if debt := await self.owed(caller):
            raise review_required(debt)
        thread, newest = thread_of(caller), await self._newest(caller)
        email: dict[str, str] = {"email": caller.email} if caller.email else {}
        used = replace(event, event=USED, details={**event.details, "thread": thread, **email})
        try:
            await self._ledger.append(used, after=newest.last_index if newest else -1)
        except Superseded:
            raise ReviewRequired from None
        if (first := await self.owed(caller)) and first.thread != thread:  # two accounts at once
            raise review_required(first)
        return thread

    async def review(self, id: str, verb: Verb, verdict: Verdict) -> GlassUse:  # noqa: A002 - what it is called everywhere
        """Sign a use off, whatever the verdict: the debt is that somebody looks at it.

        Raises:
            NotFound: there is none that the caller may review.
            RequestClosed: it has been reviewed already, or nothing came of it.
            Refused: the caller may not, or not without more; nobody reviews their own.
        """
        for _ in range(_ATTEMPTS - 1):
            try:
                return await self._review(id, verb, verdict)
            except Superseded:
                continue
        return await self._review(id, verb, verdict)

    async def _review(self, id: str, verb: Verb, verdict: Verdict) -> GlassUse:  # noqa: A002 - as above
        use = await self._read(id)
        standing = await self._answering.standing(verb, use.person, use.instance, _gone(use))
        event = Event(
            event=REVIEWED,
            outcome="success",
            request_id=verb.request_id,
            actor=verb.caller,
            source=verb.source,
            instance=use.instance,
            protocol=use.protocol,
            reason=verb.reason,
            decision=standing.decision,
            details={"use": id, "verdict": verdict},
        )
        if standing.error:
            raise await self._refuse(event, standing.error)
        if use.settled:
            raise RequestClosed(detail="This use has been reviewed, or nothing came of it.")
        email: dict[str, str] = {"email": verb.caller.email} if verb.caller.email else {}
        details = {**event.details, "thread": use.thread, **email}
        await self._ledger.append(replace(event, details=details), after=use.last_index)
        return await self._read(id)

    async def mine(self, caller: Caller) -> Sequence[GlassUse]:
        """Answer the caller's last use, if there is one."""
        newest = await self._newest(caller)
        return [newest] if newest else []

    async def reviewable(self, caller: Caller, source: Source) -> Sequence[GlassUse]:
        """Answer what waits for a review by somebody like the caller, the oldest first."""
        me = Person.of(caller)
        owed = [
            use
            for use in map(_folded, await self._threads.threads(KIND))
            if not use.settled and not use.person.is_same(me)
        ]
        places = [use.instance for use in owed]
        may = await self._answering.may(caller, source, places, [_gone(use) for use in owed])
        return list(compress(owed, may))

    async def _newest(self, caller: Caller) -> GlassUse | None:
        stored = await self._threads.thread(thread_of(caller))
        return _folded(stored) if stored else None

    async def _read(self, id: str) -> GlassUse:  # noqa: A002 - as above
        stored = await self._threads.thread(thread_named(id))
        use = _folded(stored) if stored else None
        if use is None or use.id != id:
            raise NotFound
        return use

    async def _refuse(self, event: Event, error: BrokerError) -> BrokerError:
        code = Denied.code if isinstance(error, NotFound) else error.code
        await self._ledger.append(replace(event, event="break_glass.refused", outcome="denied", error=code))
        return error


def review_required(use: GlassUse) -> ReviewRequired:
    """Say what has to be reviewed before the glass can be broken again."""
    return ReviewRequired(
        detail=f"You broke the glass for {use.instance}, and nobody has reviewed that yet.",
        next_step=f"Have somebody who may approve for it run `broker break-glass review {use.id[:8]}`.",
    )


def _gone(use: GlassUse) -> Instance:
    """Answer what an instance is decided on that is not there any more: a debt must not outlive who can settle it."""
    platform = Platform.WINDOWS if use.protocol is Protocol.RDP else Platform.LINUX_UNIX
    return Instance(ref=use.instance, platform=platform, blueprint="", bundle="", state="terminated")


def _folded(stored: StoredThread) -> GlassUse:
    return use_of(stored.thread, read(stored.facts))
