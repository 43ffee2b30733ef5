"""Locks: `/v1/locks`. Whoever may lock an account sees what is locked there, and takes it off again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any, Protocol

from pydantic import AfterValidator, Field, StrictInt

from broker import errors
from broker.approvals.locks import Lock, LockKind
from broker.issuing.answering import Verb
from broker.issuing.locks import LockWish
from broker.model import Caller, Clock, Source, rfc3339
from broker.web.paging import Paged, page
from broker.web.parsing import Line, Words, one_line
from broker.web.routes import Answer, AnyRoute, Guarded, Input, Nothing, Output, Visit, guarded_get

_LONGEST = 10 * 366 * 86_400


class LockBody(Input):
    """What is to be locked. `target` is ISSUER/SUBJECT, an instance or an account; `ttl` seconds, else until removed.

    `message` is shown to whoever is kept out.
    """

    kind: LockKind
    target: Annotated[str, Field(min_length=1, max_length=600, examples=["corp/alice"]), AfterValidator(one_line)]
    message: Words
    ttl: Annotated[StrictInt, Field(ge=1, le=_LONGEST)] | None = None


class RemoveBody(Input):
    """Why a lock is taken off."""

    reason: Line = ""


class LockOut(Output):
    """A lock. `until` is null when it lasts until it is removed."""

    id: str
    kind: LockKind
    target: str
    message: str
    created_by: str
    created_at: str
    until: str | None
    in_force: bool
    audit_index: int


class LockPage(Output):
    """Locks, the newest first."""

    items: list[LockOut]
    next_cursor: str | None


class Desk(Protocol):
    """Takes locks; see `issuing.locks.LockDesk`."""

    async def create(self, wish: LockWish, verb: Verb) -> Lock:
        """Lock something."""
        ...

    async def remove(self, id: str, verb: Verb) -> Lock:  # noqa: A002 - what it is called everywhere
        """Take a lock off."""
        ...

    async def locks(self, caller: Caller, source: Source) -> Sequence[Lock]:
        """Answer the locks in force that the caller may take off."""
        ...


class Locks:
    """The routes of locks."""

    def __init__(self, desk: Desk, clock: Clock) -> None:
        self._desk = desk
        self._clock = clock

    def routes(self) -> list[AnyRoute[Any, Any]]:
        """Answer the routes."""
        refused = (errors.Denied, errors.StepUpRequired, errors.ReasonRequired, errors.AuditUnavailable)
        return [
            Guarded(
                method="POST",
                path="/v1/locks",
                summary="Keep a person, a program, an instance or an account out, whatever the policies say",
                query=Nothing,
                body=LockBody,
                answer=LockOut,
                status=201,
                errors=(*refused, errors.UpstreamError, errors.UpstreamUnavailable),
                handler=self.create,
            ),
            guarded_get(
                "/v1/locks",
                "List the locks in force that one may take off",
                self.list,
                query=Paged,
                answer=LockPage,
                errors=(errors.AuditUnavailable,),
            ),
            Guarded(
                method="POST",
                path="/v1/locks/{id}/remove",
                summary="Take a lock off",
                query=Nothing,
                body=RemoveBody,
                answer=LockOut,
                errors=(errors.NotFound, errors.RequestClosed, *refused),
                handler=self.remove,
            ),
        ]

    async def create(self, visit: Visit[Nothing, LockBody], caller: Caller) -> Answer:
        """Answer 201 with the lock, which holds here already."""
        body = visit.body
        wish = LockWish(kind=body.kind, target=body.target, ttl=timedelta(seconds=body.ttl) if body.ttl else None)
        verb = Verb(caller=caller, source=visit.source, request_id=visit.request_id, reason=body.message)
        return Answer(self._out(await self._desk.create(wish, verb)), status=201)

    async def list(self, visit: Visit[Paged, Nothing], caller: Caller) -> Answer:
        """Answer one page."""
        found = await self._desk.locks(caller, visit.source)
        shown, more = page(found, lambda lock: lock.index, visit.query)
        return Answer(LockPage(items=[self._out(each) for each in shown], next_cursor=more))

    async def remove(self, visit: Visit[Nothing, RemoveBody], caller: Caller) -> Answer:
        """Answer the lock, which is off."""
        verb = Verb(caller=caller, source=visit.source, request_id=visit.request_id, reason=visit.body.reason)
        return Answer(self._out(await self._desk.remove(visit.path["id"], verb)))

    def _out(self, lock: Lock) -> LockOut:
        return LockOut(
            id=lock.id,
            kind=lock.kind,
            target=lock.target,
            message=lock.message,
            created_by=str(lock.created_by),
            created_at=rfc3339(lock.created_at),
            until=rfc3339(lock.until) if lock.until else None,
            in_force=lock.holds(self._clock()),
            audit_index=lock.last_index,
        )
