"""Host keys over a real log: who sees them, who accepts new ones, and what that leaves behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.audit.checkpoints import Signer
from broker.audit.leaves import parse
from broker.audit.log import AuditLog, create
from broker.audit.stores.sqlite import SqliteStore
from broker.audit.stores.sqlite_reader import SqliteReader
from broker.audit.views import Views
from broker.model import Action, InstanceRef, Obligation
from broker.observability import Metrics
from broker.web import openapi
from broker.web.app import Edge
from broker.web.doors import Admission, Doors
from broker.web.hosts import Hosts
from broker.web.rates import RateLimit
from tests.doubles.audit import ManualClock, an_event
from tests.doubles.issuing import CALLER, Padlocks, TablePolicies, instance
from tests.doubles.web import CatalogueInventory, ListedTokens
from tests.web.conftest import GOOD
from tests.web.test_openapi import Description

SIGNER = Signer("test.example/audit", Ed25519PrivateKey.generate())
OLD, NEW, MORE = (f"ssh-ed25519 {digit * 64}" for digit in "012")
WEB_1 = InstanceRef("main", "eu-west-1", "web-1")
ACCEPT = "/main/eu-west-1/web-1/accept"


@dataclass
class Gate:
    """A log with host keys, and the hall in which they are looked after."""

    log: AuditLog
    views: Views
    path: Path
    policies: TablePolicies = field(default_factory=lambda: TablePolicies([(Action.APPROVE, "web-1")]))

    async def ask(self, path: str = "", body: object = None, status: int = 200) -> Any:
        """Get the listing, or accept."""
        inventory = CatalogueInventory(instance("web-1"), instance("web-2"))
        clock = ManualClock()
        routes = Hosts(self.views, self.log, inventory, self.policies, frozenset({"main"}), clock).routes()
        doors = Doors(ListedTokens({"good": CALLER}), RateLimit(1000), Padlocks(), Admission(8))
        method = "GET" if body is None else "POST"
        async with TestClient(TestServer(Edge(doors, Metrics()).application(routes))) as client:
            response = await client.request(method, f"/v1/hosts{path}", headers=GOOD, json=body)
            assert response.status == status, await response.text()
            route = "/v1/hosts/{account}/{region}/{name}/accept" if body else "/v1/hosts"
            await Description(dict(openapi.document(routes))).check(method, route, response)
            return await response.json(content_type=None)

    def newest(self) -> dict[str, Any]:
        """Answer the newest event."""
        reader = SqliteReader(self.path)
        try:
            [record] = reader.records(reader.head().size - 1, reader.head().size)
        finally:
            reader.close()
        return parse(record.leaf)


@pytest.fixture(params=[True, False], ids=["nearby", "far"])
async def gate(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Gate]:
    """Answer a log in which web-1 and web-2 are pinned, and AWS has named other keys for web-1."""
    path = tmp_path / "state" / "audit.db"
    create(SqliteStore(path), SIGNER)
    log = await AuditLog.open(SqliteStore(path), SIGNER, clock=ManualClock())
    for name in ("web-1", "web-2"):
        place = InstanceRef("main", "eu-west-1", name)
        await log.append(an_event("credential.issued", instance=place, details={"host_keys": (OLD,)}))
    offered = {"host_keys": (MORE, NEW)}
    await log.append(an_event("credential.failed", instance=WEB_1, error="host_key_changed", details=offered))
    views = Views(lambda: SqliteReader(path), nearby=request.param)
    yield Gate(log, views, path)
    await views.close()
    await log.close()


async def test_who_may_approve_sees_what_changed(gate: Gate) -> None:
    page = await gate.ask()
    assert page == {
        "items": [
            {
                "account": "main",
                "region": "eu-west-1",
                "name": "web-1",
                "host_keys": [OLD],
                "audit_index": 1,
                "offered": [NEW, MORE],
                "offered_audit_index": 3,
            }
        ],
        "next_cursor": None,
    }


async def test_who_may_read_the_log_sees_every_host_and_who_may_neither_sees_none(gate: Gate) -> None:
    gate.policies = TablePolicies([(Action.READ_AUDIT, "main")])
    first = await gate.ask("?limit=1")
    rest = await gate.ask(f"?limit=1&cursor={first['next_cursor']}")
    assert [item["name"] for page in (first, rest) for item in page["items"]] == ["web-1", "web-2"]
    assert rest["next_cursor"] is None
    assert [item["name"] for item in (await gate.ask("?changed=true"))["items"]] == ["web-1"]
    gate.policies = TablePolicies([])
    assert (await gate.ask())["items"] == []


async def test_accepted_keys_are_the_pinned_ones_from_then_on(gate: Gate) -> None:
    accepted = await gate.ask(ACCEPT, {"host_keys": [MORE, NEW], "reason": "rebuilt"})
    assert accepted["host_keys"] == [NEW, MORE]
    event = gate.newest()
    assert accepted["audit"]["index"] == event["index"]
    assert (event["event"], event["outcome"], event["reason"]) == ("host_keys.accepted", "success", "rebuilt")
    assert event["actor"]["subject"] == "alice"
    assert event["details"] == {"host_keys": [NEW, MORE]}
    assert await gate.views.pinned(WEB_1) == frozenset({NEW, MORE})
    assert [item["offered"] for item in (await gate.ask())["items"]] == [[]]


@pytest.mark.parametrize("stated", [[NEW], [NEW, MORE, OLD], [OLD]])
async def test_only_what_is_offered_now_can_be_accepted(gate: Gate, stated: list[str]) -> None:
    size = gate.newest()["index"]
    assert (await gate.ask(ACCEPT, {"host_keys": stated}, 409))["code"] == "host_key_changed"
    assert gate.newest()["index"] == size
    assert await gate.views.pinned(WEB_1) == frozenset({OLD})


async def test_nothing_is_accepted_twice(gate: Gate) -> None:
    await gate.ask(ACCEPT, {"host_keys": [NEW, MORE]})
    assert (await gate.ask(ACCEPT, {"host_keys": [NEW, MORE]}, 409))["code"] == "host_key_changed"


async def test_hidden_and_missing_instances_are_refused_alike_and_recorded(gate: Gate) -> None:
    answers = []
    for name in ("web-2", "web-9"):
        document = await gate.ask(f"/main/eu-west-1/{name}/accept", {"host_keys": [OLD]}, 403)
        answers.append({key: value for key, value in document.items() if key != "request_id"})
        assert (gate.newest()["event"], gate.newest()["error"]) == ("host_keys.refused", "denied")
    assert answers[0] == answers[1]


async def test_a_policy_that_asks_for_a_reason_or_a_second_factor_says_so(gate: Gate) -> None:
    gate.policies = TablePolicies([], obligations=(Obligation.REASON,))
    assert (await gate.ask(ACCEPT, {"host_keys": [NEW, MORE]}, 403))["code"] == "reason_required"
    gate.policies = TablePolicies([], obligations=(Obligation.MFA,))
    assert (await gate.ask(ACCEPT, {"host_keys": [NEW, MORE]}, 401))["code"] == "step_up_required"
    assert await gate.views.pinned(WEB_1) == frozenset({OLD})


async def test_an_instance_that_was_never_opened_is_held_to_nothing(gate: Gate) -> None:
    assert await gate.views.pinned(InstanceRef("main", "eu-west-1", "web-3")) is None
