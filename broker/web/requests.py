"""Access requests: `/v1/requests`. Whoever asks sees their own; whoever may approve sees what waits for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field, StrictInt

from broker import errors
from broker.approvals.requests import CREATED, AccessRequest, State
from broker.issuing.answering import Verb
from broker.issuing.approvals import Wish
from broker.issuing.desk import Asking
from broker.model import Caller, Clock, CredentialRequest, Source, rfc3339
from broker.model import Protocol as AccessProtocol
from broker.web.paging import Paged, page
from broker.web.parsing import Line, Moment
from broker.web.routes import Answer, AnyRoute, Guarded, Input, Nothing, Output, Visit, guarded_get

_USUAL = timedelta(seconds=10)
"""A notice may take so long before anybody is worried."""


class RequestBody(Input):
    """What is asked for, when, and for how long. Durations are seconds.

    `pending_for` is how long it may wait for an answer; `starts_at` is when access is wanted, at once by default.
    """

    instance: Annotated[str, Field(min_length=1, max_length=600)]
    protocol: AccessProtocol | None = None
    reason: Line = ""
    ticket: Line = ""
    duration: Annotated[StrictInt, Field(ge=60, le=7 * 86_400)] | None = None
    starts_at: Moment | None = None
    pending_for: Annotated[StrictInt, Field(ge=60, le=7 * 86_400)] = 8 * 3600


class AnswerBody(Input):
    """Why somebody approves, denies or cancels."""

    reason: Line = ""


class RequestQuery(Paged):
    """Which requests: one's own, or those that wait for somebody like the caller; by default both."""

    show: Literal["mine", "reviewable", "all"] = "all"


class RequestedInstance(Output):
    """Where an instance is."""

    account: str
    region: str
    name: str


class ApprovalOut(Output):
    """One approver's yes."""

    approver: str
    at: str
    reason: str


class RequestOut(Output):
    """An access request. `starts_at` and `ends_at` are there once it is approved; durations are seconds.

    `undelivered` are the receivers of notices that should have heard of it by now, and have not.
    """

    id: str
    state: Literal["pending", "approved", "denied", "cancelled", "expired", "ended"]
    requester: str
    instance: RequestedInstance
    protocol: AccessProtocol
    reason: str
    ticket: str
    created_at: str
    duration: int
    wanted_start: str | None
    pending_until: str
    starts_at: str | None
    ends_at: str | None
    approvals: list[ApprovalOut]
    approvals_needed: int
    closed_by: str | None
    closing_reason: str
    undelivered: list[str]
    audit_index: int


class RequestPage(Output):
    """Requests, the newest first."""

    items: list[RequestOut]
    next_cursor: str | None


class Desk(Protocol):
    """Takes requests and what people say to them; see `issuing.approvals.ApprovalDesk`."""

    async def create(self, asking: Asking, wish: Wish) -> AccessRequest:
        """Take a request."""
        ...

    async def approve(self, id: str, verb: Verb) -> AccessRequest:  # noqa: A002 - what it is called everywhere
        """Say yes."""
        ...

    async def deny(self, id: str, verb: Verb) -> AccessRequest:  # noqa: A002 - as above
        """Say no."""
        ...

    async def cancel(self, id: str, verb: Verb) -> AccessRequest:  # noqa: A002 - as above
        """Take it back."""
        ...

    async def show(self, id: str, caller: Caller, source: Source) -> AccessRequest:  # noqa: A002 - as above
        """Answer one."""
        ...

    async def mine(self, caller: Caller) -> Sequence[AccessRequest]:
        """Answer the caller's own."""
        ...

    async def reviewable(self, caller: Caller, source: Source) -> Sequence[AccessRequest]:
        """Answer those that wait for somebody like the caller."""
        ...


class Deliveries(Protocol):
    """Knows who has been told."""

    async def outstanding(self, event: str, indices: Iterable[int]) -> Mapping[int, Sequence[str]]:
        """Answer, by the index of an event of this name, the receivers that have not heard of it yet."""
        ...


Step = Callable[[str, Verb], Awaitable[AccessRequest]]


