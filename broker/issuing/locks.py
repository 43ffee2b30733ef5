"""Locks: what keeps a person, a program, an instance or an account out, whatever the policies say.

Each broker looks into the log for them several times a second. One that has not been able to for some seconds does not
know who is locked, and lets nobody in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from time import monotonic
from typing import Final
from uuid import uuid4

from broker.approvals.facts import read
from broker.approvals.locks import CREATED, EXPIRED, REMOVED, Lock, LockKind, lock_of
from broker.errors import AuditUnavailable, BrokerError, InvalidRequest, Locked, NotFound, RequestClosed, Superseded
from broker.issuing.answering import Verb
from broker.issuing.refusals import locked, refusal
from broker.issuing.rooms import Inventory, Ledger, Policies, StoredThread, Threads
from broker.model import (
    Action,
    Caller,
    Clock,
    Decision,
    Event,
    InstanceRef,
    RequestContext,
    Source,
    is_resource_name,
    rfc3339,
)

KIND: Final = "lock"
LOOK_SECONDS: Final = 0.3
STALE_SECONDS: Final = 5.0
_PERSONAL: Final = frozenset({LockKind.USER, LockKind.WORKLOAD})


@dataclass(frozen=True, slots=True, kw_only=True)
class LockWish:
    """What is to be locked. `target` is `issuer/subject`, an instance or an account; without `ttl` until removed."""

    kind: LockKind
    target: str
    ttl: timedelta | None = None


class LockDesk:
    """Keeps the locks in force at hand, and takes new ones.

    Args:
        inventory: Knows instances by their bare names.
        policies: Decide who may lock, by the action `lock` on an account.
        ledger: Where locks are written.
        threads: Where they are read.
        issuers: Whom each issuer vouches for, `user` or `workload`, by its name.
        accounts: The names of all accounts.
        clock: The time.
        now: Seconds that only go forward, for the age of what is at hand.
    """

    def __init__(
        self,
        *,
        inventory: Inventory,
        policies: Policies,
        ledger: Ledger,
        threads: Threads,
        issuers: Mapping[str, str],
        accounts: frozenset[str],
        clock: Clock,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._inventory = inventory
        self._policies = policies
        self._ledger = ledger
        self._threads = threads
        self._issuers = issuers
        self._accounts = accounts
        self._clock = clock
        self._now = now
        self._known: Sequence[Lock] = ()
        self._looked_at = float("-inf")

    async def look(self) -> None:
        """Read which locks there are; raises AuditUnavailable."""
        began = self._now()
        self._known = [_folded(stored) for stored in await self._threads.threads(KIND, event=CREATED)]
        self._looked_at = began

    async def watch(self, every: float = LOOK_SECONDS) -> None:
        """Keep what is at hand fresh, until cancelled."""
        while True:
            with suppress(AuditUnavailable):  # whoever asks is told, as soon as what is at hand is too old
                await self.look()
            await asyncio.sleep(every)

    def _in_force(self) -> Sequence[Lock]:
        if self._now() - self._looked_at > STALE_SECONDS:
            raise AuditUnavailable("nobody knows who is locked", retry_after=1)
        now = self._clock()
        return [lock for lock in self._known if lock.holds(now)]

    def on(self, instance: InstanceRef) -> Lock | None:
        """Answer the lock on an instance or its account, if there is one; raises AuditUnavailable."""
        return next((lock for lock in self._in_force() if lock.is_on_instance(instance)), None)

    async def admit(self, caller: Caller, source: Source, request_id: str, route: str) -> None:
        """Let in who is not locked.

        Raises:
            Locked: the caller is; that they came is in the log.
            AuditUnavailable: nobody knows, or it cannot be written.
        """
        lock = next((lock for lock in self._in_force() if lock.is_on_caller(caller)), None)
        if lock is None:
            return
        event = Event(
            event="lock.refused",
            outcome="denied",
            request_id=request_id,
            actor=caller,
            source=source,
            error=Locked.code,
            details={"lock": lock.id, "route": route},
        )
        await self._ledger.append(event)
        raise locked(lock)

    async def create(self, wish: LockWish, verb: Verb) -> Lock:
        """Lock something; here at once, and with every other broker within a second.

        Raises:
            InvalidRequest: there is nobody and nothing of this name.
            Refused: the policies do not let the caller lock it.
        """
        target, instance = await self._target(wish)
        event = Event(
            event=CREATED,
            outcome="success",
            request_id=verb.request_id,
            actor=verb.caller,
            source=verb.source,
            instance=instance,
            target="" if instance else target,
            reason=verb.reason,
        )
        event = replace(event, decision=await self._permit(event, wish.kind, target, verb))
        thread = uuid4().hex
        details = {"thread": thread, "kind": wish.kind.value, "target": target}
        details |= {"until": rfc3339(self._clock() + wish.ttl)} if wish.ttl else {}
        await self._ledger.append(replace(event, details=details), after=-1)
        await self.look()
        return await self._read(thread)

    async def remove(self, id: str, verb: Verb) -> Lock:  # noqa: A002 - what it is called everywhere
        """Take a lock off.

        Raises:
            NotFound: there is none that the caller may see.
            RequestClosed: it is off already.
            Refused: the caller may not, or not without more.
        """
        lock = await self._read(id)
        if not self._may_see(verb.caller, verb.source, lock):
            raise NotFound
        event = Event(
            event=REMOVED,
            outcome="success",
            request_id=verb.request_id,
            actor=verb.caller,
            source=verb.source,
            instance=InstanceRef.parse(lock.target) if lock.kind is LockKind.INSTANCE else None,
            target="" if lock.kind is LockKind.INSTANCE else lock.target,
            reason=verb.reason,
            details={"thread": id, "kind": lock.kind.value, "target": lock.target},
        )
        event = replace(event, decision=await self._permit(event, lock.kind, lock.target, verb))
        if not lock.holds(self._clock()):
            raise _off()
        try:
            await self._ledger.append(event, after=lock.last_index)
        except Superseded:
            raise _off() from None
        await self.look()
        return await self._read(id)

    async def locks(self, caller: Caller, source: Source) -> Sequence[Lock]:
        """Answer the locks in force that the caller may take off, the oldest first; raises AuditUnavailable."""
        await self.look()
        return [lock for lock in self._in_force() if self._may_see(caller, source, lock)]

    async def expire(self) -> None:
        """Write down which locks have come to their end."""
        now = self._clock()
        for lock in map(_folded, await self._threads.threads(KIND, event=CREATED)):
            if not lock.holds(now):
                details = {"thread": lock.id, "target": lock.target}
                expired = Event(event=EXPIRED, outcome="success", target=lock.target, details=details)
                try:
                    await self._ledger.append(expired, after=lock.last_index)
                except Superseded:
                    continue  # by another broker, or somebody has just taken it off

    async def _target(self, wish: LockWish) -> tuple[str, InstanceRef | None]:
        """Answer what exactly is meant: a lock on nobody would keep nobody out."""
        if wish.kind in _PERSONAL:
            issuer, slash, subject = wish.target.partition("/")
            kinds = (name for name, kind in self._issuers.items() if kind == wish.kind.value)
            if not slash or not subject or self._issuers.get(issuer) != wish.kind.value:
                names = ", ".join(sorted(kinds)) or "none"
                raise InvalidRequest(
                    detail=f"target: write ISSUER/SUBJECT; issuers that vouch for a {wish.kind} are: {names}."
                )
            return wish.target, None
        if wish.kind is LockKind.ACCOUNT:
            if wish.target not in self._accounts:
                raise InvalidRequest(detail=f"target: the accounts are {', '.join(sorted(self._accounts))}.")
            return wish.target, None
        ref = InstanceRef.parse(wish.target)
        if ref and ref.account in self._accounts:
            return str(ref), ref  # one that is not there yet, or not any more, may be locked too
        found = await self._inventory.find(wish.target) if is_resource_name(wish.target) else ()
        if len(found) != 1:
            raise InvalidRequest(
                detail="target: no instance, or more than one, has this name.",
                next_step="Write account/region/name.",
            )
        return str(found[0].ref), found[0].ref

    def _concerned(self, kind: LockKind, target: str) -> Sequence[str]:
        """Answer the accounts on which one must be allowed to lock: a person is kept out of all."""
        return sorted(self._accounts) if kind in _PERSONAL else [target.partition("/")[0]]

    async def _permit(self, event: Event, kind: LockKind, target: str, verb: Verb) -> Decision:
        """Answer the decision that permits it, of the last account that is concerned."""
        context = RequestContext(now=self._clock(), source_ip=verb.source.ip, reason=verb.reason)
        decision = Decision(allowed=False)
        for account in self._concerned(kind, target):
            decision = self._policies.decide(verb.caller, Action.LOCK, account, context, obliging=True)
            if not decision.allowed:
                error: BrokerError = refusal(decision)
                refused = replace(event, event="lock.refused", outcome="denied", decision=decision, error=error.code)
                await self._ledger.append(replace(refused, details={"kind": kind.value, "target": target}))
                raise error
        return decision

    def _may_see(self, caller: Caller, source: Source, lock: Lock) -> bool:
        context = RequestContext(now=self._clock(), source_ip=source.ip)
        return all(
            self._policies.within_reach(caller, Action.LOCK, account, context)
            for account in self._concerned(lock.kind, lock.target)
        )

    async def _read(self, id: str) -> Lock:  # noqa: A002 - as above
        stored = await self._threads.thread(id)
        if stored is None or '"event":"lock.' not in stored.facts:
            raise NotFound
        return _folded(stored)


def _off() -> RequestClosed:
    return RequestClosed(detail="This lock is off already.")


def _folded(stored: StoredThread) -> Lock:
    return lock_of(stored.thread, read(stored.facts))
