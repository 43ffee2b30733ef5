"""What is out now, over a real log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.audit.checkpoints import Signer
from broker.audit.log import AuditLog, create
from broker.audit.stores.sqlite import SqliteStore
from broker.audit.stores.sqlite_reader import SqliteReader
from broker.audit.views import Views
from broker.delivery.credentials import LOGIN_ONLY, RDP_LIVES_ON
from broker.model import Action, Caller, Protocol
from broker.observability import Metrics
from broker.web import openapi
from broker.web.app import Edge
from broker.web.doors import Admission, Doors
from broker.web.leases import Leases
from broker.web.rates import RateLimit
from tests.doubles.audit import NOW, ManualClock, an_event
from tests.doubles.issuing import CALLER, Padlocks, TablePolicies
from tests.doubles.web import ListedTokens
from tests.web.test_openapi import Description

SIGNER = Signer("test.example/audit", Ed25519PrivateKey.generate())
ACCOUNTS = frozenset({"main", "other"})
ALICE = replace(CALLER, token_expires_at=NOW + timedelta(hours=1))
BOB = replace(ALICE, subject="bob")


@dataclass
class Counter:
    """A log with leases, and the hall in which they are read."""

    log: AuditLog
    views: Views
    clock: ManualClock

    async def lease(self, number: int, caller: Caller, account: str = "main", **members: object) -> None:
        """Let somebody into an instance, until so many minutes from now."""
        about = {"actor": caller, "lease_id": f"{number:032x}"} | members
        await self.log.append(an_event("credential.requested", number, account, **about))
        ends = self.clock.now + timedelta(minutes=number)
        await self.log.append(an_event("credential.issued", number, account, expires_at=ends, **about))

    async def ask(self, path: str = "", *, who: str = "alice", readable: Sequence[str] = (), status: int = 200) -> Any:
        """Ask as somebody who may read some accounts."""
        policies = TablePolicies([(Action.READ_AUDIT, account) for account in readable])
        routes = Leases(self.views, self.log, policies, ACCOUNTS, self.clock).routes()
        doors = Doors(ListedTokens({"alice": ALICE, "bob": BOB}), RateLimit(1000), Padlocks(), Admission(8))
        async with TestClient(TestServer(Edge(doors, Metrics()).application(routes))) as client:
            response = await client.get(f"/v1/leases{path}", headers={"Authorization": f"Bearer {who}"})
            assert response.status == status, await response.text()
            await Description(dict(openapi.document(routes))).check("GET", "/v1/leases", response)
            return await response.json(content_type=None)

    async def numbers(self, path: str = "", **asking: Any) -> list[int]:
        """Answer by their numbers the leases that somebody sees."""
        return [int(item["lease_id"], 16) for item in (await self.ask(path, **asking))["items"]]

    async def reads(self) -> int:
        """Count the events that say who read."""
        with_events = SqliteReader(self.path)
        try:
            records = with_events.records(0, with_events.head().size)
        finally:
            with_events.close()
        return sum(b'"audit.read"' in record.leaf for record in records)

    path: Path = Path()


@pytest.fixture(params=[True, False], ids=["nearby", "far"])
async def counter(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Counter]:
    path = tmp_path / "state" / "audit.db"
    clock = ManualClock()
    create(SqliteStore(path), SIGNER)
    log = await AuditLog.open(SqliteStore(path), SIGNER, clock=clock)
    views = Views(lambda: SqliteReader(path), nearby=request.param)
    counter = Counter(log, views, clock, path)
    await counter.lease(3, ALICE)
    await counter.lease(1, BOB)
    await counter.lease(2, BOB, "other", protocol=Protocol.RDP)
    yield counter
    await views.close()
    await log.close()


async def test_everybody_sees_their_own_leases_and_no_others(counter: Counter) -> None:
    assert await counter.numbers() == [3]
    assert await counter.numbers(who="bob") == [1, 2]
    assert await counter.numbers("?actor=corp/bob") == []
    assert await counter.reads() == 0


async def test_an_auditor_sees_those_of_the_accounts_that_they_may_read_and_reading_is_an_event(
    counter: Counter,
) -> None:
    assert await counter.numbers(readable=["other"]) == [2, 3]
    assert await counter.numbers(readable=["main", "other"]) == [1, 2, 3]
    assert await counter.reads() == 2
    assert await counter.numbers("?actor=corp/alice", readable=["main"]) == [3]
    assert await counter.reads() == 2


@pytest.mark.parametrize(
    ("query", "seen"),
    [
        ("?account=other", [2]),
        ("?instance=web-1", [1, 2, 3]),
        ("?instance=main/eu-west-1/web-1", [1, 3]),
        ("?instance=web", []),
        ("?actor=corp/bob&account=main", [1]),
    ],
)
async def test_leases_are_found_by_instance_actor_and_account(counter: Counter, query: str, seen: list[int]) -> None:
    assert await counter.numbers(query, readable=["main", "other"]) == seen


async def test_pages_follow_each_other(counter: Counter) -> None:
    page, seen = await counter.ask("?limit=1", readable=["main", "other"]), []
    while True:
        seen += [int(item["lease_id"], 16) for item in page["items"]]
        if page["next_cursor"] is None:
            break
        page = await counter.ask(f"?limit=1&cursor={page['next_cursor']}", readable=["main", "other"])
    assert seen == [1, 2, 3]
    assert (await counter.ask("?cursor=eA==", status=400))["code"] == "invalid_request"


async def test_what_has_ended_is_not_out(counter: Counter) -> None:
    counter.clock.now += timedelta(minutes=2)
    assert await counter.numbers(readable=["main", "other"]) == [3]


async def test_a_lease_tells_who_where_why_until_when_and_what_its_end_means(counter: Counter) -> None:
    [item] = (await counter.ask())["items"]
    [password] = (await counter.ask("?account=other", who="bob"))["items"]
    assert (item["actor"], item["protocol"]) == ("corp/alice", "ssh")
    assert item["instance"] == {"account": "main", "region": "eu-west-1", "name": "web-1"}
    assert item["reason"] == "to look at its logs"
    assert (item["issued_at"], item["expires_at"]) == ("2026-01-31T09:30:00.000Z", "2026-01-31T09:33:00.000Z")
    assert (item["revocable"], item["note"]) == (False, LOGIN_ONLY)
    assert item["audit_index"] == 2
    assert (password["protocol"], password["note"]) == ("rdp", RDP_LIVES_ON)
