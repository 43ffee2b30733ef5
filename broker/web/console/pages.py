"""The pages of the console. What one sees is decided by `readAudit`, and looking is an event itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import Annotated, Any, Final, Literal
from uuid import uuid4

from pydantic import BeforeValidator, ConfigDict, Field

from broker import errors
from broker.audit.review import CompletedReceipt, Entry, Review, place_of
from broker.audit.review import Page as EventPage
from broker.audit.stores import Filters
from broker.audit.views import Out, Views
from broker.identity.provider_login import ProviderLogin
from broker.identity.sessions import Session, Sessions
from broker.issuing.answering import Verb
from broker.issuing.approvals import ApprovalDesk
from broker.issuing.break_glass import GlassDesk, Verdict
from broker.model import EVENTS, Caller, Clock, Health, Source
from broker.web.app import CONSOLE, LOGIN, login_cookie, session_cookie
from broker.web.audit import Audit, ConsistencyQuery, EventQuery, ExportQuery, Which
from broker.web.console.lanes import SPANS, Picture, picture
from broker.web.console.overview import Counts
from broker.web.console.rendering import Renderer, assets
from broker.web.console.reviews import KIND, REVIEWED, SignOffs
from broker.web.encoding import base64_text
from broker.web.parsing import Line, Words
from broker.web.routes import Answer, AnyRoute, Input, Nothing, Page, SignedIn, Visit

Handler = Any  # a method of the pages; its own types say more than a table of routes could

_ANSWERED: Final = Answer(status=303, headers={"Location": f"{CONSOLE}/answers", "Cache-Control": "no-store"})
_FAMILY: Final = 200
"""So many events of one request are shown beside one of them."""
_LEAPS: Final = 20
"""So many times a search goes on until it has found what nobody has signed off."""
_LANES: Final = 1000
"""So many leases are drawn at most."""
_OUT: Final = 200
OUTCOMES: Final = ("success", "failure", "denied", "unknown")


def _utc(value: object) -> object:
    """Read a time without a zone, as a form sends it, as UTC."""
    if not isinstance(value, str):
        return value
    try:
        when = datetime.fromisoformat(value)
    except ValueError:
        return value
    return when.replace(tzinfo=when.tzinfo or UTC)


Moment = Annotated[datetime, BeforeValidator(_utc)]


class SearchQuery(EventQuery):
    """Which events to show."""

    since: Moment | None = None
    until: Moment | None = None
    unreviewed: Literal["yes"] | None = None
    """Only what nobody has signed off."""


class SignOffForm(Input):
    """A reviewer has looked at the events from one to another, both included."""

    first: Annotated[int, Field(ge=0, lt=1 << 53)]
    last: Annotated[int, Field(ge=0, lt=1 << 53)]
    note: Words


class ConsoleExportQuery(ExportQuery):
    """Which events to write out, and how."""

    since: Moment | None = None
    until: Moment | None = None


class TimelineQuery(Input):
    """Whose lanes, until when, and how far back."""

    of: Literal["actor", "instance"]
    name: Annotated[str, Field(min_length=1, max_length=600)]
    until: Moment | None = None
    span: Literal["6h", "day", "week", "month"] = "week"


class AnswerForm(Input):
    """What somebody says to a request."""

    reason: Line = ""


class ReviewForm(Input):
    """What somebody makes of a breaking of the glass."""

    verdict: Verdict
    message: Words


class SignInQuery(Input):
    """A one-time link, and where to go then."""

    link: Annotated[str, Field(max_length=100)] = ""
    next: Annotated[str, Field(max_length=2000)] = CONSOLE


class StartQuery(Input):
    """Where to go after a login."""

    next: Annotated[str, Field(max_length=2000)] = CONSOLE


class CallbackQuery(Input):
    """What the provider sends back: a code, or why there is none (RFC 6749, 4.1.2; RFC 9207)."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    state: Annotated[str, Field(max_length=200)] = ""
    code: Annotated[str, Field(max_length=4000)] = ""
    iss: Annotated[str, Field(max_length=2000)] = ""
    error: Annotated[str, Field(max_length=200)] = ""


class SignInForm(SignInQuery):
    """The same, sent by a button."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """What the pages look at."""

    review: Review
    views: Views
    approvals: ApprovalDesk
    glass: GlassDesk
    healths: Sequence[Callable[[], Health]]
    verifier: str
    """The public key of the log's checkpoints, as auditors pin it."""
    login: ProviderLogin | None = None
    """Where people sign in; None leaves only one-time links."""


