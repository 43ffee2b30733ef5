"""The rooms that the desks call, as far as they need them. Each is a small protocol; `wiring` says who keeps it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Protocol as Interface

from broker.approvals.glass import GlassUse
from broker.approvals.locks import Lock
from broker.approvals.requests import AccessRequest
from broker.model import (
    AccessDetails,
    Action,
    Caller,
    Credential,
    Decision,
    Event,
    Instance,
    InstanceRef,
    Nearest,
    Opened,
    PolicySource,
    Protocol,
    Receipt,
    RequestContext,
)


class Inventory(Interface):
    """Knows which instances there are."""

    async def find(self, target: str) -> tuple[Instance, ...]:
        """Answer all instances of a bare name, or the one of `account/region/name`; empty when there is none."""
        ...

    async def fresh(self, instance: Instance, within: timedelta) -> Instance:
        """Answer an instance as AWS described it so recently.

        Raises Denied when it is gone, and UpstreamError or UpstreamUnavailable when AWS cannot be asked.
        """
        ...


class Policies(Interface):
    """Decides; an error is a denial."""

    def decide(
        self,
        caller: Caller,
        action: Action,
        resource: Instance | str,
        context: RequestContext,
        *,
        obliging: bool = False,
    ) -> Decision:
        """Answer one decision, made on one snapshot; `obliging`: a denial also says what would lift it."""
        ...

    async def decide_each(
        self, caller: Caller, action: Action, instances: Iterable[Instance], context: RequestContext
    ) -> Sequence[Decision]:
        """Answer the same question for many instances, in their order."""
        ...

    def within_reach(self, caller: Caller, action: Action, resource: Instance | str, context: RequestContext) -> bool:
        """Tell whether this is allowed, or would be after some step that the caller can take."""
        ...

    def sources(self, policies: Iterable[str]) -> tuple[PolicySource, ...]:
        """Answer where policies stand."""
        ...

    def nearest(self, caller: Caller, action: Action, resource: Instance, context: RequestContext) -> Nearest | None:
        """Answer which group more would allow what was denied; None when none does."""
        ...


class Gateway(Interface):
    """Asks AWS."""

    async def access_details(self, instance: Instance, protocol: Protocol) -> AccessDetails:
        """Call GetInstanceAccessDetails once, within a total deadline."""
        ...


class Vault(Interface):
    """Opens what AWS sealed."""

    async def open(self, details: AccessDetails, instance: Instance) -> Opened:
        """Answer the secrets in clear, checked against the instance as it was listed."""
        ...


class Ledger(Interface):
    """Remembers; durable when it answers."""

    async def append(self, event: Event, *, after: int | None = None) -> Receipt:
        """Write one event, with `after` only if that is still the newest of its thread.

        Raises AuditUnavailable when it cannot be made durable, and Superseded when the thread has gone on.
        """
        ...


class StoredThread(Interface):
    """The facts of one request, as the log keeps them."""

    @property
    def thread(self) -> str:
        """Its id."""
        ...

    @property
    def facts(self) -> str:
        """What its events said, as lines of JSON."""
        ...


class Threads(Interface):
    """Reads the threads of the log."""

    async def thread(self, thread: str) -> StoredThread | None:
        """Answer one; raises AuditUnavailable."""
        ...

    async def threads(self, kind: str, *, event: str | None = None, actor: str | None = None) -> Sequence[StoredThread]:
        """Answer those of a kind, the oldest first; raises AuditUnavailable."""
        ...


class HostKeys(Interface):
    """Knows by which host keys an instance must prove itself."""

    async def pinned(self, instance: InstanceRef) -> frozenset[str] | None:
        """Answer the pinned keys, as `HostKey.text` writes them; None before the first. Raises AuditUnavailable."""
        ...


class Approvals(Interface):
    """Knows what was approved beforehand."""

    async def in_force(self, caller: Caller, instance: InstanceRef, protocol: Protocol) -> AccessRequest | None:
        """Answer the approved request that opens this for the caller now. Raises AuditUnavailable."""
        ...


class Glass(Interface):
    """Knows who may break the glass again."""

    async def owed(self, caller: Caller) -> GlassUse | None:
        """Answer the caller's last use when nobody has reviewed it. Raises AuditUnavailable."""
        ...

    async def use(self, event: Event, caller: Caller) -> str:
        """Write down that the glass is broken; answer the thread of all that comes of it.

        Raises ReviewRequired and AuditUnavailable.
        """
        ...


class Locks(Interface):
    """Knows what is locked."""

    def on(self, instance: InstanceRef) -> Lock | None:
        """Answer the lock on an instance or its account, if there is one. Raises AuditUnavailable."""
        ...


class Budgets(Interface):
    """Knows how much is too much."""

    def spending(self, event: Event) -> AbstractAsyncContextManager[None]:
        """Count an issue while it is on its way to the log. Raises BudgetExhausted and AuditUnavailable."""
        ...


class Delivery(Interface):
    """Puts together what is handed over."""

    def __call__(
        self, instance: Instance, details: AccessDetails, opened: Opened, *, lease_expires_at: datetime, now: datetime
    ) -> Credential:
        """Answer the credential, with warnings that tell the truth about what expires."""
        ...
