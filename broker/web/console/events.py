"""The pages of the events: search, one event with its proof, export, live, and signing off."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Final, Literal, Protocol
from uuid import uuid4

from pydantic import Field, model_validator

from broker import errors
from broker.audit.review import CompletedReceipt, Entry, Page, Review, place_of
from broker.audit.stores import Filters
from broker.audit.views import Views
from broker.identity.sessions import Session, Sessions
from broker.model import EVENTS, Caller, PolicySource, Source
from broker.web.app import CONSOLE
from broker.web.audit import Audit, ConsistencyQuery, EventQuery, ExportQuery, Which, named
from broker.web.console.rendering import Renderer
from broker.web.console.reviews import KIND, REVIEWED, SignOffs
from broker.web.console.showing import Moment, signed_in
from broker.web.console.tail import Tail
from broker.web.doors import Locks
from broker.web.encoding import base64_text
from broker.web.parsing import Words
from broker.web.routes import Answer, AnyRoute, Input, Nothing, Visit

OUTCOMES: Final = ("success", "failure", "denied", "unknown")
VIEWS: Final = {
    "Not reviewed": {"unreviewed": "yes"},
    "Issued": {"event": "credential.issued"},
    "Denied": {"outcome": "denied"},
    "Failed": {"outcome": "failure"},
    "Broken glass": {"event": "break_glass.used"},
    "Host keys": {"event": "host_keys.refused"},
    "Policies": {"event": "policies.loaded"},
    "Exports": {"event": "audit.exported"},
    "Sign-ins": {"event": "console.signed_in"},
}
"""Ready-made searches, by their names."""
_FAMILY: Final = 200
"""So many events of one request are shown beside one of them."""
_LEAPS: Final = 20
"""So many times a search goes on until it has found what nobody has signed off."""

Index = Annotated[int, Field(ge=0, lt=1 << 53)]
Unreviewed = Literal["yes"] | None


class SearchQuery(EventQuery):
    """Which events to show."""

    since: Moment | None = None
    until: Moment | None = None
    unreviewed: Unreviewed = None
    """Only what nobody has signed off."""


class ConsoleExportQuery(ExportQuery):
    """Which events to write out, and how."""

    since: Moment | None = None
    until: Moment | None = None
    unreviewed: Unreviewed = None


class TailQuery(Which):
    """Which events to follow, and after which one."""

    since: Moment | None = None
    until: Moment | None = None
    unreviewed: Unreviewed = None
    """What is new has not been reviewed."""
    after: Index


class SignOffForm(Input):
    """A reviewer has looked at events: at those that were picked, else from one to another, both included."""

    pick: tuple[Index, ...] = ()
    first: Index | None = None
    last: Index | None = None
    note: Words

    @model_validator(mode="after")
    def _something(self) -> SignOffForm:
        if not self.pick and (self.first is None or self.last is None or self.first > self.last):
            raise ValueError("pick events, or say from which to which, and the first is not above the last")
        return self

    @property
    def ends(self) -> tuple[int, int]:
        """The first event, and the one after the last."""
        return (min(self.pick), max(self.pick) + 1) if self.pick else (self.first or 0, (self.last or 0) + 1)


class PoliciesInForce(Protocol):
    """The policies, as far as a page shows them."""

    @property
    def digest(self) -> str:
        """Of the set in force."""
        ...

    def sources(self, policies: Iterable[str]) -> Sequence[PolicySource]:
        """Answer where policies of it stand, and what they say."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelves:
    """What these pages look at."""

    audit: Audit
    review: Review
    views: Views
    policies: PoliciesInForce
    verifier: str
    """The public key of the log's checkpoints, as auditors pin it."""
    sessions: Sessions
    locks: Locks


