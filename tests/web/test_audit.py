"""The auditor's routes, over a real log."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.audit.checkpoints import Signer
from broker.audit.log import AuditLog, create
from broker.audit.merkle import CompactRange, leaf_hash, verify_consistency, verify_inclusion
from broker.audit.review import Review
from broker.audit.stores.sqlite import SqliteStore
from broker.audit.stores.sqlite_reader import SqliteReader
from broker.client.receipts import holds
from broker.errors import AuditUnavailable
from broker.model import Action, Event, Receipt
from broker.observability import Metrics
from broker.web.app import Edge
from broker.web.audit import Audit
from broker.web.doors import Admission, Doors
from broker.web.rates import RateLimit
from tests.doubles.audit import NOW, ManualClock, an_event
from tests.doubles.issuing import CALLER, Padlocks, TablePolicies
from tests.doubles.web import ListedTokens
from tests.web.conftest import GOOD

SIGNER = Signer("test.example/audit", Ed25519PrivateKey.generate())
ACCOUNTS = ("main", "other")
READERS = {
    "good": replace(CALLER, subject="carol"),
}


class RefusingLog:
    """A log that can be told to refuse what is written to it."""

    def __init__(self, log: AuditLog) -> None:
        self._log = log
        self.refuses = False

    async def append(self, event: Event) -> Receipt:
        if self.refuses:
            raise AuditUnavailable("the disk is gone")
        return await self._log.append(event)


@dataclass
class Archive:
    """A log, and the hall in which it is read."""

    log: AuditLog
    refusing: RefusingLog
    review: Review

    def client(self, *readable: str) -> TestClient[web.Request, web.Application]:
        """Let carol in, who may read these accounts."""
        policies = TablePolicies([(Action.READ_AUDIT, account) for account in readable])
        audit = Audit(self.review, self.refusing, policies, frozenset(ACCOUNTS), lambda: NOW)
        doors = Doors(ListedTokens(READERS), RateLimit(1000), Padlocks(), Admission(8))
        return TestClient(TestServer(Edge(doors, Metrics()).application(audit.routes())))


async def ask(client: TestClient[web.Request, web.Application], path: str, status: int = 200) -> Any:
    response = await client.get(f"/v1/audit/{path}", headers=GOOD)
    assert response.status == status, await response.text()
    return await response.json(content_type=None) if response.content_type.endswith("json") else await response.text()


def events(page: dict[str, Any]) -> list[dict[str, Any]]:
    return [item["event"] for item in page["items"]]


@pytest.fixture
async def archive(tmp_path: Path) -> AsyncIterator[Archive]:
    """Answer a log: the start at 0, then ten events, of which the odd ones concern the account `other`."""
    path = tmp_path / "state" / "audit.db"
    clock = ManualClock()
    create(SqliteStore(path), SIGNER)
    log = await AuditLog.open(SqliteStore(path), SIGNER, clock=clock)
    for number in range(1, 11):
        await log.append(an_event(number=number, account=ACCOUNTS[number % 2]))
    review = Review(lambda: SqliteReader(path))
    yield Archive(log, RefusingLog(log), review)
    await review.close()
    await log.close()


async def test_who_may_read_no_account_reads_nothing_and_leaves_no_trace_of_reading(archive: Archive) -> None:
    async with archive.client() as client:
        for path in ("events", "events/1", "events/999"):
            assert (await ask(client, path, 403))["code"] == "denied"
    async with archive.client(*ACCOUNTS) as client:
        assert events(await ask(client, "events?event=audit.read")) == []


async def test_who_may_read_every_account_reads_everything(archive: Archive) -> None:
    async with archive.client(*ACCOUNTS) as client:
        page = await ask(client, "events?limit=200")
    assert [item["index"] for item in page["items"]] == list(range(10, -1, -1))
    assert page["next_cursor"] is None
    assert events(page)[-1]["event"] == "service.started"


@pytest.mark.parametrize("account", ACCOUNTS)
async def test_who_may_read_one_account_reads_of_no_other(archive: Archive, account: str) -> None:
    async with archive.client(account) as client:
        page = await ask(client, "events?limit=200")
        assert len(page["items"]) == 5
        assert {event["instance"]["account"] for event in events(page)} == {account}
        other = ACCOUNTS[1 - ACCOUNTS.index(account)]
        assert events(await ask(client, f"events?account={other}")) == []
        assert events(await ask(client, f"events?instance={other}/eu-west-1/web-1")) == []
        mine, theirs = (1, 2) if account == "other" else (2, 1)
        assert (await ask(client, f"events/{mine}"))["event"]["instance"]["account"] == account
        for hidden in (theirs, 0, 999):  # of another account, of none, and not there
            assert (await ask(client, f"events/{hidden}", 404))["code"] == "not_found"


FILTERS = {
    "account=other": 5,
    "account=unknown": 0,
    "actor=corp/alice": 10,
    "actor=corp/nobody": 0,
    "instance=main/eu-west-1/web-1": 5,
    "event=credential.denied": 10,
    "event=credential.issued": 0,
    "outcome=success&event=credential.denied": 10,
    "outcome=unknown": 0,
    "request_id=request-3": 1,
    "since=2026-01-31T09:30:00Z": 11,
    "since=2026-01-31T09:30:00.001Z": 0,
    "until=2026-01-31T09:30:00Z": 0,
    "until=2026-01-31T10:30:00.001%2B01:00": 11,
    "event=%25": 0,
    "actor=%27%20OR%201=1--": 0,
}


@pytest.mark.parametrize(("query", "found"), FILTERS.items())
async def test_a_filter_finds_what_fits(archive: Archive, query: str, found: int) -> None:
    async with archive.client(*ACCOUNTS) as client:
        assert len((await ask(client, f"events?{query}"))["items"]) == found


BAD_QUERIES = [
    *("limit=0", "limit=201", "limit=x", "cursor=x", "cursor=1.2.3", "since=yesterday", "since=2026-01-31T09:30:00"),
    *("colour=blue", "event=a&event=b", f"actor={'a' * 301}", "since=99999-01-01T00:00:00Z"),
]


@pytest.mark.parametrize("query", BAD_QUERIES)
async def test_a_bad_filter_is_refused(archive: Archive, query: str) -> None:
    async with archive.client(*ACCOUNTS) as client:
        assert (await ask(client, f"events?{query}", 400))["code"] == "invalid_request"


@pytest.mark.parametrize(
    "index",
    [
        "00",
        "05",
        "0" * 20 + "5",
        "-1",
        "x",
        "1.0",
        "0x1",
        "%D9%A1",
        "9" * 20,
        "9" * 5000,
        "18446744073709551616",
        "11",
        "%00",
    ],
)
async def test_a_bad_index_is_not_found(archive: Archive, index: str) -> None:
    async with archive.client(*ACCOUNTS) as client:
        assert (await ask(client, f"events/{index}", 404))["code"] == "not_found"


async def test_pages_follow_each_other_though_events_are_added(archive: Archive) -> None:
    async with archive.client("main") as client:
        seen, cursor = [], ""
        while True:
            page = await ask(client, f"events?limit=2{cursor}")
            seen += [item["index"] for item in page["items"]]
            await archive.log.append(an_event(number=99, account="main"))
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
    assert seen == [10, 8, 6, 4, 2]


async def test_a_leaf_is_the_exact_bytes_of_its_hash(archive: Archive) -> None:
    async with archive.client(*ACCOUNTS) as client:
        for item in (await ask(client, "events"))["items"]:
            assert base64.b64encode(leaf_hash(base64.b64decode(item["leaf"]))).decode() == item["leaf_hash"]
            assert item["event"]["index"] == item["index"]
        assert await ask(client, f"events/{item['index']}") == item


async def test_reading_is_recorded_with_who_and_what(archive: Archive) -> None:
    async with archive.client(*ACCOUNTS) as client:
        await ask(client, "events?actor=corp/alice&limit=3")
        await ask(client, "events/4")
        reads = events(await ask(client, "events?event=audit.read"))
    assert [read["details"]["filters"] for read in reads] == [["index=4"], ["actor=corp/alice"]]
    assert {(read["actor"]["subject"], read["source"]["ip"]) for read in reads} == {("carol", "127.0.0.1")}


async def test_nothing_is_shown_when_the_reading_cannot_be_recorded(archive: Archive) -> None:
    async with archive.client(*ACCOUNTS) as client:
        archive.refusing.refuses = True
        for path in ("events", "events/1"):
            document = await ask(client, path, 503)
            assert document["code"] == "audit_unavailable"
            assert "corp" not in str(document)


def root_of(leaves: Sequence[bytes]) -> bytes:
    tree = CompactRange()
    for leaf in leaves:
        tree.append(leaf_hash(leaf))
    return tree.root()


async def test_every_inclusion_proof_holds_and_fits_nothing_else(archive: Archive) -> None:
    async with archive.client(*ACCOUNTS) as client:
        items = (await ask(client, "events?limit=200"))["items"][::-1]
        leaves = [base64.b64decode(item["leaf"]) for item in items]
        for size in (1, 2, 7, 8, 11):
            root = root_of(leaves[:size])
            for index in range(size):
                proof = await ask(client, f"proof?index={index}&size={size}")
                assert set(proof) == {"index", "size", "leaf_hash", "hashes"}
                hashes = [base64.b64decode(part) for part in proof["hashes"]]
                leaf = base64.b64decode(proof["leaf_hash"])
                assert leaf == leaf_hash(leaves[index])
                assert verify_inclusion(index, size, leaf, hashes, root)
                assert not verify_inclusion(index, size, leaf_hash(b"forged"), hashes, root)


async def test_every_consistency_proof_holds(archive: Archive) -> None:
    async with archive.client(*ACCOUNTS) as client:
        items = (await ask(client, "events?limit=200"))["items"][::-1]
        leaves = [base64.b64decode(item["leaf"]) for item in items]
        for first, second in ((0, 0), (0, 11), (1, 11), (4, 8), (7, 11), (11, 11)):
            proof = await ask(client, f"consistency?from={first}&to={second}")
            assert (proof["from"], proof["to"]) == (first, second)
            hashes = [base64.b64decode(part) for part in proof["hashes"]]
            assert verify_consistency(first, second, root_of(leaves[:first]), root_of(leaves[:second]), hashes)


BAD_PROOFS = {
    "proof": 400,
    "proof?index=-1": 400,
    "proof?index=x": 400,
    "proof?index=99": 404,
    "proof?index=9007199254740992": 400,
    "proof?index=1&size=1": 400,
    "proof?index=1&size=0": 400,
    "proof?index=1&size=12": 400,
    "consistency?from=1": 400,
    "consistency?from=2&to=1": 400,
    "consistency?from=1&to=12": 400,
    "consistency?from=-1&to=1": 400,
    "checkpoint?size=1": 400,
}


@pytest.mark.parametrize(("path", "status"), BAD_PROOFS.items())
async def test_a_proof_of_what_is_not_there_is_refused(archive: Archive, path: str, status: int) -> None:
    async with archive.client(*ACCOUNTS) as client:
        await ask(client, path, status)


async def test_the_checkpoint_is_the_signed_note_as_it_is(archive: Archive) -> None:
    note = await archive.log.checkpoint()
    async with archive.client() as client:  # whoever has a receipt may check it
        assert await ask(client, "checkpoint") == note
    assert SIGNER.verifier.open(note).size == 11


async def test_a_receipt_is_complete_once_a_checkpoint_covers_its_event(archive: Archive) -> None:
    note = await archive.log.checkpoint()
    async with archive.client() as client:  # it tells nothing but hashes
        for index in range(11):
            receipt = await ask(client, f"receipts/{index}")
            assert receipt["checkpoint"] == note
            assert receipt["proof"]["size"] == 11
            assert holds(receipt)
        await archive.log.append(an_event())
        answer = await client.get("/v1/audit/receipts/11", headers=GOOD)
        document = await answer.json()
        assert (document["index"], document["checkpoint"], document["proof"]) == (11, None, None)
        assert int(answer.headers["Retry-After"]) > 0
        for missing in ("receipts/12", "receipts/-1", "receipts/x", "receipts/01"):
            await ask(client, missing, 404)


async def test_an_export_is_streamed_in_the_order_of_the_log_and_an_event_before_it_leaves(archive: Archive) -> None:
    async with archive.client(*ACCOUNTS) as client:
        lines = (await ask(client, "export")).splitlines()
        exported = [json.loads(line) for line in lines]
        assert [line["index"] for line in exported] == list(range(11))
        assert all(
            leaf_hash(base64.b64decode(line["leaf"])) == base64.b64decode(line["leaf_hash"]) for line in exported
        )
        event = (await ask(client, "events?event=audit.exported"))["items"][0]["event"]
        assert event["details"] == {"format": "jsonl", "filters": [], "first": 0, "end": 11}
        assert event["actor"]["subject"] == "carol"


async def test_an_export_has_the_filters_and_the_limits_of_a_search(archive: Archive) -> None:
    async with archive.client(*ACCOUNTS) as client:
        every = (await ask(client, "events?limit=200"))["items"]
        for query in ("account=other", "event=credential.denied", "outcome=success&account=main"):
            wanted = [item["index"] for item in (await ask(client, f"events?limit=200&{query}"))["items"]][::-1]
            lines = (await ask(client, f"export?{query}")).splitlines()
            assert [json.loads(line)["index"] for line in lines] == wanted
    assert every
    async with archive.client("other") as client:
        lines = (await ask(client, "export")).splitlines()
        assert {json.loads(line)["event"]["instance"]["account"] for line in lines} == {"other"}
        assert (await ask(client, "export?account=main")) == ""
    async with archive.client() as client:
        await ask(client, "export", 403)


async def test_nothing_is_exported_when_the_export_cannot_be_recorded(archive: Archive) -> None:
    async with archive.client(*ACCOUNTS) as client:
        archive.refusing.refuses = True
        assert (await ask(client, "export", 503))["code"] == "audit_unavailable"


@pytest.mark.parametrize(
    ("form", "content_type"), [("jsonl", "application/jsonl"), ("csv", "text/csv"), ("ocsf", "application/jsonl")]
)
async def test_each_format_says_what_it_is(archive: Archive, form: str, content_type: str) -> None:
    async with archive.client(*ACCOUNTS) as client:
        response = await client.get(f"/v1/audit/export?format={form}", headers=GOOD)
        assert response.content_type == content_type
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Request-Id"]
        assert len((await response.text()).splitlines()) == (12 if form == "csv" else 11)
        await ask(client, "export?format=xml", 400)
