"""A long answer: sent part by part, whole or visibly cut; and what was exported verifies."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from shutil import copyfile
from typing import Any

import pytest
from aiohttp import ClientPayloadError, web
from aiohttp.test_utils import TestClient, TestServer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.audit.checkpoints import Signer
from broker.audit.exporting import AT_ONCE, FORMATS, chunk
from broker.audit.log import AuditLog
from broker.audit.review import Review
from broker.audit.stores import Filters, StoreError
from broker.audit.stores.sqlite import SqliteStore
from broker.audit.stores.sqlite_reader import SqliteReader
from broker.audit.verification import verify_export
from broker.errors import AuditUnavailable
from broker.model import Action, Caller, Event, Receipt
from broker.observability import Metrics
from broker.web.app import Edge
from broker.web.audit import Audit
from broker.web.doors import Admission, Doors
from broker.web.openapi import document
from broker.web.rates import RateLimit
from broker.web.routes import Answer, AnyRoute, Nothing, Output, Visit, guarded_get
from tests.audit.conftest import write_log
from tests.doubles.audit import NOW, ManualClock, an_event
from tests.doubles.issuing import CALLER, Padlocks, TablePolicies
from tests.doubles.web import ListedTokens
from tests.web.conftest import GOOD

SIGNER = Signer("test.example/audit", Ed25519PrivateKey.generate())
COUNT = 2 * AT_ONCE + 7
PART = bytes(65536)
Client = TestClient[web.Request, web.Application]


def client_of(routes: list[AnyRoute[Any, Any]]) -> Client:
    """Let one caller in at a time."""
    doors = Doors(ListedTokens({"good": CALLER}), RateLimit(1000), Padlocks(), Admission(1))
    return TestClient(TestServer(Edge(doors, Metrics()).application(routes)))


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Answer a log of more events than are read at once, sealed at its end."""
    path = tmp_path_factory.mktemp("long") / "audit.db"
    write_log(path, SIGNER, [an_event(number=number, account=("main", "other")[number % 2]) for number in range(COUNT)])
    return path


@pytest.fixture
async def auditor(database: Path, tmp_path: Path) -> AsyncIterator[Client]:
    """Let in somebody who may read everything of a copy of the log, which grows when it is read."""
    path = Path(copyfile(database, tmp_path / "audit.db"))
    log = await AuditLog.open(SqliteStore(path), SIGNER, clock=ManualClock(), announce=False)
    review = Review(lambda: SqliteReader(path))
    policies = TablePolicies([(Action.READ_AUDIT, account) for account in ("main", "other")])
    audit = Audit(review, log, policies, frozenset({"main", "other"}), lambda: NOW)
    async with client_of(audit.routes()) as client:
        yield client
    await review.close()
    await log.close()


async def text_of(client: Client, path: str) -> str:
    response = await client.get(f"/v1/audit/{path}", headers=GOOD)
    assert response.status == 200
    return await response.text()


async def test_what_is_exported_over_http_verifies_offline(auditor: Client, tmp_path: Path) -> None:
    note = await text_of(auditor, "checkpoint")
    (tmp_path / "log.jsonl").write_text(await text_of(auditor, "export"))
    report = verify_export(tmp_path / "log.jsonl", SIGNER.verifier, [note])
    assert (report.size, report.sealed, report.findings) == (COUNT, COUNT, ())


async def test_an_export_ends_where_the_log_ended_when_it_began(auditor: Client) -> None:
    for more in range(3):  # each export adds one event, which the next one has
        lines = (await text_of(auditor, "export")).splitlines()
        assert [json.loads(line)["index"] for line in lines] == list(range(COUNT + more))


@pytest.mark.parametrize("query", ["account=other", "request_id=request-3", "event=no.such", "actor=corp/alice"])
async def test_a_filter_keeps_the_same_events_as_a_search(auditor: Client, database: Path, query: str) -> None:
    name, _, value = query.partition("=")
    filters = Filters(accounts=frozenset({value})) if name == "account" else Filters(**{name: value})  # type: ignore[arg-type]  # a filter of text
    with closing(SqliteReader(database)) as reader:
        wanted = sorted(found.record.idx for found in reader.search(filters, COUNT, None))
    rows = csv.DictReader(io.StringIO(await text_of(auditor, f"export?format=csv&{query}"), newline=""))
    assert [int(row["index"]) for row in rows] == wanted


def test_the_formats_are_described() -> None:
    review = Review(lambda: SqliteReader(Path("unused")))
    audit = Audit(review, NoLog(), TablePolicies([]), frozenset(), lambda: NOW)
    answers = document(audit.routes())["paths"]["/v1/audit/export"]["get"]["responses"]
    assert set(answers["200"]["content"]) == {form.content_type.partition(";")[0] for form in FORMATS.values()}


def test_a_gap_that_pruning_leaves_is_no_end(database: Path) -> None:
    with closing(SqliteReader(database)) as reader:
        assert len(chunk(reader, Filters(), 0, COUNT)) == COUNT
        with pytest.raises(StoreError, match="pruned"):
            chunk(reader, Filters(), COUNT - 1, COUNT + 1)


class NoLog:
    """A log that nothing is written to."""

    async def append(self, event: Event) -> Receipt:
        raise AuditUnavailable(event.event)


class Parts:
    """A long answer that counts what was taken of it; it fails after so many parts, or never ends."""

    def __init__(self, fails_after: int | None = None) -> None:
        self.taken = 0
        self.ended = asyncio.Event()
        self._fails_after = fails_after

    def routes(self) -> list[AnyRoute[Any, Any]]:
        return [guarded_get("/v1/long", "Answer at length", self.handle, query=Nothing, answer=Output)]

    async def handle(self, _visit: Visit[Nothing, Nothing], _caller: Caller) -> Answer:
        return Answer(self._parts(), content_type="application/jsonl")

    async def _parts(self) -> AsyncIterator[bytes]:
        try:
            while self.taken != self._fails_after:
                self.taken += 1
                yield PART
                await asyncio.sleep(0)
            raise AuditUnavailable("the disk is gone")
        finally:
            self.ended.set()


async def test_an_answer_that_fails_midway_is_cut_and_never_looks_whole() -> None:
    parts = Parts(fails_after=3)
    async with client_of(parts.routes()) as client:
        with pytest.raises((ClientPayloadError, ConnectionError)):
            await (await client.get("/v1/long", headers=GOOD)).read()
        assert parts.taken == 3


async def test_who_does_not_read_holds_the_answer_back_and_who_goes_ends_it() -> None:
    parts = Parts()
    async with client_of(parts.routes()) as client:
        response = await client.get("/v1/long", headers=GOOD)
        await response.content.readexactly(len(PART))
        before = -1
        while before != parts.taken:  # until the buffers on the way are full
            before = parts.taken
            await asyncio.sleep(0.2)
        assert not parts.ended.is_set()
        assert (await client.get("/v1/long", headers=GOOD)).status == 503  # its place is taken
        response.close()
        async with asyncio.timeout(30):
            await parts.ended.wait()
            while (again := await client.get("/v1/long", headers=GOOD)).status == 503:  # noqa: ASYNC110 -- only the next answer tells
                await asyncio.sleep(0.01)
        again.close()
