"""Appends to a log and says on stdout what was acknowledged: a process of its own, for tests to kill.

Arguments: database, key file, origin, number of events.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from broker.audit.keyfiles import load_signer
from broker.audit.log import AuditLog
from broker.audit.stores.sqlite import SqliteStore
from broker.errors import AuditUnavailable
from broker.model import Event


def say(words: str) -> None:
    os.write(1, f"{words}\n".encode())


async def main(database: str, key: str, origin: str, count: str) -> None:
    log = await AuditLog.open(SqliteStore(Path(database)), load_signer(Path(key), origin))
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
