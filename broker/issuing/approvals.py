"""Access requests: who may ask, who may answer, and what an approval opens.

Each step is decided by the policies of that moment, and is one event of the request's thread. A step is written only
after the newest event that it has seen, so of two that come at once, on whatever replicas, one wins and the other looks
again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import compress
from typing import Final
from uuid import uuid4

from broker.approvals.facts import Person, read
from broker.approvals.requests import (
    APPROVED,
    CANCELLED,
    CREATED,
    DENIED,
    EXPIRED,
    OPEN,
    AccessRequest,
    State,
    request_of,
)
from broker.errors import BrokerError, BudgetExhausted, Denied, InvalidRequest, NotFound, RequestClosed, Superseded
from broker.issuing.answering import Answering, Verb
from broker.issuing.desk import Asking
from broker.issuing.finding import find
from broker.issuing.refusals import refusal
from broker.issuing.rooms import Inventory, Ledger, Policies, StoredThread, Threads
from broker.model import (
    Action,
    Caller,
    Clock,
    Decision,
    Event,
    Instance,
    InstanceRef,
    Obligation,
    Protocol,
    Source,
    rfc3339,
)

KIND: Final = "request"
MAX_APPROVALS: Final = 5
MOST_PENDING: Final = 20
USUAL_DURATION: Final = timedelta(hours=1)
USUAL_PENDING: Final = timedelta(hours=8)
LONGEST_PENDING: Final = timedelta(days=7)
LONGEST_DURATION: Final = timedelta(days=7)
_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """When and for how long. Without a duration it is an hour, or what the policies allow when that is less."""

    duration: timedelta | None = None
    starts_at: datetime | None = None
    pending_for: timedelta = USUAL_PENDING


class ApprovalDesk:
    """Takes requests and what people say to them. Holds no state of its own."""

    def __init__(
        self, *, inventory: Inventory, policies: Policies, ledger: Ledger, threads: Threads, clock: Clock
    ) -> None:
        self._inventory = inventory
        self._policies = policies
        self._answering = Answering(inventory, policies, clock)
        self._ledger = ledger
        self._threads = threads
        self._clock = clock

    async def create(self, asking: Asking, wish: Wish) -> AccessRequest:
        """Take a request for what the policies allow with approvals, and with nothing less.

        Raises:
            InvalidRequest: it needs no approval, or the times make no sense.
            Refused: the policies would not allow it with any approvals, or not without a reason or a ticket.
        """
        now = self._clock()
        _check(wish, asking, now)
        try:
            instance = await find(self._inventory, self._policies, asking, now)
        except Denied as unknown:
            raise await self._refuse(asking.event(""), unknown) from None
        protocol = asking.request.protocol or instance.platform.protocol
        event = replace(asking.event(""), instance=instance.ref, tags=instance.tags, target="", protocol=protocol)
        decision = self._policies.decide(asking.caller, Action(protocol), instance, asking.context(now), obliging=True)
        if decision.allowed:
            raise InvalidRequest(
                detail="The policies allow this without an approval.", next_step="Ask for the credential itself."
            )
        granted = self._fewest(_imagined(asking, instance.ref, protocol, now), instance, asking.source.ip, 1, now)
        if granted is None:
            raise await self._refuse(replace(event, decision=decision), _without_approval(decision))
        await self._spare(asking.caller, now)  # only now: it must not tell a hidden instance from none
        needed, by = granted
        longest = by.max_duration or LONGEST_DURATION
        thread = uuid4().hex
        details: dict[str, str | int] = {
            "thread": thread,
            "duration": int(min(wish.duration or USUAL_DURATION, longest).total_seconds()),
            "pending_until": rfc3339(now + wish.pending_for),
            "approvals_needed": needed,
        }
        details |= {"wanted_start": rfc3339(wish.starts_at)} if wish.starts_at else {}
        created = replace(event, event=CREATED, decision=by, details=details | _email(asking.caller))
        await self._ledger.append(created, after=-1)
        return await self._read(thread)

    async def _spare(self, caller: Caller, now: datetime) -> None:
        """Hold a caller to so many requests that wait: approvers are not to be flooded."""
        waiting = [each for each in await self.mine(caller) if each.state(now) is State.PENDING]
        if len(waiting) >= MOST_PENDING:
            raise BudgetExhausted(
                detail=f"{MOST_PENDING} of your requests wait for an answer already.",
                next_step="Take some back by `broker request cancel`, or wait until they are answered.",
            )

    async def approve(self, id: str, verb: Verb) -> AccessRequest:  # noqa: A002 - what it is called everywhere
        """Say yes. The last yes that is needed starts the clock, by what the policies allow then.

        Raises:
            NotFound: there is none that the caller may see.
            RequestClosed: it is not pending.
            Refused: the caller may not, or not without more; nobody approves their own.
        """
        return await self._again(lambda: self._approve(id, verb))

    async def _approve(self, id: str, verb: Verb) -> AccessRequest:  # noqa: A002 - as above
        request, instance, decision = await self._to_answer(id, verb)
        if any(approver.is_same(Person.of(verb.caller)) for approver in request.approvers):
            return request
        now = self._clock()
        given = len(request.approvals) + 1
        granted = self._fewest(request, instance, verb.source.ip, given, now)
        if granted is None:
            raise RequestClosed(
                detail="The policies do not allow what was asked for any more, whoever approves it.",
                next_step="Deny it, or change the policies.",
            )
        needed, by = granted
        details: dict[str, str | int] = {"thread": id, "approvals_needed": needed}
        if needed == given:
            begin = max(now, request.wanted_start or now)
            longest = by.max_duration or LONGEST_DURATION
            details |= {"starts_at": rfc3339(begin), "ends_at": rfc3339(begin + min(request.duration, longest))}
        await self._tell(APPROVED, request, verb, decision, details)
        return await self._read(id)

    async def deny(self, id: str, verb: Verb) -> AccessRequest:  # noqa: A002 - as above
        """Say no; raises as `approve` does."""
        return await self._again(lambda: self._deny(id, verb))

    async def _deny(self, id: str, verb: Verb) -> AccessRequest:  # noqa: A002 - as above
        request, _, decision = await self._to_answer(id, verb)
        await self._tell(DENIED, request, verb, decision, {"thread": id})
        return await self._read(id)

    async def cancel(self, id: str, verb: Verb) -> AccessRequest:  # noqa: A002 - as above
        """Take one's own request back, approved or not.

        Raises:
            NotFound: there is none of the caller's.
            RequestClosed: it has come to its end.
        """
        return await self._again(lambda: self._cancel(id, verb))

    async def _cancel(self, id: str, verb: Verb) -> AccessRequest:  # noqa: A002 - as above
        request = await self._read(id)
        if not request.requester.is_same(Person.of(verb.caller)):
            raise NotFound
        _require(request, self._clock(), State.PENDING, State.APPROVED)
        await self._tell(CANCELLED, request, verb, None, {"thread": id})
        return await self._read(id)

    async def show(self, id: str, caller: Caller, source: Source) -> AccessRequest:  # noqa: A002 - as above
        """Answer one that is the caller's, or that the caller may answer; raises NotFound."""
        request = await self._read(id)
        if not request.requester.is_same(Person.of(caller)):
            [may] = await self._answering.may(caller, source, [request.instance])
            if not may:
                raise NotFound
        return request

    async def mine(self, caller: Caller) -> Sequence[AccessRequest]:
        """Answer the caller's own, the oldest first."""
        return [_folded(stored) for stored in await self._threads.threads(KIND, actor=str(caller))]

    async def reviewable(self, caller: Caller, source: Source) -> Sequence[AccessRequest]:
        """Answer those that wait for somebody like the caller, the oldest first."""
        now, me = self._clock(), Person.of(caller)
        found = [_folded(stored) for event in OPEN for stored in await self._threads.threads(KIND, event=event)]
        waiting = [
            request
            for request in sorted(found, key=lambda request: request.index)
            if request.state(now) is State.PENDING
            and not any(person.is_same(me) for person in (request.requester, *request.approvers))
        ]
        may = await self._answering.may(caller, source, [request.instance for request in waiting])
        return list(compress(waiting, may))

    async def in_force(self, caller: Caller, instance: InstanceRef, protocol: Protocol) -> AccessRequest | None:
        """Answer the approved request that opens this for the caller now, the one that lasts longest."""
        now = self._clock()
        stored = await self._threads.threads(KIND, event=APPROVED, actor=str(caller))
        fitting = [
            request
            for request in map(_folded, stored)
            if request.instance == instance and request.protocol is protocol and request.is_in_force(now)
        ]
        return max(fitting, key=lambda request: request.ends_at or now, default=None)

    async def expire(self) -> None:
        """Write down which requests have waited in vain."""
        now = self._clock()
        for event in OPEN:
            for request in map(_folded, await self._threads.threads(KIND, event=event)):
                if request.state(now) is State.EXPIRED:
                    expired = Event(
                        event=EXPIRED,
                        outcome="success",
                        instance=request.instance,
                        protocol=request.protocol,
                        details={"thread": request.id},
                    )
                    await self._append(expired, request.last_index)

    async def _append(self, event: Event, after: int) -> None:
        """Write a step that another replica may have written already."""
        try:
            await self._ledger.append(event, after=after)
        except Superseded:
            return

    async def _to_answer(self, id: str, verb: Verb) -> tuple[AccessRequest, Instance, Decision]:  # noqa: A002 - as above
        """Answer what a caller is about to decide on, if that is for them to decide."""
        request = await self._read(id)
        standing = await self._answering.standing(verb, request.requester, request.instance)
        instance, decision, error = standing.instance, standing.decision, standing.error
        if error or not instance or not decision:
            event = replace(_event(request, verb), decision=decision, details={"request": id})
            raise await self._refuse(event, error or NotFound())
        _require(request, self._clock(), State.PENDING)
        return request, instance, decision

    def _fewest(
        self, request: AccessRequest, instance: Instance, source_ip: str, given: int, now: datetime
    ) -> tuple[int, Decision] | None:
        """Answer with how few approvals, not fewer than given, the policies of now would allow it; None: with none."""
        for approvals in range(given, MAX_APPROVALS + 1):
            requester, context = request.at_best(now, approvals, source_ip)
            decision = self._policies.decide(requester, Action(request.protocol), instance, context)
            if decision.allowed:
                return approvals, decision
        return None

    async def _tell(
        self,
        name: str,
        request: AccessRequest,
        verb: Verb,
        decision: Decision | None,
        details: Mapping[str, str | int],
    ) -> None:
        event = replace(
            _event(request, verb), event=name, decision=decision, details={**details, **_email(verb.caller)}
        )
        await self._ledger.append(event, after=request.last_index)

    async def _refuse(self, event: Event, error: BrokerError) -> BrokerError:
        code = Denied.code if isinstance(error, NotFound) else error.code
        await self._ledger.append(replace(event, event="request.refused", outcome="denied", error=code))
        return error

    async def _read(self, id: str) -> AccessRequest:  # noqa: A002 - as above
        stored = await self._threads.thread(id)
        if stored is None or not stored.facts.startswith("{") or '"event":"request.' not in stored.facts:
            raise NotFound
        return _folded(stored)

    async def _again(self, step: Callable[[], Awaitable[AccessRequest]]) -> AccessRequest:
        """Look again when somebody else was faster."""
        for _ in range(_ATTEMPTS - 1):
            try:
                return await step()
            except Superseded:
                continue
        return await step()


