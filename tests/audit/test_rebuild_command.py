from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from broker.audit.keyfiles import load_signer
from broker.audit.log import AuditLog
from broker.audit.stores.sqlite import SqliteStore
from broker.errors import AuditInUse
from tests.audit.commands import Desk, a_desk
from tests.audit.conftest import ORIGIN
from tests.doubles.audit import NOW, an_event

KEY = f"ssh-ed25519 {'0' * 64}"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Answer a log with a lease and a pinned host key."""
    ends, details = NOW + timedelta(days=9000), {"host_keys": (KEY,)}
    issued = an_event("credential.issued", lease_id="lease-0", expires_at=ends, details=details)
    return a_desk(tmp_path, [an_event("credential.requested"), issued])


def tamper(desk: Desk, statement: str) -> None:
    with closing(sqlite3.connect(desk.database, isolation_level=None)) as connection:
        assert connection.execute(statement).rowcount == 1


def newest(desk: Desk, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    capsys.readouterr()
    assert desk.audit("search", "--format", "json", "--limit", "1", "--event", "audit.rebuilt") == 0
    found = json.loads(capsys.readouterr().out)
    event: dict[str, object] = found[0] if found else {}
    return event


def test_views_that_are_what_the_events_give_are_left_alone(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.audit("rebuild", "--check") == 0
    assert "leases 1, host_keys 1, threads 0; rows that differ: 0" in capsys.readouterr().err
    assert desk.audit("rebuild") == 0
    assert "nothing had to be written" in capsys.readouterr().err
    assert newest(desk, capsys) == {}


def test_a_check_names_what_differs_and_changes_nothing(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    tamper(desk, "DELETE FROM leases")
    for where in ((), ("--database", desk.database)):
        assert desk.audit("rebuild", "--check", *where) == 1
        assert capsys.readouterr().out == "leases: lease-0 is missing\n"


def test_a_rebuild_writes_the_views_and_an_event(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    tamper(desk, "DELETE FROM leases")
    tamper(desk, "UPDATE host_keys SET pinned = '[]'")
    assert desk.audit("rebuild") == 0
    details = newest(desk, capsys)["details"]
    assert isinstance(details, dict)
    assert details["rows"] == {"open_requests": 0, "leases": 1, "host_keys": 1, "threads": 0}
    assert details["differences"] == 2
    assert details["os_user"]
    assert desk.audit("rebuild", "--check") == 0
    assert desk.audit("verify") == 0


def test_a_rebuild_needs_the_settings_and_the_log_for_itself(desk: Desk) -> None:
    assert desk.audit("rebuild", "--database", desk.database) == 2

    async def while_it_is_open() -> None:
        signer = load_signer(desk.config.parent / "state" / "audit.key", ORIGIN)
        log = await AuditLog.open(SqliteStore(desk.database), signer)
        try:
            assert await asyncio.to_thread(desk.audit, "rebuild", "--check") == 0
            with pytest.raises(AuditInUse):
                await asyncio.to_thread(desk.audit, "rebuild")
        finally:
            await log.close()

    asyncio.run(while_it_is_open())
