"""Reading the log over HTTP: events, checkpoint, proofs. Who may read which accounts is the policies' decision."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Protocol

from pydantic import ConfigDict, Field

from broker import errors
from broker.audit import texts
from broker.audit.exporting import FORMATS
from broker.audit.review import Entry, InclusionProof, Page, Review
from broker.audit.stores import Filters
from broker.issuing import rooms
from broker.model import Action, Caller, Clock, Event, Receipt, RequestContext, Source
from broker.web.encoding import base64_text
from broker.web.parsing import Moment
from broker.web.routes import Answer, AnyRoute, Guarded, Input, Nothing, Output, Visit, guarded_get

_SEALED_WITHIN = 60
"""A checkpoint is signed at least once in so many seconds."""
_INDEX = re.compile("0|[1-9][0-9]{0,15}", re.ASCII)


class EntryOut(Output):
    """An event and its place in the tree. `leaf` is base64 of the exact bytes that `leaf_hash` is made of."""

    index: int
    leaf_hash: str
    leaf: str
    event: dict[str, Any]


class EntryPage(Output):
    """One page of events, newest first."""

    items: list[EntryOut]
    next_cursor: str | None


class InclusionOut(Output):
    """RFC 6962 inclusion proof, hashes in base64."""

    index: int
    size: int
    leaf_hash: str
    hashes: list[str]


class ReceiptOut(Output):
    """What proves that an event is in the log; `checkpoint` and `proof` are null until a checkpoint covers it."""

    index: int
    leaf_hash: str
    checkpoint: str | None
    proof: InclusionOut | None


class ConsistencyOut(Output):
    """RFC 6962 consistency proof, hashes in base64. `from` and `to` are sizes."""

    model_config = ConfigDict(populate_by_name=True)

    from_: Annotated[int, Field(alias="from")]
    to: int
    hashes: list[str]


class Lines(Output):
    """One event a line."""


class Note(Output):
    """A C2SP signed note."""


Index = Annotated[int, Field(ge=0, lt=1 << 53)]
Text = Annotated[str, Field(max_length=300)]
Protocols = Literal["ssh", "rdp"]


class Which(Input):
    """Which events are wanted."""

    actor: Text | None = None
    instance: Text | None = None
    account: Text | None = None
    event: Text | None = None
    outcome: Text | None = None
    protocol: Protocols | None = None
    request_id: Text | None = None
    text: Text | None = None
    since: Moment | None = None
    until: Moment | None = None


class EventQuery(Which):
    """Which events to show, and which page of them."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Text | None = None


class ExportQuery(Which):
    """Which events to write out, and how."""

    format: Literal["jsonl", "csv", "ocsf"] = "jsonl"


class ProofQuery(Input):
    """Which event, in a log of which size."""

    index: Index
    size: Index | None = None


class ConsistencyQuery(Input):
    """Two sizes of the log."""

    from_: Annotated[Index, Field(alias="from")]
    to: Index


class Log(Protocol):
    """The log, as far as this room writes to it."""

    async def append(self, event: Event) -> Receipt:
        """Write one event."""
        ...


