"""A long answer: sent part by part, whole or visibly cut; and what was exported verifies."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import ClientPayloadError, web
from aiohttp.test_utils import TestClient, TestServer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.audit.checkpoints import Signer
from broker.audit.exporting import AT_ONCE, chunk
from broker.audit.review import Review
from broker.audit.stores import Filters, StoreError
from broker.audit.stores.sqlite import SqliteStore
from broker.audit.stores.sqlite_reader import SqliteReader
from broker.audit.log import AuditLog
from broker.audit.verification import verify_export
from broker.model import Action, Caller
from broker.observability import Metrics
from broker.web.app import Edge
from broker.web.audit import Audit
from broker.web.doors import Admission, Doors, RateLimit
from broker.web.routes import Answer, Guarded, Nothing, Visit
from tests.audit.conftest import write_log
from tests.doubles.audit import NOW, ManualClock, an_event
from tests.doubles.issuing import CALLER, TablePolicies
from tests.doubles.web import ListedTokens
from tests.web.conftest import GOOD

SIGNER = Signer("test.example/audit", Ed25519PrivateKey.generate())
COUNT = 2 * AT_ONCE + 7
Client = TestClient[web.Request, web.Application]


def client_of(*routes: Guarded[Nothing, Nothing], admission: Admission | None = None) -> Client:
    doors = Doors(ListedTokens({"good": CALLER}), RateLimit(1000), admission or Admission(8))
    return TestClient(TestServer(Edge(doors, Metrics()).application(routes)))


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Answer a log of more events than are read at once, sealed at its end."""
    path = tmp_path_factory.mktemp("long") / "audit.db"
    write_log(path, SIGNER, [an_event(number=number, account=("main", "other")[number % 2]) for number in range(COUNT)])
    return path


@pytest.fixture
async def auditor(database: Path, tmp_path: Path) -> AsyncIterator[Client]:
    """Let in somebody who may read everything, on a copy of the log that takes new events."""
    path = tmp_path / "audit.db"
    path.write_bytes(database.read_bytes())
    log = await AuditLog.open(SqliteStore(path), SIGNER, clock=ManualClock(replace_day()))
    review = Review(lambda: SqliteReader(path))
    policies = TablePolicies([(Action.READ_AUDIT, "main"), (Action.READ_AUDIT, "other")])
    audit = Audit(review, log, policies, frozenset({"main", "other"}), lambda: NOW)
    async with client_of(*audit.routes()) as client:
        yield client
    await review.close()
    await log.close()
