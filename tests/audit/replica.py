"""A broker's log in a process of its own, on one PostgreSQL with others: appends, and says what was acknowledged.

Arguments: URL, key file, origin, number of events, how many at a time. It begins when a line comes on stdin.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from broker.audit.keyfiles import load_signer
from broker.audit.log import AuditLog
from broker.audit.stores.opening import store
from broker.errors import AuditUnavailable
from broker.model import Event


def say(words: str) -> None:
    os.write(1, f"{words}\n".encode())


async def append(log: AuditLog, number: int) -> None:
    try:
        receipt = await log.append(
            Event(event="credential.denied", outcome="denied", request_id=f"{os.getpid()}-{number}")
        )
    except AuditUnavailable as problem:
        say(f"refused {problem.cause}")
    else:
        say(f"ack {receipt.index} {receipt.leaf_hash.hex()}")


async def main(url: str, key: str, origin: str, count: str, at_once: str) -> None:
    log = await AuditLog.open(store(url), load_signer(Path(key), origin))
    say("open")
    await asyncio.to_thread(sys.stdin.readline)
    for start in range(0, int(count), int(at_once)):
        await asyncio.gather(*(append(log, number) for number in range(start, start + int(at_once))))
    say("done")
    await asyncio.to_thread(sys.stdin.readline)
    await log.close()


asyncio.run(main(*sys.argv[1:]))
