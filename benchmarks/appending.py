"""A log of its own on one PostgreSQL with others: `python -m benchmarks.appending URL KEY ORIGIN WAITERS SECONDS`.

It prints `open`, begins when a line comes, and prints what came of it: how many events, and each one's milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from time import perf_counter

from broker.audit.keyfiles import load_signer
from broker.audit.log import AuditLog
from broker.audit.stores.opening import store
from broker.model import Event, InstanceRef

DENIED = "credential.denied"
_EVENT = Event(
    event=DENIED,
    outcome="denied",
    request_id="0" * 32,
    instance=InstanceRef("main", "eu-west-1", "web-1"),
    reason="to look at its logs",
)


async def main(url: str, key: str, origin: str, waiters: str, seconds: str) -> None:
    """Append, each waiter the next event when its last one is durable."""
    log = await AuditLog.open(store(url), load_signer(Path(key), origin))
    _say("open")
    await asyncio.to_thread(sys.stdin.readline)
    ends = perf_counter() + float(seconds)
    times: list[float] = []

    async def write() -> None:
        while (started := perf_counter()) < ends:
            await log.append(_EVENT)
            times.append((perf_counter() - started) * 1000)

    await asyncio.gather(*(write() for _ in range(int(waiters))))
    _say(json.dumps(times))
    await asyncio.to_thread(sys.stdin.readline)
    await log.close()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
