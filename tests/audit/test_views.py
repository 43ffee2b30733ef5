"""What the service asks the views: answered by a connection that is opened when needed, and again after an error."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.audit.checkpoints import Signer
from broker.audit.log import AuditLog, create
from broker.audit.stores import Found, StoredHostKeys, StoreError
from broker.audit.stores.sqlite import SqliteStore
from broker.audit.stores.sqlite_reader import SqliteReader
from broker.audit.views import Views
from broker.errors import AuditUnavailable
from broker.model import InstanceRef
from tests.doubles.audit import NOW, ManualClock, an_event

SIGNER = Signer("test.example/audit", Ed25519PrivateKey.generate())
KEY = f"ssh-ed25519 {'0' * 64}"
WEB_1 = InstanceRef("main", "eu-west-1", "web-1")


class FailingReader(SqliteReader):
    """A reader that fails when told, and that knows no event: all bodies were pruned."""

    failures = 0
    opened = 0

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        FailingReader.opened += 1

    def host_keys(self, instance: str) -> StoredHostKeys | None:
        if FailingReader.failures:
            FailingReader.failures -= 1
            raise StoreError("the disk is gone")
        return super().host_keys(instance)

    def find(self, index: int) -> Found | None:
        return None if index >= 0 else super().find(index)


@pytest.fixture(params=[True, False], ids=["nearby", "far"])
async def views(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Views]:
    """Answer the views of a log with one lease and one pinned instance."""
    path = tmp_path / "state" / "audit.db"
    create(SqliteStore(path), SIGNER)
    log = await AuditLog.open(SqliteStore(path), SIGNER, clock=ManualClock())
    ends, details = NOW + timedelta(minutes=1), {"host_keys": (KEY,)}
    await log.append(an_event("credential.issued", lease_id="1f", expires_at=ends, details=details))
    FailingReader.opened = 0
    views = Views(lambda: FailingReader(path), nearby=request.param)
    yield views
    await views.close()
    await log.close()


async def test_after_an_error_the_log_is_opened_again(views: Views) -> None:
    assert await views.pinned(WEB_1) == frozenset({KEY})
    assert await views.pinned(WEB_1) == frozenset({KEY})
    assert FailingReader.opened == 1
    FailingReader.failures = 1
    with pytest.raises(AuditUnavailable, match="the disk is gone"):
        await views.pinned(WEB_1)
    assert await views.pinned(WEB_1) == frozenset({KEY})
    assert FailingReader.opened == 2


async def test_a_lease_whose_event_has_no_body_any_more_is_out_all_the_same(views: Views) -> None:
    now = int(NOW.timestamp() * 1000)
    [lease] = await views.leases(now, accounts=frozenset({"main"}), own="corp/bob")
    [out] = await views.issued([lease])
    assert (out.lease.lease_id, out.event) == ("1f", {})
