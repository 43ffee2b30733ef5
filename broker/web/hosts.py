"""By which keys instances must prove themselves, and who accepts new ones: `/v1/hosts`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any, Protocol

from pydantic import Field

from broker import errors
from broker.audit.stores import StoredHostKeys
from broker.audit.views import Views
from broker.issuing import rooms
from broker.issuing.refusals import refusal
from broker.model import (
    Action,
    Caller,
    Clock,
    Decision,
    Event,
    Instance,
    InstanceRef,
    Receipt,
    RequestContext,
    Source,
)
from broker.web.encoding import base64_text, cursor, position
from broker.web.routes import Answer, AnyRoute, Guarded, Input, Nothing, Output, Visit, guarded_get


class HostOut(Output):
    """What an instance is held to. A key is written `<algorithm> <SHA-256 in hex>`.

    `offered` are the keys that AWS named last when these were not all pinned ones; empty when nothing has changed.
    """

    account: str
    region: str
    name: str
    host_keys: list[str]
    audit_index: int
    offered: list[str]
    offered_audit_index: int | None


class HostPage(Output):
    """Hosts, by name."""

    items: list[HostOut]
    next_cursor: str | None


class ReceiptOut(Output):
    """Where the audit log holds the event."""

    index: int
    leaf_hash: str


class AcceptedOut(Output):
    """What the instance is held to from now on."""

    host_keys: list[str]
    audit: ReceiptOut


class HostQuery(Input):
    """Where to go on in the listing, and how far."""

    changed: bool = False
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    cursor: Annotated[str, Field(max_length=1000)] | None = None


class AcceptBody(Input):
    """The keys to accept, as they are shown, and why."""

    host_keys: Annotated[list[Annotated[str, Field(max_length=200)]], Field(min_length=1, max_length=64)]
    reason: Annotated[str, Field(max_length=2000)] = ""
    ticket: Annotated[str, Field(max_length=200)] = ""


class Inventory(rooms.Inventory, Protocol):
    """Knows which instances there are."""

    async def instances(self) -> tuple[Instance, ...]:
        """Answer all instances of all accounts and regions."""
        ...


class Log(Protocol):
    """The log, as far as this room writes to it."""

    async def append(self, event: Event) -> Receipt:
        """Write one event."""
        ...


class Hosts:
    """The routes of host keys."""

    def __init__(
        self,
        views: Views,
        log: Log,
        inventory: Inventory,
        policies: rooms.Policies,
        accounts: frozenset[str],
        clock: Clock,
    ) -> None:
        self._views = views
        self._log = log
        self._inventory = inventory
        self._policies = policies
        self._accounts = accounts
        self._clock = clock

    def routes(self) -> list[AnyRoute[Any, Any]]:
        """Answer the routes."""
        upstream = (errors.UpstreamError, errors.UpstreamUnavailable)
        return [
            guarded_get(
                "/v1/hosts",
                "List the host keys that instances are held to, and those that AWS names instead",
                self.list,
                query=HostQuery,
                answer=HostPage,
                errors=(errors.AuditUnavailable, *upstream),
            ),
            Guarded(
                method="POST",
                path="/v1/hosts/{account}/{region}/{name}/accept",
                summary="Accept the changed host keys of an instance",
                query=Nothing,
                body=AcceptBody,
                answer=AcceptedOut,
                errors=(
                    errors.Denied,
                    errors.StepUpRequired,
                    errors.ReasonRequired,
                    errors.TicketRequired,
                    errors.ApprovalRequired,
                    errors.HostKeyChanged,
                    errors.AuditUnavailable,
                    *upstream,
                ),
                handler=self.accept,
            ),
        ]

    async def list(self, visit: Visit[HostQuery, Nothing], caller: Caller) -> Answer:
        """Answer one page of the hosts whose keys the caller may accept, or whose account's log they may read."""
        after = position(visit.query.cursor) if visit.query.cursor else ""
        visible = await self._visible(caller, visit.source)
        found = [
            kept
            for kept in await self._views.all_host_keys()
            if kept.instance > after and visible(kept.instance) and (kept.offered or not visit.query.changed)
        ]
        page = found[: visit.query.limit]
        more = cursor(page[-1].instance) if len(found) > len(page) else None
        return Answer(HostPage(items=[_item(kept) for kept in page], next_cursor=more))

    async def accept(self, visit: Visit[Nothing, AcceptBody], caller: Caller) -> Answer:
        """Pin what AWS offers, if it is what the caller has looked at; hidden and missing are refused alike."""
        path, body = visit.path, visit.body
        event = Event(
            event="host_keys.accepted",
            outcome="success",
            request_id=visit.request_id,
            actor=caller,
            source=visit.source,
            reason=body.reason,
            ticket=body.ticket,
        )
        target = f"{path['account']}/{path['region']}/{path['name']}"
        found = await self._inventory.find(target)
        if len(found) != 1:
            raise await self._refuse(replace(event, target=target), errors.Denied("no such instance"))
        instance = found[0]
        decision = self._decide(caller, instance, visit.source, body)
        event = replace(event, instance=instance.ref, tags=instance.tags, decision=decision)
        if not decision.allowed:
            raise await self._refuse(event, refusal(decision))
        keys = _offered(await self._views.host_keys(instance.ref), body.host_keys, instance.ref)
        receipt = await self._log.append(replace(event, details={"host_keys": keys}))
        audit = ReceiptOut(index=receipt.index, leaf_hash=base64_text(receipt.leaf_hash))
        return Answer(AcceptedOut(host_keys=[*keys], audit=audit))

    async def _refuse(self, event: Event, error: errors.Refused) -> errors.Refused:
        """Record a refusal, and hand the error back, to be raised."""
        await self._log.append(replace(event, event="host_keys.refused", outcome="denied", error=error.code))
        return error

    def _decide(self, caller: Caller, instance: Instance, source: Source, body: AcceptBody) -> Decision:
        context = RequestContext(now=self._clock(), source_ip=source.ip, reason=body.reason, ticket=body.ticket)
        return self._policies.decide(caller, Action.APPROVE, instance, context, obliging=True)

    async def _visible(self, caller: Caller, source: Source) -> Callable[[str], bool]:
        """Answer what tells whether the caller may see the host keys of an instance."""
        context = RequestContext(now=self._clock(), source_ip=source.ip)
        readable = frozenset(
            account
            for account in self._accounts
            if self._policies.decide(caller, Action.READ_AUDIT, account, context).allowed
        )
        others = [each for each in await self._inventory.instances() if each.ref.account not in readable]
        decisions = await self._policies.decide_each(caller, Action.APPROVE, others, context)
        mine = {str(each.ref) for each, decision in zip(others, decisions, strict=True) if decision.allowed}
        return lambda name: name in mine or name.partition("/")[0] in readable


def _offered(kept: StoredHostKeys | None, stated: Sequence[str], instance: InstanceRef) -> tuple[str, ...]:
    """Answer the keys that AWS offers; raises HostKeyChanged unless they are the stated ones."""
    if kept is None or not kept.offered:
        raise errors.HostKeyChanged(
            detail="AWS has named no other host keys for this instance than those that it is held to.",
            next_step="A change shows when somebody asks for a credential.",
        )
    if set(stated) != set(kept.offered):
        raise errors.HostKeyChanged(
            detail="These are not the host keys that AWS named last for this instance.",
            next_step=f"Look at them again by `broker hosts show {instance}`.",
        )
    return tuple(sorted(kept.offered))


def _item(kept: StoredHostKeys) -> HostOut:
    account, region, name = kept.instance.split("/", 2)
    return HostOut(
        account=account,
        region=region,
        name=name,
        host_keys=[*kept.pinned],
        audit_index=kept.idx,
        offered=[*kept.offered],
        offered_audit_index=kept.offered_idx,
    )