class Audit:
    """The routes of the auditor."""

    def __init__(
        self, review: Review, log: Log, policies: rooms.Policies, accounts: frozenset[str], clock: Clock
    ) -> None:
        self._review = review
        self._log = log
        self._policies = policies
        self.accounts = accounts
        self._clock = clock

    def routes(self) -> list[AnyRoute[Any, Any]]:
        """Answer the routes."""
        return [
            guarded_get(
                "/v1/audit/events",
                "Search the audit log, newest first",
                self.events,
                query=EventQuery,
                answer=EntryPage,
                errors=(errors.Denied, errors.AuditUnavailable),
            ),
            guarded_get(
                "/v1/audit/events/{index}",
                "Show one event",
                self.event,
                query=Nothing,
                answer=EntryOut,
                errors=(errors.Denied, errors.NotFound, errors.AuditUnavailable),
            ),
            Guarded(
                method="GET",
                path="/v1/audit/export",
                summary="Write events out in the order of the log, as JSON Lines, CSV or OCSF",
                handler=self.export,
                query=ExportQuery,
                body=Nothing,
                answer=Lines,
                answer_type="application/jsonl",
                other_types=("text/csv",),
                errors=(errors.Denied, errors.AuditUnavailable),
            ),
            guarded_get(
                "/v1/audit/checkpoint",
                "Show the newest signed checkpoint",
                self.checkpoint,
                query=Nothing,
                answer=Note,
                answer_type="text/plain",
                errors=(errors.NotFound, errors.AuditUnavailable),
            ),
            guarded_get(
                "/v1/audit/proof",
                "Prove that an event is in the log",
                self.proof,
                query=ProofQuery,
                answer=InclusionOut,
                errors=(errors.NotFound, errors.AuditUnavailable),
            ),
            guarded_get(
                "/v1/audit/receipts/{index}",
                "Complete a receipt: the checkpoint over an event, and the proof that leads there",
                self.receipt,
                query=Nothing,
                answer=ReceiptOut,
                errors=(errors.NotFound, errors.AuditUnavailable),
            ),
            guarded_get(
                "/v1/audit/consistency",
                "Prove that a longer log continues a shorter one",
                self.consistency,
                query=ConsistencyQuery,
                answer=ConsistencyOut,
                errors=(errors.AuditUnavailable,),
            ),
        ]

    async def events(self, visit: Visit[EventQuery, Nothing], caller: Caller) -> Answer:
        """Answer one page of what the caller may read; reading is an event itself."""
        page = await self.search(visit, visit.query, caller)
        return Answer(EntryPage(items=[_entry(item) for item in page.items], next_cursor=page.next_cursor))

    async def event(self, visit: Visit[Nothing, Nothing], caller: Caller) -> Answer:
        """Answer one event, if it concerns an account that the caller may read."""
        return Answer(_entry(await self.look_up(visit, caller)))

    async def search(self, visit: Visit[Any, Any], asked: EventQuery, caller: Caller) -> Page:
        """Answer one page of what the caller may read, once it is recorded who reads it."""
        filters = self.filters(visit, asked, caller)
        page = await self._review.events(filters, limit=asked.limit, cursor=asked.cursor or "")
        await self.note(visit, caller, {"filters": named(asked)})
        return page

    def filters(self, visit: Visit[Any, Any], asked: Which, caller: Caller) -> Filters:
        """Answer what was asked for, within what the caller may read; raises Denied."""
        return _filters(asked, self.readable(caller, visit.source))

    async def look_up(self, visit: Visit[Any, Any], caller: Caller) -> Entry:
        """Answer the event that the path names, once it is recorded who reads it."""
        entry = await self._review.event(_index(visit), accounts=self.readable(caller, visit.source))
        await self.note(visit, caller, {"filters": (f"index={entry.index}",)})
        return entry

    async def export(self, visit: Visit[ExportQuery, Nothing], caller: Caller) -> Answer:
        """Answer every event that fits and that the caller may read; the export is an event before any leaves."""
        return await self.written(visit, visit.query, caller)

    async def written(
        self,
        visit: Visit[Any, Any],
        asked: ExportQuery,
        caller: Caller,
        wanted: Callable[[Entry], bool] | None = None,
    ) -> Answer:
        """Answer every event that fits, is wanted, and that the caller may read."""
        filters = _filters(asked, self.readable(caller, visit.source))
        indices = await self._review.bodies()
        details = {"format": asked.format, "filters": named(asked), "first": indices.start, "end": indices.stop}
        await self.note(visit, caller, details, "audit.exported")
        return Answer(
            self._review.exported(asked.format, filters, indices, wanted),
            content_type=FORMATS[asked.format].content_type,
        )

    async def checkpoint(self, visit: Visit[Nothing, Nothing], _: Caller) -> Answer:
        """Answer the newest signed note. Whoever holds a receipt may hold it against this."""
        del visit
        note = await self._review.checkpoint()
        return Answer(note.encode(), content_type="text/plain; charset=utf-8")

    async def proof(self, visit: Visit[ProofQuery, Nothing], _: Caller) -> Answer:
        """Answer the inclusion proof. It tells nothing but hashes, so that every caller can check a receipt."""
        return Answer(_proof(await self._review.inclusion_proof(visit.query.index, visit.query.size)))

    async def receipt(self, visit: Visit[Nothing, Nothing], _: Caller) -> Answer:
        """Answer the receipt, with `Retry-After` while it is not complete. As a proof, it tells only hashes."""
        found = await self._review.receipt(_index(visit))
        answer = ReceiptOut(
            index=found.index,
            leaf_hash=base64_text(found.leaf_hash),
            checkpoint=found.checkpoint,
            proof=None if found.proof is None else _proof(found.proof),
        )
        return Answer(answer, headers={} if found.proof else {"Retry-After": str(_SEALED_WITHIN)})

    async def consistency(self, visit: Visit[ConsistencyQuery, Nothing], _: Caller) -> Answer:
        """Answer the consistency proof."""
        hashes = await self._review.consistency_proof(visit.query.from_, visit.query.to)
        return Answer(
            ConsistencyOut(from_=visit.query.from_, to=visit.query.to, hashes=[base64_text(part) for part in hashes])
        )

    async def note(
        self,
        visit: Visit[Any, Any],
        caller: Caller,
        details: Mapping[str, str | int | tuple[str, ...]],
        event: Literal["audit.read", "audit.exported", "audit.reviewed"] = "audit.read",
        reason: str = "",
    ) -> None:
        """Record who read what. What cannot be recorded is not shown."""
        await self._log.append(
            Event(
                event=event,
                outcome="success",
                request_id=visit.request_id,
                actor=caller,
                source=visit.source,
                reason=reason,
                details=details,
            )
        )

    def readable(self, caller: Caller, source: Source) -> frozenset[str] | None:
        """Answer the accounts that the caller may read; None when that is all of them."""
        context = RequestContext(now=self._clock(), source_ip=source.ip)
        readable = frozenset(
            account
            for account in self.accounts
            if self._policies.decide(caller, Action.READ_AUDIT, account, context).allowed
        )
        if not readable:
            raise errors.Denied
        return None if readable == self.accounts else readable


