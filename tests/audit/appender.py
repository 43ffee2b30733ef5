"""Appends to a log and says on stdout what was acknowledged: a process of its own, for tests to kill.

Arguments: database, key file, origin, number of events, and before which checkpoint to die (0: none).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from broker.audit.keyfiles import load_signer
from broker.audit.log import AuditLog
from broker.audit.stores import StoredCheckpoint
from broker.audit.stores.sqlite import SqliteStore
from broker.errors import AuditUnavailable
from broker.model import Event


class MortalStore(SqliteStore):
    """A real store whose process is killed where it would commit a certain checkpoint."""

    def __init__(self, path: Path, dies_before: int) -> None:
        super().__init__(path)
        self._left = dies_before

    def add_checkpoint(self, checkpoint: StoredCheckpoint) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        super().add_checkpoint(checkpoint)


def say(words: str) -> None:
    os.write(1, f"{words}\n".encode())


async def main(database: str, key: str, origin: str, count: str, dies_before: str) -> None:
    log = await AuditLog.open(MortalStore(Path(database), int(dies_before)), load_signer(Path(key), origin))
    for number in range(int(count)):
        try:
            kind = "credential.requested" if number % 2 else "credential.denied"
            receipt = await log.append(Event(event=kind, outcome="success", request_id=str(number)))
        except AuditUnavailable:
            say("refused")
        else:
            say(f"ack {receipt.index} {receipt.leaf_hash.hex()}")
    say(f"ready {log.health().ready}")
    await log.close()


asyncio.run(main(*sys.argv[1:]))
