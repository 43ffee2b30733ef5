"""Doubles of the ledger's room: a clock that tests own, a store that fails when told, and events to write."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ParamSpec, TypeVar

from broker.audit.stores import Batch, Head, StoreError, Write
from broker.audit.stores.sqlite import SqliteStore
from broker.model import (
    Caller,
    CredentialFacts,
    Decision,
    Event,
    InstanceRef,
    Protocol,
    Source,
)

P = ParamSpec("P")
T = TypeVar("T")
NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


class ManualClock:
    """A clock that stands still until it is moved; each reading moves it by `step`."""

    def __init__(self, now: datetime = NOW, step: timedelta = timedelta(0)) -> None:
        self.now = now
        self.step = step

    def __call__(self) -> datetime:
        self.now += self.step
        return self.now


class FaultyStore(SqliteStore):
    """A real store whose commits can be held up, and fail before or after they are written."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.fail_before: StoreError | None = None
        self.fail_after: StoreError | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[int] = []

    def append(self, write: Write) -> None:
        """Wait for the gate; fail without writing, or write and fail, when told so."""
        self.gate.wait(10)
        if self.fail_before is not None:
            raise self.fail_before

        def counted(head: Head) -> Batch:
            batch = write(head)
            self.batches.append(len(batch.records))
            return batch

        super().append(counted)
        if self.fail_after is not None:
            raise self.fail_after


class InterruptedExecutor(ThreadPoolExecutor):
    """A thread that breaks after some calls, as a pool of processes does when one of them is killed."""

    def __init__(self, survived: int) -> None:
        super().__init__(1)
        self._left = survived

    def submit(self, call: Callable[P, T], /, *args: P.args, **options: P.kwargs) -> Future[T]:
        """Do a call; when none is left, the pool is broken and so is everything that it was asked."""
        self._left -= 1
        if self._left < -1:
            raise BrokenExecutor
        answer: Future[T] = super().submit(call, *args, **options) if self._left >= 0 else Future()
        if self._left < 0:
            answer.set_exception(BrokenExecutor())
        return answer


class BusyExecutor(ThreadPoolExecutor):
    """A thread, and something that happens before it is given the call of this number."""

    def __init__(self, number: int, happens: Callable[[], object]) -> None:
        super().__init__(1)
        self._left = number
        self._happens = happens

    def submit(self, call: Callable[P, T], /, *args: P.args, **options: P.kwargs) -> Future[T]:
        """Do a call."""
        self._left -= 1
        if self._left < 0:
            self._happens()
            self._left = sys.maxsize
        return super().submit(call, *args, **options)


def an_event(event: str = "credential.denied", number: int = 0, account: str = "main", **members: object) -> Event:
    """Make an event with everything in it; `members` replace what it has."""
    filled: dict[str, object] = {
        "event": event,
        "outcome": "success",
        "request_id": f"request-{number}",
        "actor": Caller(
            issuer="corp",
            subject="alice",
            kind="user",
            groups=("ops", "dev"),
            token_id="0123456789abcdef",
            token_expires_at=NOW,
        ),
        "source": Source("203.0.113.9", "broker/1.0"),
        "instance": InstanceRef(account, "eu-west-1", "web-1"),
        "protocol": Protocol.SSH,
        "reason": "to look at its logs",
        "ticket": "OPS-7",
        "decision": Decision(allowed=True, policies=("ops-ssh",), digest="d1ge57"),
        "lease_id": "lease-1",
        "expires_at": NOW,
        "credential": CredentialFacts(certificate_serial=2**63, key_id="alice", public_key_sha256="ab" * 32),
        **members,
    }
    return Event(**filled)  # type: ignore[arg-type]  # a table of members is how tests say what differs