class Console:
    """The pages."""

    def __init__(self, audit: Audit, sessions: Sessions, rooms: Rooms, clock: Clock) -> None:
        self._audit = audit
        self._sessions = sessions
        self._rooms = rooms
        self._renderer = Renderer()
        self.error = self._renderer.error
        self._clock = clock
        self._counts = Counts(rooms.review, clock)
        self._assets = cache(assets)

    def routes(self) -> list[AnyRoute[Any, Any]]:
        """Answer the routes."""
        get, rooms = partial(_signed_in, "GET"), self._rooms
        return [
            _page("GET", f"{CONSOLE}/sign-in", "Offer to sign in", self.offer, query=SignInQuery),
            _page("POST", f"{CONSOLE}/sign-in", "Sign in by a one-time link", self.sign_in, body=SignInForm),
            _page("GET", f"{CONSOLE}/start", "Go to the provider", self.start, query=StartQuery),
            _page("GET", f"{CONSOLE}/callback", "Come back from the provider", self.come_back, query=CallbackQuery),
            _page("GET", f"{CONSOLE}/assets/{{name}}", "A file of the pages", self.asset),
            get(CONSOLE, "What happened lately", self.overview),
            get(f"{CONSOLE}/events", "Search the audit log", self.events, query=SearchQuery),
            get(f"{CONSOLE}/events/{{index}}", "One event, and what belongs to it", self.event),
            get(f"{CONSOLE}/export", "Write out what a search shows", self.export, query=ConsoleExportQuery),
            get(f"{CONSOLE}/timeline", "Who was in when", self.timeline, query=TimelineQuery),
            _signed_in("POST", f"{CONSOLE}/reviews", "Sign events off", self.sign_off, body=SignOffForm),
            get(f"{CONSOLE}/consistency", "Prove that the log only grew", self.consistency, query=ConsistencyQuery),
            get(f"{CONSOLE}/answers", "What waits for a word", self.answers),
            *(
                _signed_in(
                    "POST", f"{CONSOLE}/requests/{{id}}/{name}", f"Say {name}", self._does(step), body=AnswerForm
                )
                for name, step in (("approve", rooms.approvals.approve), ("deny", rooms.approvals.deny))
            ),
            _signed_in("POST", f"{CONSOLE}/break-glass/{{id}}/review", "Sign a use off", self.settle, body=ReviewForm),
            _signed_in("POST", f"{CONSOLE}/sign-out", "Sign out", self.sign_out),
        ]

    async def offer(self, visit: Visit[SignInQuery, Nothing]) -> Answer:
        """Show how to sign in. A link does nothing before somebody presses a button: programs look at links too."""
        asked = visit.query
        provider = self._rooms.login.provider if self._rooms.login else ""
        return self._renderer.page(
            "sign_in.html", link=asked.link, next=_inside(asked.next), provider=provider, session=None
        )

    async def sign_in(self, visit: Visit[Nothing, SignInForm]) -> Answer:
        """Begin a session, and go where the person wanted to."""
        cookie = await self._sessions.redeem(visit.body.link, visit.source, visit.request_id)
        headers = {"Location": _inside(visit.body.next), "Set-Cookie": session_cookie(cookie)}
        return Answer(status=303, headers={**headers, "Cache-Control": "no-store"})

    async def start(self, visit: Visit[StartQuery, Nothing]) -> Answer:
        """Send somebody to the provider."""
        if self._rooms.login is None:
            raise errors.NotFound
        where, begun = await self._rooms.login.begin(_callback(visit), _inside(visit.query.next))
        headers = {"Location": where, "Set-Cookie": login_cookie(begun), "Cache-Control": "no-store"}
        return Answer(status=303, headers=headers)

    async def come_back(self, visit: Visit[CallbackQuery, Nothing]) -> Answer:
        """Begin a session for whom the provider vouches."""
        asked, login = visit.query, self._rooms.login
        if login is None:
            raise errors.NotFound
        if asked.error:
            raise errors.ProviderUnavailable(asked.error, detail="The provider did not log you in.")
        begun = visit.cookies.get(LOGIN, "")
        caller, then = await login.end(begun, asked.state, asked.code, asked.iss, _callback(visit))
        cookie = await self._sessions.begin(caller, visit.source, visit.request_id, via="provider")
        headers = {"Location": _inside(then), "Set-Cookie": session_cookie(cookie), "Cache-Control": "no-store"}
        return Answer(status=303, headers=headers)

    async def sign_out(self, visit: Visit[Nothing, Nothing], session: Session) -> Answer:
        """End the session, everywhere."""
        await self._sessions.end(session, visit.source, visit.request_id)
        headers = {"Location": f"{CONSOLE}/sign-in", "Set-Cookie": session_cookie(None)}
        return Answer(status=303, headers={**headers, "Cache-Control": "no-store", "Clear-Site-Data": '"cache"'})

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
            waiting=await self._waiting(session.caller, visit.source),
            checkpoint=await self._checkpoint(),
            healths=[health() for health in self._rooms.healths],
        )

    async def events(self, visit: Visit[SearchQuery, Nothing], session: Session) -> Answer:
        """Show one page of events; what is exported is what is shown."""
        asked, signed = visit.query, await self._sign_offs()
        page = await self._audit.search(visit, asked, session.caller)
        if asked.unreviewed:
            page = await self._unreviewed(page, self._audit.filters(visit, asked, session.caller), asked.limit, signed)
        filters = asked.model_dump(mode="json", exclude_none=True, include={*Which.model_fields, "unreviewed"})
        return self._renderer.page(
            "events.html",
            session=session,
            here="events",
            page=page,
            filters=filters,
            signed=signed,
            names=EVENTS,
            outcomes=OUTCOMES,
            earlier=asked.cursor is not None,
        )

    async def event(self, visit: Visit[Nothing, Nothing], session: Session) -> Answer:
        """Show one event, everything that happened under its request, and its receipt."""
        entry = await self._audit.look_up(visit, session.caller)
        receipt = await self._rooms.review.receipt(entry.index)
        return self._renderer.page(
            "event.html",
            session=session,
            here="events",
            entry=entry,
            event=entry.event,
            evidence=_evidence(entry, receipt, self._rooms.verifier),
            hash=base64_text(entry.leaf_hash),
            family=await self._family(entry, session.caller, visit.source),
            receipt=receipt,
            signed=await self._sign_offs(),
        )

    async def sign_off(self, visit: Visit[Nothing, SignOffForm], session: Session) -> Answer:
        """Write down that somebody has looked at a range of events."""
        asked = visit.body
        accounts = self._audit.readable(session.caller, visit.source)
        if not asked.first <= asked.last < await self._rooms.review.size():
            raise errors.InvalidRequest(detail="first is not above last, and last is an event that there is")
        details: dict[str, str | int | tuple[str, ...]] = {
            "thread": uuid4().hex,
            "first": asked.first,
            "end": asked.last + 1,
        }
        if accounts is not None:
            details["accounts"] = tuple(sorted(accounts))
        await self._audit.note(visit, session.caller, details, REVIEWED, asked.note)
        headers = {"Location": f"{CONSOLE}/events?unreviewed=yes", "Cache-Control": "no-store"}
        return Answer(status=303, headers=headers)

    async def _sign_offs(self) -> SignOffs:
        return SignOffs(await self._rooms.views.threads(KIND))

    async def _unreviewed(self, page: EventPage, filters: Filters, limit: int, signed: SignOffs) -> EventPage:
        """Go on from a page until enough is found that nobody has signed off; whole ranges are leapt over."""
        found: list[Entry] = []
        for _ in range(_LEAPS):
            found += [entry for entry in page.items if not signed.is_reviewed(entry)]
            if len(found) >= limit or page.next_cursor is None:
                break
            cursor = await self._over(page.items[-1].index, signed) or page.next_cursor
            page = await self._rooms.review.events(filters, limit=_FAMILY, cursor=cursor)
        shown = tuple(found[:limit])
        return EventPage(shown, place_of(shown[-1]) if len(found) > limit else page.next_cursor)

    async def _over(self, index: int, signed: SignOffs) -> str:
        """Answer the cursor that leaps over what is signed off around an event; empty when there is nothing to leap."""
        first = signed.beginning(index)
        if first >= index:
            return ""
        try:
            return place_of(await self._rooms.review.event(first))
        except errors.NotFound:  # its body was pruned, and what is before it
            return ""

    async def export(self, visit: Visit[ExportQuery, Nothing], session: Session) -> Answer:
        """Write out what a search shows, as a file."""
        answer = await self._audit.export(visit, session.caller)
        name = f'attachment; filename="events.{visit.query.format}"'
        return replace(answer, headers={**answer.headers, "Content-Disposition": name, "Cache-Control": "no-store"})

    async def consistency(self, visit: Visit[ConsistencyQuery, Nothing], session: Session) -> Answer:
        """Answer the proof that the log of one size continues that of another, for the script of a page."""
        return await self._audit.consistency(visit, session.caller)

    async def answers(self, visit: Visit[Nothing, Nothing], session: Session) -> Answer:
        """Show the requests and the uses of break-glass that wait for this person's word."""
        return self._renderer.page(
            "answers.html",
            session=session,
            here="answers",
            requests=await self._rooms.approvals.reviewable(session.caller, visit.source),
            uses=await self._rooms.glass.reviewable(session.caller, visit.source),
            verdicts=list(Verdict),
        )

    async def settle(self, visit: Visit[Nothing, ReviewForm], session: Session) -> Answer:
        """Sign a use of break-glass off."""
        verb = _verb(visit, session, visit.body.message)
        await self._rooms.glass.review(visit.path["id"], verb, visit.body.verdict)
        return _ANSWERED

    def _does(self, step: Callable[[str, Verb], Awaitable[object]]) -> Handler:
        async def do(visit: Visit[Nothing, AnswerForm], session: Session) -> Answer:
            await step(visit.path["id"], _verb(visit, session, visit.body.reason))
            return _ANSWERED

        return do

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
            page = await self._rooms.review.events(filters, limit=_FAMILY, cursor=cursor)
            found += page.items
            cursor = page.next_cursor
        lane = "instance" if asked.of == "actor" else "actor"
        return picture([entry.event for entry in found], since, until, lane, self._clock()), cursor is None

    async def _family(self, entry: Entry, caller: Caller, source: Source) -> Sequence[Entry]:
        """Answer everything that happened under the same request, the oldest first."""
        request_id = entry.event.get("request_id")
        if not isinstance(request_id, str):
            return ()
        filters = Filters(request_id=request_id, accounts=self._audit.readable(caller, source))
        page = await self._rooms.review.events(filters, limit=_FAMILY)
        return page.items[::-1]

    async def _out(self, caller: Caller, accounts: frozenset[str] | None) -> Sequence[Out]:
        now = int(self._clock().timestamp() * 1000)
        seen = self._audit.accounts if accounts is None else accounts
        leases = await self._rooms.views.leases(now, accounts=seen, own=str(caller))
        return await self._rooms.views.issued(leases[:_OUT])

    async def _waiting(self, caller: Caller, source: Source) -> Mapping[str, int]:
        """Answer how much waits for this person's word."""
        requests = await self._rooms.approvals.reviewable(caller, source)
        uses = await self._rooms.glass.reviewable(caller, source)
        return {"requests": len(requests), "uses": len(uses)}

    async def _checkpoint(self) -> Sequence[str]:
        """Answer the lines of the newest checkpoint: origin, size, root; empty before the first."""
        try:
            return (await self._rooms.review.checkpoint()).splitlines()[:3]
        except errors.NotFound:
            return ()


