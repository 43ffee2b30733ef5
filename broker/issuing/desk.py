"""The credential desk: the one place that knows the order of the steps.

find → is it locked? → decide → within the budget? → break the glass, if that is what it takes → record the request →
ask AWS → compare the host keys → open → record the issue → hand over. Nothing is asked of AWS before the request is
durable, and nothing leaves before the issue is. An instance is held to the host keys
that AWS named when its first credential was issued, until somebody who may accepts others.
"""

from __future__ import annotations

from asyncio import CancelledError
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final
from uuid import uuid4

from broker.approvals.locks import Lock
from broker.approvals.requests import AccessRequest
from broker.errors import (
    BrokerError,
    BudgetExhausted,
    Denied,
    Refused,
    ReviewRequired,
    Upstream,
)
from broker.issuing.finding import find
from broker.issuing.refusals import changed, locked, refusal, unspoken
from broker.issuing.rooms import (
    Approvals,
    Budgets,
    Delivery,
    Gateway,
    Glass,
    HostKeys,
    Inventory,
    Ledger,
    Locks,
    Policies,
    Vault,
)
from broker.model import (
    Action,
    Caller,
    Clock,
    Credential,
    CredentialFacts,
    CredentialRequest,
    Decision,
    Event,
    Instance,
    InstanceRef,
    Issued,
    Lease,
    Obligation,
    Opened,
    Outcome,
    Protocol,
    RequestContext,
    Source,
    Step,
)
from broker.stages import DECISION, LIGHTSAIL, RECORD, UNSEALING, stage

