"""A real log under a clock that the test moves, and desks that write and read it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.audit.checkpoints import Signer
from broker.audit.leaves import parse
from broker.audit.log import AuditLog, create
from broker.audit.stores import opening
from broker.audit.views import Views
from broker.model import Caller
from tests.doubles.audit import NOW, ManualClock


@dataclass
class Book:
    """The log, its views, and the time."""

    url: str
    log: AuditLog
    views: Views
    clock: ManualClock = field(default_factory=ManualClock)

    def later(self, **time: float) -> None:
        self.clock.now += timedelta(**time)

    def events(self, *prefixes: str) -> list[dict[str, Any]]:
        with closing(opening.reader(self.url)) as reader:
            found = [parse(record.leaf) for record in reader.records(0, 10_000)]
        return [event for event in found if str(event["event"]).startswith(prefixes)]


@asynccontextmanager
async def a_book(tmp_path: Path) -> AsyncIterator[Book]:
    """Open a new log."""
    url, clock = f"sqlite:///{tmp_path}/audit.db", ManualClock()
    signer = Signer("broker.example.com/audit", Ed25519PrivateKey.generate())
    create(opening.store(url), signer, clock)
    log = await AuditLog.open(opening.store(url), signer, clock=clock)
    views = Views(lambda: opening.reader(url), nearby=True)
    yield Book(url, log, views, clock)
    await views.close()
    await log.close()


@pytest.fixture
async def book(tmp_path: Path) -> AsyncIterator[Book]:
    async with a_book(tmp_path) as book:
        yield book


def person(name: str, *groups: str, email: str | None = None) -> Caller:
    """Answer somebody whose token lasts longer than any test."""
    end = NOW + timedelta(days=365)
    return Caller(issuer="corp", subject=name, kind="user", groups=groups, email=email, token_expires_at=end)