def _callback(visit: Visit[Any, Any]) -> str:
    return f"{visit.service}{CONSOLE}/callback"


def _inside(place: str) -> str:
    """Answer a place within the console; anything else is its beginning (no open redirects)."""
    inside = place == CONSOLE or place.startswith((f"{CONSOLE}?", f"{CONSOLE}/"))
    return place if inside and place.isprintable() and place.isascii() and "\\" not in place else CONSOLE


def _evidence(entry: Entry, receipt: CompletedReceipt, verifier: str) -> Mapping[str, object]:
    """Answer what a script needs to check all by itself; bytes are base64."""
    return {
        "index": entry.index,
        "leaf": base64_text(entry.leaf),
        "verifier": verifier,
        "checkpoint": receipt.checkpoint,
        "size": receipt.proof.size if receipt.proof else 0,
        "hashes": [base64_text(each) for each in receipt.proof.hashes] if receipt.proof else [],
    }


def _verb(visit: Visit[Any, Any], session: Session, reason: str) -> Verb:
    return Verb(caller=session.caller, source=visit.source, request_id=visit.request_id, reason=reason)


def _page(
    method: str, path: str, summary: str, handler: Handler, query: type[Input] = Nothing, body: type[Input] = Nothing
) -> Page[Any, Any]:
    return Page(method=method, path=path, summary=summary, handler=handler, query=query, body=body)


def _signed_in(
    method: str, path: str, summary: str, handler: Handler, query: type[Input] = Nothing, body: type[Input] = Nothing
) -> SignedIn[Any, Any]:
    return SignedIn(method=method, path=path, summary=summary, handler=handler, query=query, body=body)
