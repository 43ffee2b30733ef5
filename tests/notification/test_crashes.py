"""A process that is killed between a delivery and the note of it tells that notice again, and leaves none out."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from broker.audit.keyfiles import create_signing_key, load_signer
from broker.audit.log import AuditLog, create
from broker.audit.stores.sqlite import SqliteStore
from tests.doubles.audit import an_event
from tests.doubles.outbound import inbox

ORIGIN = "broker.example/audit"
ROOT = Path(__file__).parents[2]


async def tell(*arguments: str) -> int:
    """Run the process of its own to its end; answer how it ended."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.notification.mortal", *arguments, cwd=ROOT, env={**os.environ, "PYTHONPATH": "."}
    )
    return await process.wait()


async def test_kill_9_between_delivery_and_note_repeats_one_notice_and_loses_none(tmp_path: Path) -> None:
    database, key = tmp_path / "audit.db", tmp_path / "audit.key"
    create_signing_key(key, ORIGIN)
    signer = load_signer(key, ORIGIN)
    create(SqliteStore(database), signer)
    log = await AuditLog.open(SqliteStore(database), signer, announce=False)
    await log.append(an_event("service.started"))
    assert await log.claim("webhook:siem", 1) == 0
    await log.advance("webhook:siem", 1)
    for number in range(8):
        await log.append(an_event(number=number))
    await log.close()
    async with inbox() as site:
        ends = [await tell(str(database), str(key), ORIGIN, site.url, dies) for dies in ("1", "3", "2", "0")]
    assert ends == [-signal.SIGKILL] * 3 + [0]
    assert site.indices == [1, 1, 2, 3, 3, 4, 4, 5, 6, 7, 8]
    told = dict(zip(site.ids, site.indices, strict=True))
    assert sorted(told.values()) == list(range(1, 9)), "a repeated notice has the id of the first time"