def _index(visit: Visit[Any, Any]) -> int:
    text = visit.path["index"]
    if not _INDEX.fullmatch(text):
        raise errors.NotFound
    return int(text)


def _proof(proof: InclusionProof) -> InclusionOut:
    return InclusionOut(
        index=proof.index,
        size=proof.size,
        leaf_hash=base64_text(proof.leaf_hash),
        hashes=[base64_text(part) for part in proof.hashes],
    )


def _filters(asked: Which, accounts: frozenset[str] | None) -> Filters:
    return Filters(
        actor=asked.actor,
        instance=asked.instance,
        event=asked.event,
        outcome=asked.outcome,
        protocol=asked.protocol,
        request_id=asked.request_id,
        text=_words(asked.text),
        since=_milliseconds(asked.since),
        until=_milliseconds(asked.until),
        accounts=_narrow(accounts, asked.account),
    )


def _words(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    words = tuple(texts.words(text))
    if not 1 <= len(words) <= texts.MAX_WORDS:
        raise errors.InvalidRequest(detail=f"text is 1 to {texts.MAX_WORDS} words")
    return words


def named(asked: Which) -> tuple[str, ...]:
    """Answer the filters that were given, as the log has them."""
    filled = asked.model_dump(mode="json", exclude_none=True, exclude={"limit", "cursor", "format"})
    return tuple(f"{name}={value}" for name, value in filled.items())


def _narrow(readable: frozenset[str] | None, account: str | None) -> frozenset[str] | None:
    if account is None:
        return readable
    return frozenset({account}) if readable is None else readable & {account}


def _milliseconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)


def _entry(entry: Entry) -> EntryOut:
    return EntryOut(
        index=entry.index,
        leaf_hash=base64_text(entry.leaf_hash),
        leaf=base64.b64encode(entry.leaf).decode("ascii"),
        event=entry.event,
    )