def _check(wish: Wish, asking: Asking, now: datetime) -> None:
    if asking.request.break_glass:
        raise InvalidRequest(detail="Breaking the glass waits for nobody: ask for the credential itself.")
    if wish.duration is not None and not timedelta(minutes=1) <= wish.duration <= LONGEST_DURATION:
        raise InvalidRequest(detail="duration: from 1 minute to 7 days")
    if not timedelta(minutes=1) <= wish.pending_for <= LONGEST_PENDING:
        raise InvalidRequest(detail="pending_for: from 1 minute to 7 days")
    if wish.starts_at is not None and not now <= wish.starts_at <= now + timedelta(days=30):
        raise InvalidRequest(detail="starts_at: from now on, within 30 days")


def _imagined(asking: Asking, instance: InstanceRef, protocol: Protocol, now: datetime) -> AccessRequest:
    """Answer the request as it would be, to ask what it needs."""
    caller = asking.caller
    return AccessRequest(
        id="",
        index=-1,
        last_index=-1,
        requester=Person.of(caller),
        kind=caller.kind,
        groups=caller.groups,
        instance=instance,
        protocol=protocol,
        reason=asking.request.reason,
        ticket=asking.request.ticket,
        created_at=now,
        duration=USUAL_DURATION,
        wanted_start=None,
        pending_until=now,
        approvals_needed=1,
    )


def _without_approval(decision: Decision) -> BrokerError:
    """Answer why no approval helps: what a request itself must hold is missing, or nothing would be enough."""
    mine = (step for step in decision.steps if step.obligation in {Obligation.REASON, Obligation.TICKET})
    return refusal(replace(decision, steps=tuple(mine)))


def _event(request: AccessRequest, verb: Verb) -> Event:
    return Event(
        event="",
        outcome="success",
        request_id=verb.request_id,
        actor=verb.caller,
        source=verb.source,
        instance=request.instance,
        protocol=request.protocol,
        reason=verb.reason,
    )


def _email(caller: Caller) -> dict[str, str | int]:
    """Answer the verified address, by which two accounts of one person are told."""
    return {"email": caller.email} if caller.email else {}


def _require(request: AccessRequest, now: datetime, *states: State) -> None:
    if (state := request.state(now)) not in states:
        raise RequestClosed(detail=f"This request is {state}.")


def _folded(stored: StoredThread) -> AccessRequest:
    return request_of(stored.thread, read(stored.facts))
