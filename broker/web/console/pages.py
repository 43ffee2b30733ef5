"""The console: overview, timelines, and all the other pages. What one sees is decided by `readAudit`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from broker import errors
from broker.audit.review import Entry, Review
from broker.audit.stores import Filters
from broker.audit.views import Out, Views
from broker.identity.provider_login import ProviderLogin
from broker.identity.sessions import Session, Sessions
from broker.issuing.approvals import ApprovalDesk
from broker.issuing.break_glass import GlassDesk
from broker.model import Caller, Clock, Health, Source
from broker.web.app import CONSOLE
from broker.web.audit import Audit
from broker.web.console.answers import Answers
from broker.web.console.entrance import Entrance
from broker.web.console.events import Events, PoliciesInForce, Shelves
from broker.web.console.lanes import SPANS, Picture, picture
from broker.web.console.overview import Counts
from broker.web.console.rendering import Renderer, assets
from broker.web.console.showing import Moment, page, signed_in
from broker.web.doors import Locks
from broker.web.routes import Answer, AnyRoute, Input, Nothing, Visit

_AT_ONCE: Final = 200
_LANES: Final = 1000
"""So many leases are drawn at most."""
_OUT: Final = 200


class TimelineQuery(Input):
    """Whose lanes, until when, and how far back."""

    of: Literal["actor", "instance"]
    name: Annotated[str, Field(min_length=1, max_length=600)]
    until: Moment | None = None
    span: Literal["hour", "6h", "day", "week", "month"] = "week"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """What the pages look at."""

    audit: Audit
    review: Review
    views: Views
    policies: PoliciesInForce
    approvals: ApprovalDesk
    glass: GlassDesk
    locks: Locks
    healths: Sequence[Callable[[], Health]]
    verifier: str
    """The public key of the log's checkpoints, as auditors pin it."""
    login: ProviderLogin | None = None
    """Where people sign in; None leaves only one-time links."""


class Console:
    """The pages."""

    def __init__(self, sessions: Sessions, rooms: Rooms, clock: Clock) -> None:
        self._rooms = rooms
        self._audit = rooms.audit
        self._renderer = Renderer()
        self.error = self._renderer.error
        self._clock = clock
        self._counts = Counts(rooms.review, clock)
        self._assets = cache(assets)
        self._entrance = Entrance(self._renderer, sessions, rooms.login)
        self._answers = Answers(self._renderer, rooms.approvals, rooms.glass)
        shelves = Shelves(
            audit=rooms.audit,
            review=rooms.review,
            views=rooms.views,
            policies=rooms.policies,
            verifier=rooms.verifier,
            sessions=sessions,
            locks=rooms.locks,
        )
        self._events = Events(self._renderer, shelves)
        self.end = self._events.tail.end

    def routes(self) -> list[AnyRoute[Any, Any]]:
        """Answer the routes."""
        get = partial(signed_in, "GET")
        return [
            page("GET", f"{CONSOLE}/assets/{{name}}", "A file of the pages", self.asset),
            get(CONSOLE, "What happened lately", self.overview),
            get(f"{CONSOLE}/timeline", "Who was in when", self.timeline, query=TimelineQuery),
            *self._entrance.routes(),
            *self._events.routes(),
            *self._answers.routes(),
        ]

    async def asset(self, visit: Visit[Nothing, Nothing]) -> Answer:
        """Answer a file that pages need; it tells nothing about anybody."""
        found = self._assets().get(visit.path["name"])
        if found is None:
            raise errors.NotFound
        headers = {"ETag": found.etag, "Cache-Control": "no-cache"}
        if visit.if_none_match == found.etag:
            return Answer(status=304, headers=headers)
        return Answer(found.content, headers=headers, content_type=found.content_type)

    async def overview(self, visit: Visit[Nothing, Nothing], session: Session) -> Answer:
        """Show what happened lately, what is out now, what waits, and how the log is."""
        accounts = self._audit.readable(session.caller, visit.source)
        await self._audit.note(visit, session.caller, {"filters": ("overview",)})
        return self._renderer.page(
            "overview.html",
            session=session,
            here="overview",
            lately=await self._counts.lately(accounts),
            out=await self._out(session.caller, accounts),
            waiting=await self._answers.waiting(session.caller, visit.source),
            checkpoint=await self._checkpoint(),
            verified=await self._verified(),
            healths=[health() for health in self._rooms.healths],
        )

    async def timeline(self, visit: Visit[TimelineQuery, Nothing], session: Session) -> Answer:
        """Draw who was in when."""
        asked = visit.query
        drawn, whole = await self._draw(asked, session.caller, visit.source)
        await self._audit.note(visit, session.caller, {"filters": ("timeline", f"{asked.of}={asked.name}")})
        return self._renderer.page(
            "timeline.html", session=session, here="events", asked=asked, drawn=drawn, spans=list(SPANS), whole=whole
        )

    async def _draw(self, asked: TimelineQuery, caller: Caller, source: Source) -> tuple[Picture, bool]:
        """Answer the picture, and whether all of it could be drawn."""
        until = asked.until or self._clock() + SPANS[asked.span] / 6  # what is out now goes on beyond now
        since = until - SPANS[asked.span]
        longest = timedelta(days=1)  # a lease that began before may go on into the picture
        filters = Filters(
            event="credential.issued",
            since=int((since - longest).timestamp() * 1000),
            until=int(until.timestamp() * 1000),
            accounts=self._audit.readable(caller, source),
            actor=asked.name if asked.of == "actor" else None,
            instance=asked.name if asked.of == "instance" else None,
        )
        found: list[Entry] = []
        cursor: str | None = ""
        while cursor is not None and len(found) < _LANES:
            page = await self._rooms.review.events(filters, limit=_AT_ONCE, cursor=cursor)
            found += page.items
            cursor = page.next_cursor
        lane = "instance" if asked.of == "actor" else "actor"
        return picture([entry.event for entry in found], since, until, lane, self._clock()), cursor is None

    async def _out(self, caller: Caller, accounts: frozenset[str] | None) -> Sequence[Out]:
        now = int(self._clock().timestamp() * 1000)
        seen = self._audit.accounts if accounts is None else accounts
        leases = await self._rooms.views.leases(now, accounts=seen, own=str(caller))
        return await self._rooms.views.issued(leases[:_OUT])

    async def _checkpoint(self) -> Sequence[str]:
        """Answer the lines of the newest checkpoint: origin, size, root; empty before the first."""
        try:
            return (await self._rooms.review.checkpoint()).splitlines()[:3]
        except errors.NotFound:
            return ()

    async def _verified(self) -> Entry | None:
        """Answer the newest verdict on the log itself; None when none was recorded."""
        page = await self._rooms.review.events(Filters(event="audit.verified"), limit=1)
        return page.items[0] if page.items else None
