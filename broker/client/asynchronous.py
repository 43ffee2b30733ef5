"""The same client for programs on asyncio.

async with AsyncBroker.from_environment(os.environ) as broker:
    credential = await broker.credential("web-1", reason="deploy")
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from queue import Empty, LifoQueue
from typing import Self, TypeVar

from broker.client import Access, Broker
from broker.client.documents import (
    AcceptedDocument,
    BlueprintDocument,
    BundleDocument,
    CallerDocument,
    CompletedReceipt,
    CredentialDocument,
    DecisionDocument,
    HostDocument,
    InstanceDocument,
    LeaseItem,
    LockDocument,
    RequestDocument,
    UseDocument,
)

T = TypeVar("T")

CONNECTIONS = 8
"""How many calls run at once; further ones wait for their turn."""


class AsyncBroker:
    """The service, as a caller on asyncio sees it. Every coroutine raises a ClientError; listings come whole.

    Each call has a thread and a kept-alive connection of its own, so the loop is never held up and there is one
    implementation of the wire. A cancelled call is not waited for; the service may still have answered it, and it is
    in the audit log either way.

    Args:
        access: where the service is, and with which token.
        connections: how many calls run at once; further ones wait for their turn.
    """

    def __init__(self, access: Access, connections: int = CONNECTIONS) -> None:
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="broker-client")
        self._access = access
        self._idle: LifoQueue[Broker] = LifoQueue()
        self._brokers: list[Broker] = []

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], connections: int = CONNECTIONS) -> Self:
        """Make one from `BROKER_URL`, `BROKER_TOKEN`, … (see `Access.from_environment`)."""
        return cls(Access.from_environment(environment), connections)

    async def credential(
        self,
        instance: str,
        *,
        protocol: str | None = None,
        reason: str = "",
        ticket: str = "",
        break_glass: bool = False,
        idempotency_key: str = "",
    ) -> CredentialDocument:
        """Ask for a credential; see `Broker.credential`."""
        return await self._call(
            lambda broker: broker.credential(
                instance,
                protocol=protocol,
                reason=reason,
                ticket=ticket,
                break_glass=break_glass,
                idempotency_key=idempotency_key,
            )
        )

    async def decision(
        self,
        instance: str,
        *,
        protocol: str | None = None,
        reason: str = "",
        ticket: str = "",
        break_glass: bool = False,
    ) -> DecisionDocument:
        """Ask what the policies would say; see `Broker.decision`."""
        return await self._call(
            lambda broker: broker.decision(
                instance, protocol=protocol, reason=reason, ticket=ticket, break_glass=break_glass
            )
        )

    async def whoami(self) -> CallerDocument:
        """Answer how the service sees the caller."""
        return await self._call(Broker.whoami)

    async def instances(self) -> list[InstanceDocument]:
        """Answer the instances that the caller may reach."""
        return await self._call(lambda broker: list(broker.instances()))

    async def blueprints(self, *, include_inactive: bool = False) -> list[BlueprintDocument]:
        """Answer what instances are made from."""
        return await self._call(lambda broker: list(broker.blueprints(include_inactive=include_inactive)))

    async def bundles(self, *, blueprint: str = "", include_inactive: bool = False) -> list[BundleDocument]:
        """Answer the sizes; with a blueprint, only those that can run it."""
        asked = partial(Broker.bundles, blueprint=blueprint, include_inactive=include_inactive)
        return await self._call(lambda broker: list(asked(broker)))

    async def leases(self, *, instance: str = "", actor: str = "", account: str = "") -> list[LeaseItem]:
        """Answer the credentials that are out now, and that the caller may know of."""
        asked = partial(Broker.leases, instance=instance, actor=actor, account=account)
        return await self._call(lambda broker: list(asked(broker)))

    async def receipt(self, index: int) -> CompletedReceipt:
        """Answer what proves that an event is in the log."""
        return await self._call(lambda broker: broker.receipt(index))

    async def hosts(self) -> list[HostDocument]:
        """Answer the host keys that instances are held to."""
        return await self._call(lambda broker: list(broker.hosts()))

    async def accept_host_keys(self, host: HostDocument, *, reason: str = "", ticket: str = "") -> AcceptedDocument:
        """Accept the keys that a host offers, as they stand in it."""
        return await self._call(lambda broker: broker.accept_host_keys(host, reason=reason, ticket=ticket))

    async def request_access(
        self,
        instance: str,
        *,
        protocol: str | None = None,
        reason: str = "",
        ticket: str = "",
        duration: int = 0,
        starts_at: str = "",
        pending_for: int = 0,
    ) -> RequestDocument:
        """Ask for access that somebody has to approve; see `Broker.request_access`."""
        asked = partial(Broker.request_access, instance=instance, protocol=protocol, reason=reason, ticket=ticket)
        return await self._call(partial(asked, duration=duration, starts_at=starts_at, pending_for=pending_for))

    async def requests(self, show: str = "all") -> list[RequestDocument]:
        """Answer access requests: `mine`, `reviewable` by the caller, or `all` of these."""
        return await self._call(lambda broker: list(broker.requests(show)))

    async def request(self, request: str) -> RequestDocument:
        """Answer one access request by its id."""
        return await self._call(lambda broker: broker.request(request))

    async def answer_request(self, request: str, verb: str, *, reason: str = "") -> RequestDocument:
        """Do something to an access request: `approve`, `deny` or `cancel`."""
        return await self._call(lambda broker: broker.answer_request(request, verb, reason=reason))

    async def break_glass_uses(self, show: str = "all") -> list[UseDocument]:
        """Answer break-glass uses: `mine`, `reviewable` by the caller, or `all` of these."""
        return await self._call(lambda broker: list(broker.break_glass_uses(show)))

    async def review_break_glass(self, use: str, *, reason: str, verdict: str = "justified") -> UseDocument:
        """Sign a break-glass use off, as `justified` or `unjustified`."""
        return await self._call(lambda broker: broker.review_break_glass(use, reason=reason, verdict=verdict))

    async def locks(self) -> list[LockDocument]:
        """Answer the locks in force that the caller may take off."""
        return await self._call(lambda broker: list(broker.locks()))

    async def lock(self, kind: str, target: str, *, message: str, ttl: int = 0) -> LockDocument:
        """Keep somebody or something out; see `Broker.lock`."""
        return await self._call(lambda broker: broker.lock(kind, target, message=message, ttl=ttl))

    async def remove_lock(self, lock: str, *, reason: str = "") -> LockDocument:
        """Take a lock off."""
        return await self._call(lambda broker: broker.remove_lock(lock, reason=reason))

    async def close(self) -> None:
        """Wait for what still runs, and hang up."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        for broker in self._brokers:
            broker.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _call(self, ask: Callable[[Broker], T]) -> T:
        def work() -> T:
            with self._borrowed() as broker:
                return ask(broker)

        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    @contextmanager
    def _borrowed(self) -> Iterator[Broker]:
        """Lend a connection that nobody else has; there are never more of them than threads."""
        try:
            broker = self._idle.get_nowait()
        except Empty:
            broker = Broker(self._access)
            self._brokers.append(broker)
        try:
            yield broker
        finally:
            self._idle.put(broker)
