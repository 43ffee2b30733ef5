"""What is out now: `/v1/leases`. Everybody sees their own; of other people's, those whose log one may read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Protocol

from pydantic import Field

from broker import errors
from broker.audit.views import Out, Views
from broker.delivery.credentials import LOGIN_ONLY, RDP_LIVES_ON
from broker.issuing import rooms
from broker.model import Action, Caller, Clock, Event, Receipt, RequestContext, Source, rfc3339
from broker.web.encoding import cursor, position
from broker.web.routes import Answer, AnyRoute, Input, Nothing, Output, Visit, guarded_get

_POSITION: Final = re.compile(r"([0-9]{1,15})\.([0-9a-f]{1,64})", re.ASCII)


class LeasedInstance(Output):
    """Where an instance is."""

    account: str
    region: str
    name: str


class LeaseOut(Output):
    """A lease that has not ended. What is null or empty stands in an event whose body was archived.

    `revocable` tells whether the credential can be taken back, and `note` what its end means.
    """

    lease_id: str
    actor: str
    instance: LeasedInstance
    protocol: str
    issued_at: str | None
    expires_at: str
    reason: str
    ticket: str
    break_glass: bool
    revocable: bool
    note: str
    audit_index: int


class LeasePage(Output):
    """Leases, the first to end first."""

    items: list[LeaseOut]
    next_cursor: str | None


Text = Annotated[str, Field(max_length=600)]


class LeaseQuery(Input):
    """Which leases to show. `instance` is a name, or `account/region/name`; `actor` is `issuer/subject`."""

    instance: Text | None = None
    actor: Text | None = None
    account: Text | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str, Field(max_length=1000)] | None = None


class Log(Protocol):
    """The log, as far as this room writes to it."""

    async def append(self, event: Event) -> Receipt:
        """Write one event."""
        ...


class Leases:
    """The one route."""

    def __init__(
        self, views: Views, log: Log, policies: rooms.Policies, accounts: frozenset[str], clock: Clock
    ) -> None:
        self._views = views
        self._log = log
        self._policies = policies
        self._accounts = accounts
        self._clock = clock

    def routes(self) -> list[AnyRoute[Any, Any]]:
        """Answer the route."""
        return [
            guarded_get(
                "/v1/leases",
                "List the credentials that are out now: who, where, until when",
                self.list,
                query=LeaseQuery,
                answer=LeasePage,
                errors=(errors.AuditUnavailable,),
            ),
        ]

    async def list(self, visit: Visit[LeaseQuery, Nothing], caller: Caller) -> Answer:
        """Answer one page; reading other people's leases is an event, like reading the log."""
        asked, own = visit.query, str(caller)
        accounts = frozenset() if asked.actor == own else self._readable(caller, visit.source)
        now = int(self._clock().timestamp() * 1000)
        after = _position(asked.cursor)
        found = [
            lease
            for lease in await self._views.leases(now, accounts=accounts, own=own, actor=asked.actor, after=after)
            if asked.account in {None, lease.account}
            and asked.instance in {None, lease.instance, _name(lease.instance)}
        ]
        page = found[: asked.limit]
        items = [_item(out) for out in await self._views.issued(page)]
        if accounts:
            await self._note(visit, caller)
        more = cursor(f"{page[-1].expires_at}.{page[-1].lease_id}") if len(found) > len(page) else None
        return Answer(LeasePage(items=items, next_cursor=more))

    async def _note(self, visit: Visit[LeaseQuery, Nothing], caller: Caller) -> None:
        """Record who read what. What cannot be recorded is not shown."""
        filled = visit.query.model_dump(mode="json", exclude_none=True, exclude={"limit", "cursor"})
        filters = ("leases", *(f"{name}={value}" for name, value in filled.items()))
        await self._log.append(
            Event(
                event="audit.read",
                outcome="success",
                request_id=visit.request_id,
                actor=caller,
                source=visit.source,
                details={"filters": filters},
            )
        )

    def _readable(self, caller: Caller, source: Source) -> frozenset[str]:
        context = RequestContext(now=self._clock(), source_ip=source.ip)
        return frozenset(
            account
            for account in self._accounts
            if self._policies.decide(caller, Action.READ_AUDIT, account, context).allowed
        )


def _item(out: Out) -> LeaseOut:
    lease, event = out
    account, region, name = lease.instance.split("/", 2)
    protocol = _text(event, "protocol")
    return LeaseOut(
        lease_id=lease.lease_id,
        actor=lease.actor,
        instance=LeasedInstance(account=account, region=region, name=name),
        protocol=protocol,
        issued_at=_text(event, "time") or None,
        expires_at=rfc3339(datetime.fromtimestamp(lease.expires_at / 1000, UTC)),
        reason=_text(event, "reason"),
        ticket=_text(event, "ticket"),
        break_glass=event.get("break_glass") is True,
        revocable=False,
        note={"rdp": RDP_LIVES_ON, "ssh": LOGIN_ONLY}.get(protocol, ""),
        audit_index=lease.idx,
    )


def _text(event: Mapping[str, object], name: str) -> str:
    member = event.get(name)
    return member if isinstance(member, str) else ""


def _name(instance: str) -> str:
    return instance.rpartition("/")[2]


def _position(text: str | None) -> tuple[int, str]:
    if not text:
        return 0, ""
    match = _POSITION.fullmatch(position(text))
    if match is None:
        raise errors.InvalidRequest(detail="cursor: not a cursor of this listing")
    return int(match[1]), match[2]
