"""The two loads that are compared: requests to the broker over TLS, and direct calls of one shared aioboto3 client.

Run as a process of its own, `python -m benchmarks.load broker|direct …`, it prints one JSON line:
`{"count": n, "good": n, "seconds": wall, "cpu": own CPU seconds, "errors": n, "total": n, "milliseconds": [p50, p99]}`.
All but `total` and `errors` leave the warm-up out; the times are those of good answers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import ssl
import sys
import time
from collections.abc import Awaitable, Callable
from itertools import cycle
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from benchmarks.double import END_OF_HEAD, header

WARM_UP_SECONDS = 0.5


def own_cpu() -> float:
    """Answer the CPU seconds of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def measure(one: Callable[[], Awaitable[bool]], workers: int, seconds: float) -> dict[str, object]:
    """Run `one` over and over in so many tasks; answer counts and times after a warm-up."""
    times: list[float] = []
    answered: list[bool] = []
    total = errors = 0
    measuring = asyncio.Event()
    end = time.perf_counter() + WARM_UP_SECONDS + seconds

    async def work() -> None:
        nonlocal total, errors
        while (started := time.perf_counter()) < end:
            good = await one()
            total += 1
            errors += not good
            if measuring.is_set():
                answered.append(good)
                if good:
                    times.append(time.perf_counter() - started)

    tasks = [asyncio.create_task(work()) for _ in range(workers)]
    await asyncio.sleep(WARM_UP_SECONDS)
    cpu, started = own_cpu(), time.perf_counter()
    sys.stdout.write("measuring\n")
    sys.stdout.flush()
    measuring.set()
    await asyncio.gather(*tasks)
    wall = time.perf_counter() - started
    times.sort()
    return {
        "count": len(answered),
        "good": len(times),
        "seconds": wall,
        "cpu": own_cpu() - cpu,
        "errors": errors,
        "total": total,
        "milliseconds": [times[len(times) // 2] * 1000, times[len(times) * 99 // 100] * 1000],
    }


async def broker(url: str, ca: Path, tokens: list[str], body: bytes, workers: int, seconds: float) -> dict[str, object]:
    """Ask the broker for credentials, each time with another person's token."""
    parts, context = urlsplit(url), ssl.create_default_context(cafile=str(ca))
    heads = cycle(
        b"POST /v1/credentials HTTP/1.1\r\nHost: broker\r\nAuthorization: Bearer %s\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (token.encode(), len(body), body)
        for token in tokens
    )
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(workers):
        free.put_nowait(await asyncio.open_connection(parts.hostname, parts.port, ssl=context))

    async def one() -> bool:
        reader, writer = free.get_nowait()
        writer.write(next(heads))
        head = await reader.readuntil(END_OF_HEAD)
        await reader.readexactly(int(header(head, b"content-length")))
        free.put_nowait((reader, writer))
        return head.startswith(b"HTTP/1.1 201")

    return await measure(one, workers, seconds)


async def direct(
    url: str, instance: str, protocol: Literal["ssh", "rdp"], workers: int, seconds: float
) -> dict[str, object]:
    """Call GetInstanceAccessDetails by one shared client whose pool is as large as the concurrency."""
    import aioboto3  # noqa: PLC0415 - the other load must not pay for it
    from aiobotocore.config import AioConfig  # noqa: PLC0415 - same

    config = AioConfig(max_pool_connections=workers)
    async with aioboto3.Session().client("lightsail", "eu-west-1", endpoint_url=url, config=config) as client:

        async def one() -> bool:
            answer = await client.get_instance_access_details(instanceName=instance, protocol=protocol)
            return bool(answer["accessDetails"]["instanceName"] == instance)

        return await measure(one, workers, seconds)


def main() -> None:
    """Run one load."""
    parser = argparse.ArgumentParser()
    parser.add_argument("which", choices=("broker", "direct"))
    parser.add_argument("url")
    parser.add_argument("instance")
    parser.add_argument("protocol")
    parser.add_argument("--ca", type=Path)
    parser.add_argument("--tokens", type=Path)
    parser.add_argument("--workers", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    if options.which == "broker":
        body = json.dumps({"instance": options.instance, "protocol": options.protocol}).encode()
        load = broker(
            options.url, options.ca, options.tokens.read_text().split(), body, options.workers, options.seconds
        )
    else:
        load = direct(options.url, options.instance, options.protocol, options.workers, options.seconds)
    sys.stdout.write(json.dumps(asyncio.run(load)) + "\n")


if __name__ == "__main__":
    main()
