"""Tells a receiver what a log holds, as a process of its own that kills itself: for tests of at-least-once.

Arguments: database, key file, origin, URL of the receiver, and before which note of its progress to die (0: none).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from broker.audit.keyfiles import load_signer
from broker.audit.log import AuditLog
from broker.audit.review import Review
from broker.audit.stores.sqlite import SqliteStore
from broker.audit.stores.sqlite_reader import SqliteReader
from broker.model import Secret, utc_now
from broker.notification import Outbox, notifying
from broker.notification.lines import Pace
from broker.outbound.notices import Selection
from broker.outbound.webhooks import Receiver
from tests.doubles.outbound import SECRET


class MortalLog:
    """A real log whose process is killed where it would note, after a delivery, how far it has come."""

    def __init__(self, log: AuditLog, dies_before: int) -> None:
        self._log = log
        self._left = dies_before
        self.position = 0

    async def claim(self, follower: str, seconds: float) -> int | None:
        return await self._log.claim(follower, seconds)

    async def advance(self, follower: str, position: int) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        await self._log.advance(follower, position)
        self.position = position


async def main(database: str, key: str, origin: str, url: str, dies_before: str) -> None:
    path = Path(database)
    log = await AuditLog.open(SqliteStore(path), load_signer(Path(key), origin), announce=False)
    review = Review(lambda: SqliteReader(path))
    mortal, size = MortalLog(log, int(dies_before)), await review.size()
    receiver = Receiver("siem", url, Secret(SECRET), Selection(["credential.*"]), allow_private=True)
    async with notifying(
        [receiver], Outbox(origin=origin, log=mortal, events=review), utc_now, Pace(look=0.01, note=0)
    ):
        async with asyncio.timeout(30):
            while mortal.position < size:  # noqa: ASYNC110 - what is awaited happens in another task
                await asyncio.sleep(0.005)
    await review.close()
    await log.close()


asyncio.run(main(*sys.argv[1:]))
