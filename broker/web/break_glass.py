"""Break-glass uses: `/v1/break-glass`. Whoever broke the glass sees their last use; whoever may approve reviews it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from broker import errors
from broker.approvals.glass import GlassUse
from broker.issuing.answering import Verb
from broker.issuing.break_glass import Verdict
from broker.model import Caller, Source, rfc3339
from broker.model import Protocol as AccessProtocol
from broker.web.paging import Paged, page
from broker.web.parsing import Words
from broker.web.routes import Answer, AnyRoute, Guarded, Input, Nothing, Output, Visit, guarded_get


class ReviewBody(Input):
    """What a reviewer makes of a use, and why."""

    verdict: Verdict = Verdict.JUSTIFIED
    reason: Words


class UseQuery(Paged):
    """Which uses: one's own last one, or those that wait for somebody like the caller; by default both."""

    show: Literal["mine", "reviewable", "all"] = "all"


class UsedInstance(Output):
    """Where an instance is."""

    account: str
    region: str
    name: str


class UseOut(Output):
    """One breaking of the glass. While it is `open`, the same person cannot break it again.

    `issued` tells whether a credential came of it; `audit_index` is its event.
    """

    id: str
    state: Literal["open", "settled"]
    person: str
    instance: UsedInstance
    protocol: AccessProtocol
    reason: str
    ticket: str
    used_at: str
    issued: bool
    reviewed_by: str | None
    reviewed_at: str | None
    verdict: str | None
    review: str
    audit_index: int


class UsePage(Output):
    """Uses, the newest first."""

    items: list[UseOut]
    next_cursor: str | None


class Desk(Protocol):
    """Takes reviews; see `issuing.break_glass.GlassDesk`."""

    async def review(self, id: str, verb: Verb, verdict: Verdict) -> GlassUse:  # noqa: A002 - what it is called
        """Sign a use off."""
        ...

    async def mine(self, caller: Caller) -> Sequence[GlassUse]:
        """Answer the caller's last use."""
        ...

    async def reviewable(self, caller: Caller, source: Source) -> Sequence[GlassUse]:
        """Answer what waits for somebody like the caller."""
        ...


class BreakGlass:
    """The routes of break-glass uses."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def routes(self) -> list[AnyRoute[Any, Any]]:
        """Answer the routes."""
        seen = (errors.AuditUnavailable, errors.UpstreamError, errors.UpstreamUnavailable)
        refused = (errors.Denied, errors.StepUpRequired, errors.ReasonRequired, errors.TicketRequired)
        return [
            guarded_get(
                "/v1/break-glass",
                "List one's own last break-glass use, and those that wait for one's review",
                self.list,
                query=UseQuery,
                answer=UsePage,
                errors=seen,
            ),
            Guarded(
                method="POST",
                path="/v1/break-glass/{id}/review",
                summary="Sign a break-glass use off: only then can the same person break the glass again",
                query=Nothing,
                body=ReviewBody,
                answer=UseOut,
                errors=(errors.NotFound, errors.RequestClosed, errors.Superseded, *refused, *seen),
                handler=self.review,
            ),
        ]

    async def list(self, visit: Visit[UseQuery, Nothing], caller: Caller) -> Answer:
        """Answer one page."""
        asked = visit.query
        mine = await self._desk.mine(caller) if asked.show != "reviewable" else ()
        waiting = await self._desk.reviewable(caller, visit.source) if asked.show != "mine" else ()
        shown, more = page([*mine, *waiting], lambda use: use.index, asked)
        return Answer(UsePage(items=[_out(each) for each in shown], next_cursor=more))

    async def review(self, visit: Visit[Nothing, ReviewBody], caller: Caller) -> Answer:
        """Answer the use, which is settled."""
        body = visit.body
        verb = Verb(caller=caller, source=visit.source, request_id=visit.request_id, reason=body.reason)
        return Answer(_out(await self._desk.review(visit.path["id"], verb, body.verdict)))


def _out(use: GlassUse) -> UseOut:
    return UseOut(
        id=use.id,
        state="settled" if use.settled else "open",
        person=str(use.person),
        instance=UsedInstance(account=use.instance.account, region=use.instance.region, name=use.instance.name),
        protocol=use.protocol,
        reason=use.reason,
        ticket=use.ticket,
        used_at=rfc3339(use.used_at),
        issued=use.issued,
        reviewed_by=str(use.reviewed_by) if use.reviewed_by else None,
        reviewed_at=rfc3339(use.reviewed_at) if use.reviewed_at else None,
        verdict=use.verdict or None,
        review=use.review,
        audit_index=use.index,
    )