class Events:
    """The pages. Looking is an event itself."""

    def __init__(self, renderer: Renderer, shelves: Shelves) -> None:
        self._renderer = renderer
        self._shelves = shelves
        self._audit, self._review = shelves.audit, shelves.review
        self.tail = Tail(shelves.review)

    def routes(self) -> list[AnyRoute[Any, Any]]:
        """Answer the routes."""
        get = partial(signed_in, "GET")
        return [
            get(f"{CONSOLE}/events", "Search the audit log", self.events, query=SearchQuery),
            get(f"{CONSOLE}/events/{{index}}", "One event, and what belongs to it", self.event),
            get(f"{CONSOLE}/tail", "Events as they are written", self.live, query=TailQuery),
            get(f"{CONSOLE}/export", "Write out what a search shows", self.export, query=ConsoleExportQuery),
            signed_in("POST", f"{CONSOLE}/reviews", "Sign events off", self.sign_off, body=SignOffForm),
            get(f"{CONSOLE}/consistency", "Prove that the log only grew", self.consistency, query=ConsistencyQuery),
        ]

    async def events(self, visit: Visit[SearchQuery, Nothing], session: Session) -> Answer:
        """Show one page of events; what is exported is what is shown."""
        asked, signed = visit.query, await self._sign_offs()
        size = await self._review.size()
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
            views=VIEWS,
            last=size - 1,
            earlier=asked.cursor is not None,
        )

    async def event(self, visit: Visit[Nothing, Nothing], session: Session) -> Answer:
        """Show one event, everything that happened under its request, what decided it, and its receipt."""
        entry = await self._audit.look_up(visit, session.caller)
        receipt = await self._review.receipt(entry.index)
        return self._renderer.page(
            "event.html",
            session=session,
            here="events",
            entry=entry,
            event=entry.event,
            evidence=_evidence(entry, receipt, self._shelves.verifier),
            hash=base64_text(entry.leaf_hash),
            family=await self._family(entry, session.caller, visit.source),
            policies=self._policies(entry.event),
            receipt=receipt,
            signed=await self._sign_offs(),
        )

    async def live(self, visit: Visit[TailQuery, Nothing], session: Session) -> Answer:
        """Tell of events as they come, for the script of a page, as long as its reader may read."""
        asked, caller, source = visit.query, session.caller, visit.source
        filters = self._audit.filters(visit, asked, caller)

        async def may_read() -> None:
            await self._shelves.sessions.confirm(session)
            await self._shelves.locks.admit(caller, source, visit.request_id, f"{CONSOLE}/tail")
            if self._audit.filters(visit, asked, caller) != filters:
                raise errors.Denied

        found = self.tail.follow(filters, asked.after, may_read)
        await self._audit.note(visit, caller, {"filters": ("live", *named(asked))})
        return Answer(found, content_type="text/event-stream", headers={"Cache-Control": "no-store"})

    async def export(self, visit: Visit[ConsoleExportQuery, Nothing], session: Session) -> Answer:
        """Write out what a search shows, as a file."""
        asked, signed = visit.query, await self._sign_offs()
        wanted = signed.is_open if asked.unreviewed else None
        answer = await self._audit.written(visit, asked, session.caller, wanted)
        name = f'attachment; filename="events.{asked.format}"'
        return replace(answer, headers={**answer.headers, "Content-Disposition": name, "Cache-Control": "no-store"})

    async def sign_off(self, visit: Visit[Nothing, SignOffForm], session: Session) -> Answer:
        """Write down that somebody has looked at events."""
        asked = visit.body
        accounts = self._audit.readable(session.caller, visit.source)
        first, end = asked.ends
        if end > await self._review.size():
            raise errors.InvalidRequest(detail="the last is an event that there is")
        details: dict[str, str | int | tuple[str, ...]] = {"thread": uuid4().hex, "first": first, "end": end}
        if asked.pick:
            details["only"] = tuple(map(str, sorted(set(asked.pick))))
        if accounts is not None:
            details["accounts"] = tuple(sorted(accounts))
        await self._audit.note(visit, session.caller, details, REVIEWED, asked.note)
        headers = {"Location": f"{CONSOLE}/events?unreviewed=yes", "Cache-Control": "no-store"}
        return Answer(status=303, headers=headers)

    async def consistency(self, visit: Visit[ConsistencyQuery, Nothing], session: Session) -> Answer:
        """Answer the proof that the log of one size continues that of another, for the script of a page."""
        return await self._audit.consistency(visit, session.caller)

    async def _sign_offs(self) -> SignOffs:
        return SignOffs(await self._shelves.views.threads(KIND))

    async def _unreviewed(self, page: Page, filters: Filters, limit: int, signed: SignOffs) -> Page:
        """Go on from a page until enough is found that nobody has signed off; whole ranges are leapt over."""
        found: list[Entry] = []
        for _ in range(_LEAPS):
            found += [entry for entry in page.items if signed.is_open(entry)]
            if len(found) >= limit or page.next_cursor is None:
                break
            cursor = await self._over(page.items[-1].index, signed) or page.next_cursor
            page = await self._review.events(filters, limit=_FAMILY, cursor=cursor)
        shown = tuple(found[:limit])
        return Page(shown, place_of(shown[-1]) if len(found) > limit else page.next_cursor)

    async def _over(self, index: int, signed: SignOffs) -> str:
        """Answer the cursor that leaps over what is signed off around an event; empty when there is nothing to leap."""
        first = signed.beginning(index)
        if first >= index:
            return ""
        try:
            return place_of(await self._review.event(first))
        except errors.NotFound:  # its body was pruned, and what is before it
            return ""

    async def _family(self, entry: Entry, caller: Caller, source: Source) -> Sequence[Entry]:
        """Answer everything that happened under the same request, the oldest first."""
        request_id = entry.event.get("request_id")
        if not isinstance(request_id, str):
            return ()
        filters = Filters(request_id=request_id, accounts=self._audit.readable(caller, source))
        page = await self._review.events(filters, limit=_FAMILY)
        return page.items[::-1]

    def _policies(self, event: Mapping[str, Any]) -> Sequence[PolicySource] | None:
        """Answer the policies that decided, as they are in force; None when the set has changed since."""
        decision = event.get("decision") or {}
        if decision.get("digest") != self._shelves.policies.digest:
            return None
        return self._shelves.policies.sources(decision.get("policies", ()))


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