class Requests:
    """The routes of access requests."""

    def __init__(self, desk: Desk, deliveries: Deliveries, clock: Clock) -> None:
        self._desk = desk
        self._deliveries = deliveries
        self._clock = clock

    def routes(self) -> list[AnyRoute[Any, Any]]:
        """Answer the routes."""
        seen = (errors.NotFound, errors.AuditUnavailable, errors.UpstreamError, errors.UpstreamUnavailable)
        refused = (errors.Denied, errors.StepUpRequired, errors.ReasonRequired, errors.TicketRequired)
        return [
            Guarded(
                method="POST",
                path="/v1/requests",
                summary="Ask for access that somebody has to approve",
                query=Nothing,
                body=RequestBody,
                answer=RequestOut,
                status=201,
                errors=(*refused, errors.AmbiguousInstance, errors.BudgetExhausted, *seen[1:]),
                handler=self.create,
            ),
            guarded_get(
                "/v1/requests",
                "List one's own access requests, and those that wait for one's answer",
                self.list,
                query=RequestQuery,
                answer=RequestPage,
                errors=seen[1:],
            ),
            guarded_get(
                "/v1/requests/{id}", "Show one access request", self.show, query=Nothing, answer=RequestOut, errors=seen
            ),
            *(
                Guarded(
                    method="POST",
                    path=f"/v1/requests/{{id}}/{verb}",
                    summary=summary,
                    query=Nothing,
                    body=AnswerBody,
                    answer=RequestOut,
                    errors=(*refused, errors.ApprovalRequired, errors.RequestClosed, errors.Superseded, *seen),
                    handler=self._does(step),
                )
                for verb, summary, step in (
                    ("approve", "Approve an access request", self._desk.approve),
                    ("deny", "Deny an access request", self._desk.deny),
                    ("cancel", "Take one's own access request back", self._desk.cancel),
                )
            ),
        ]

    async def create(self, visit: Visit[Nothing, RequestBody], caller: Caller) -> Answer:
        """Answer 201 with the request."""
        body = visit.body
        wanted = CredentialRequest(
            instance=body.instance, protocol=body.protocol, reason=body.reason, ticket=body.ticket
        )
        asking = Asking(caller=caller, request=wanted, source=visit.source, request_id=visit.request_id)
        wish = Wish(
            duration=timedelta(seconds=body.duration) if body.duration else None,
            starts_at=body.starts_at,
            pending_for=timedelta(seconds=body.pending_for),
        )
        return Answer(self._out(await self._desk.create(asking, wish)), status=201)

    async def list(self, visit: Visit[RequestQuery, Nothing], caller: Caller) -> Answer:
        """Answer one page, the newest first."""
        asked = visit.query
        mine = await self._desk.mine(caller) if asked.show != "reviewable" else ()
        waiting = await self._desk.reviewable(caller, visit.source) if asked.show != "mine" else ()
        found, more = page([*mine, *waiting], lambda request: request.index, asked)
        return Answer(RequestPage(items=[*await self._with_deliveries(found)], next_cursor=more))

    async def show(self, visit: Visit[Nothing, Nothing], caller: Caller) -> Answer:
        """Answer one; what the caller may not see is not there."""
        shown = await self._desk.show(visit.path["id"], caller, visit.source)
        return Answer((await self._with_deliveries([shown]))[0])

    async def _with_deliveries(self, requests: Sequence[AccessRequest]) -> Sequence[RequestOut]:
        """Answer requests, and of those that wait for people who has not been told."""
        now = self._clock()
        due = [each.index for each in requests if each.state(now) is State.PENDING and now - each.created_at > _USUAL]
        late = await self._deliveries.outstanding(CREATED, due) if due else {}
        return [self._out(each, late.get(each.index, ())) for each in requests]

    def _does(self, step: Step) -> Callable[[Visit[Nothing, AnswerBody], Caller], Awaitable[Answer]]:
        async def do(visit: Visit[Nothing, AnswerBody], caller: Caller) -> Answer:
            verb = Verb(caller=caller, source=visit.source, request_id=visit.request_id, reason=visit.body.reason)
            return Answer(self._out(await step(visit.path["id"], verb)))

        return do

    def _out(self, request: AccessRequest, undelivered: Sequence[str] = ()) -> RequestOut:
        ref = request.instance
        return RequestOut(
            id=request.id,
            state=request.state(self._clock()).value,
            requester=str(request.requester),
            instance=RequestedInstance(account=ref.account, region=ref.region, name=ref.name),
            protocol=request.protocol,
            reason=request.reason,
            ticket=request.ticket,
            created_at=rfc3339(request.created_at),
            duration=int(request.duration.total_seconds()),
            wanted_start=_text(request.wanted_start),
            pending_until=rfc3339(request.pending_until),
            starts_at=_text(request.starts_at),
            ends_at=_text(request.ends_at),
            approvals=[
                ApprovalOut(approver=str(each.approver), at=rfc3339(each.at), reason=each.reason)
                for each in request.approvals
            ],
            approvals_needed=request.approvals_needed,
            closed_by=str(request.closed_by) if request.closed_by else None,
            closing_reason=request.closing_reason,
            undelivered=list(undelivered),
            audit_index=request.last_index,
        )


def _text(moment: datetime | None) -> str | None:
    return rfc3339(moment) if moment else None