GLASS_BROKEN: Final = (
    "You broke the glass: people have been told, and you cannot do so again before somebody has reviewed this use."
)
GLASS_WHOLE: Final = "The glass is whole: the policies allow this without breaking it."


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """One request on its way: who asks for what, from where, under which id."""

    caller: Caller
    request: CredentialRequest
    source: Source
    request_id: str

    def event(self, name: str) -> Event:
        """Answer the part of an event that all events of this request share."""
        return Event(
            event=name,
            outcome="success",
            request_id=self.request_id,
            actor=self.caller,
            source=self.source,
            target=self.request.instance,
            reason=self.request.reason,
            ticket=self.request.ticket,
            break_glass=self.request.break_glass,
        )

    @property
    def ordinary(self) -> Asking:
        """The same without breaking any glass."""
        return replace(self, request=replace(self.request, break_glass=False))

    def context(self, now: datetime) -> RequestContext:
        """Answer what a policy may ask about this request."""
        return RequestContext(
            now=now,
            source_ip=self.source.ip,
            reason=self.request.reason,
            ticket=self.request.ticket,
            break_glass=self.request.break_glass,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What was decided about what, on which approved request it rests, and whether it takes breaking the glass."""

    instance: Instance
    decision: Decision
    request: AccessRequest | None = None
    breaks_glass: bool = False


@dataclass(slots=True, kw_only=True)
class _Known:
    """What is known of a request so far. It grows with every step, and each event tells all of it."""

    asking: Asking
    instance: Instance | None = None
    protocol: Protocol | None = None
    decision: Decision | None = None
    breaks_glass: bool = False
    lease: Lease | None = None
    lease_id: str = ""
    credential: CredentialFacts | None = None
    upstream_request_id: str = ""
    pins: tuple[str, ...] = ()
    """The host keys that the instance is held to from now on, when this is its first credential."""
    details: dict[str, str | int | tuple[str, ...]] = field(default_factory=dict)

    def event(self, name: str, outcome: Outcome = "success", error: str = "") -> Event:
        """Answer an event of this request."""
        request = self.asking.request
        return Event(
            event=name,
            outcome=outcome,
            request_id=self.asking.request_id,
            actor=self.asking.caller,
            source=self.asking.source,
            instance=self.instance.ref if self.instance else None,
            tags=self.instance.tags if self.instance else {},
            target="" if self.instance else request.instance,
            protocol=self.protocol,
            reason=request.reason,
            ticket=request.ticket,
            break_glass=self.breaks_glass,
            decision=self.decision,
            lease_id=self.lease_id,
            expires_at=self.lease.expires_at if self.lease else None,
            credential=self.credential,
            upstream_request_id=self.upstream_request_id,
            error=error,
            details={**self.details},
        )

    def failed(self, error: BaseException) -> Event:
        """Answer the event that closes this request without a credential."""
        if isinstance(error, CancelledError):  # AWS may have minted, and nobody waited for the answer
            return self.event("credential.failed", "unknown", "outcome_unknown")
        if isinstance(error, BrokerError):
            self.upstream_request_id = self.upstream_request_id or error.upstream_request_id
            self.details |= _attempts(error.attempts)
            if error.upstream_code:
                self.details["upstream_code"] = error.upstream_code
        return self.event(
            "credential.failed", "failure", error.code if isinstance(error, BrokerError) else BrokerError.code
        )


class CredentialDesk:
    """Issues credentials. Holds no state of its own: everything that lasts is in the log."""

    def __init__(  # noqa: PLR0913 - one for each step
        self,
        *,
        inventory: Inventory,
        policies: Policies,
        gateway: Gateway,
        vault: Vault,
        ledger: Ledger,
        host_keys: HostKeys,
        approvals: Approvals,
        glass: Glass,
        locks: Locks,
        budgets: Budgets,
        delivery: Delivery,
        clock: Clock,
    ) -> None:
        self._inventory = inventory
        self._policies = policies
        self._gateway = gateway
        self._vault = vault
        self._ledger = ledger
        self._host_keys = host_keys
        self._approvals = approvals
        self._glass = glass
        self._locks = locks
        self._budgets = budgets
        self._delivery = delivery
        self._clock = clock

    async def issue(self, asking: Asking) -> Issued:
        """Issue one credential, or raise the BrokerError that says why not.

        A refusal leaves one `credential.denied`; a permit leaves `credential.requested` and then exactly one of
        `credential.issued` and `credential.failed`. An issue may be followed by `credential.withheld`.
        """
        known = _Known(asking=asking, breaks_glass=asking.request.break_glass)
        ruling = await self._permit(known)
        known.lease_id, known.breaks_glass = uuid4().hex, ruling.breaks_glass
        with stage(RECORD):
            await self._begin(known)
        try:
            credential, lease = await self._make(known, ruling)
        except BaseException as error:  # a request that is cancelled by a stop is closed too
            await self._ledger.append(known.failed(error))
            raise
        if known.pins:
            known.details["host_keys"] = known.pins
        # The last gate: a credential whose event is not durable does not exist.
        with stage(RECORD):
            receipt = await self._ledger.append(known.event("credential.issued"))
        if known.pins:
            await self._confirm(known, ruling.instance.ref)
        return Issued(credential=credential, lease=lease, decision=ruling.decision, receipt=receipt)

    async def _permit(self, known: _Known) -> Ruling:
        """Find what is meant and decide; raise the refusal, once it is recorded."""
        asking = known.asking
        try:
            instance = await find(self._inventory, self._policies, asking, self._clock())
        except Denied as unknown:
            raise await self._refuse(known, unknown) from None
        known.instance = instance
        known.protocol = protocol = asking.request.protocol or instance.platform.protocol
        if lock := self._locks.on(instance.ref):
            raise await self._refuse(known, self._locked(asking, instance, protocol, lock))
        try:
            with stage(DECISION):
                ruling = await self._rule(asking, instance, protocol)
        except (Denied, Upstream) as error:
            raise await self._refuse(known, error) from None
        known.instance, known.decision = ruling.instance, ruling.decision
        known.details |= self._basis(ruling)
        if not ruling.decision.allowed:
            raise await self._refuse(known, refusal(ruling.decision))
        if protocol is not ruling.instance.platform.protocol:
            raise await self._refuse(known, unspoken(ruling.instance.platform))
        return ruling

    async def _make(self, known: _Known, ruling: Ruling) -> tuple[Credential, Lease]:
        """Have AWS mint, hold its answer to what is known of the instance, and put together what is handed over."""
        asking, instance = known.asking, ruling.instance
        with stage(LIGHTSAIL):
            access = await self._gateway.access_details(instance, instance.platform.protocol)
        known.upstream_request_id = access.upstream_request_id
        known.details |= _attempts(access.attempts)
        named = tuple(sorted({key.text for key in access.host_keys}))
        pinned = await self._host_keys.pinned(instance.ref)
        if pinned is None:
            known.pins = named
        elif not pinned.issuperset(named):
            known.details["host_keys"] = named
            raise changed(instance.ref)
        with stage(UNSEALING):
            opened = await self._vault.open(access, instance)
        now = self._clock()
        ends = _end(now, asking.caller, ruling.decision, opened, ruling.request)
        lease = Lease(id=known.lease_id, issued_at=now, expires_at=ends)
        credential = self._delivery(instance, access, opened, lease_expires_at=ends, now=now)
        if warnings := _about_glass(asking, ruling):
            credential = replace(credential, warnings=(*credential.warnings, *warnings))
        known.lease, known.credential = lease, opened.facts
        return credential, lease

    async def _confirm(self, known: _Known, instance: InstanceRef) -> None:
        """Hold a first issue to the pins once more: of two at once, the one that is first in the log has pinned."""
        try:
            if not (await self._host_keys.pinned(instance) or frozenset()).issuperset(known.pins):
                raise changed(instance)  # noqa: TRY301 -- recorded as any other reason to keep it
        except BaseException as error:
            known.lease = known.credential = None
            known.details = {name: value for name, value in known.details.items() if name == "thread"}
            await self._ledger.append(replace(known.failed(error), event="credential.withheld", outcome="failure"))
            raise

    async def preview(self, asking: Asking) -> Decision:
        """Decide as `issue` would, and issue nothing. An instance that is not there is a denial.

        Why not is told only to who may know that there is such an instance.
        """
        try:
            instance = await find(self._inventory, self._policies, asking, self._clock())
        except Denied:
            return Decision(allowed=False)
        protocol = asking.request.protocol or instance.platform.protocol
        if lock := self._locks.on(instance.ref):
            raise self._locked(asking, instance, protocol, lock)
        ruling = await self._rule(asking, instance, protocol)
        instance, decision = ruling.instance, ruling.decision
        if ruling.breaks_glass and await self._glass.owed(asking.caller):
            return replace(decision, allowed=False, policies=(), steps=(Step(obligation=Obligation.REVIEW),))
        decision = replace(decision, sources=self._policies.sources(decision.policies))
        if decision.allowed or decision.steps:
            return decision
        context = asking.context(self._clock())
        if not self._policies.decide(asking.caller, Action.LIST, instance, context).allowed:
            return Decision(allowed=False)
        nearest = self._policies.nearest(asking.caller, Action(protocol), instance, context)
        return replace(decision, nearest=nearest)

    async def _rule(self, asking: Asking, instance: Instance, protocol: Protocol) -> Ruling:
        """Decide; a permit that rests on fresher facts than ours is decided again, on what AWS says now."""
        ruling = await self._decide(asking, instance, protocol)
        bound = ruling.decision.max_staleness
        if not ruling.decision.allowed or bound is None or instance.read_at is None:
            return ruling
        if self._clock() - instance.read_at <= bound:
            return ruling
        return await self._decide(asking, await self._inventory.fresh(instance, bound), protocol)

    def _basis(self, ruling: Ruling) -> dict[str, str | int]:
        """Answer, for the log, which request a ruling rests on, and how many seconds ago AWS was asked for the tags."""
        on: dict[str, str | int] = {"request": ruling.request.id} if ruling.request else {}
        if ruling.instance.read_at is None:
            return on
        return on | {"tags_age": max(0, int((self._clock() - ruling.instance.read_at).total_seconds()))}

    async def _decide(self, asking: Asking, instance: Instance, protocol: Protocol) -> Ruling:
        """Ask the policies; the glass is broken only for what they do not allow without."""
        ruling = await self._decide_ordinary(asking.ordinary, instance, protocol)
        if ruling.decision.allowed or not asking.request.break_glass:
            return ruling
        context = asking.context(self._clock())
        decision = self._policies.decide(asking.caller, Action(protocol), instance, context, obliging=True)
        if decision.allowed and not context.reason.strip():  # whoever reviews it must have something to go by
            decision = replace(decision, allowed=False, policies=(), steps=(Step(obligation=Obligation.REASON),))
        return Ruling(instance=instance, decision=decision, breaks_glass=decision.allowed)

    async def _decide_ordinary(self, asking: Asking, instance: Instance, protocol: Protocol) -> Ruling:
        action, context = Action(protocol), asking.context(self._clock())
        decision = self._policies.decide(asking.caller, action, instance, context, obliging=True)
        if Obligation.APPROVAL not in decision.obligations:
            return Ruling(instance=instance, decision=decision)
        request = await self._approvals.in_force(asking.caller, instance.ref, protocol)
        if request is None:
            return Ruling(instance=instance, decision=decision)
        approved = replace(context, approvals=len(request.approvals))
        decision = self._policies.decide(asking.caller, action, instance, approved, obliging=True)
        return Ruling(instance=instance, decision=decision, request=request)

    def _locked(self, asking: Asking, instance: Instance, protocol: Protocol, lock: Lock) -> Refused:
        """Tell of a lock whoever may know of the instance; to others there is none."""
        context = asking.context(self._clock())
        actions = Action.LIST, Action(protocol)
        decisions = (self._policies.decide(asking.caller, each, instance, context) for each in actions)
        return locked(lock) if any(decision.allowed for decision in decisions) else Denied("locked")

    async def _begin(self, known: _Known) -> None:
        """Write the request down, durably, before anything is asked of AWS."""
        try:
            if known.breaks_glass:  # an emergency has its own bound: one, until somebody has looked at it
                known.details["thread"] = await self._glass.use(known.event(""), known.asking.caller)
                await self._ledger.append(known.event("credential.requested"))
            else:
                requested = known.event("credential.requested")
                async with self._budgets.spending(requested):
                    await self._ledger.append(requested)
        except (ReviewRequired, BudgetExhausted) as refused:
            known.lease_id = ""
            raise await self._refuse(known, refused) from None

    async def _refuse(self, known: _Known, error: BrokerError) -> BrokerError:
        """Record a refusal, with what went wrong in the policies, and hand the error back, to be raised."""
        if known.decision and known.decision.errors:
            known.details["policy_errors"] = known.decision.errors
        with stage(RECORD):
            await self._ledger.append(known.event("credential.denied", "denied", error.code))
        return error


def _about_glass(asking: Asking, ruling: Ruling) -> tuple[str, ...]:
    """Answer what whoever asked to break the glass should know."""
    if not asking.request.break_glass:
        return ()
    return (GLASS_BROKEN,) if ruling.breaks_glass else (GLASS_WHOLE,)


def _attempts(number: int) -> dict[str, int]:
    """Answer what the log says of a request that AWS received more than once: each may have minted."""
    return {"attempts": number} if number > 1 else {}


def _end(now: datetime, caller: Caller, decision: Decision, opened: Opened, request: AccessRequest | None) -> datetime:
    """Answer the earliest of what AWS says, what policies and approvals allow and what the token allows.

    A token is accepted for some seconds after its end; what it allows has ended by then, but not before now.
    """
    by_policy = now + decision.max_duration if decision.max_duration else None
    approved = request.ends_at if request else None
    return max(now, min(filter(None, (opened.expires_at, by_policy, approved, caller.token_expires_at))))
