"""The loads. A process of its own: `python -m benchmarks.load closed|open|direct …`.

`closed` keeps so many connections busy. `open` lets requests come at random times (Poisson) at a rate, whether or not
earlier ones are answered; each is timed from when it should have been sent, so a slow service cannot slow its own
measurement down. `direct` calls Lightsail by one shared aioboto3 client. Both HTTP loads speak just enough HTTP over
asyncio's own protocols to be cheap, for they share the processors with what they measure.

It prints `measuring` and `measured` around the time that counts, then one JSON line: see `Tally.report`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import selectors
import ssl
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.double import END_OF_HEAD, header
from benchmarks.processes import own_cpu

WARM_UP_SECONDS = 1.0
PATIENCE_SECONDS = 10.0
BROKEN = 0
"""Instead of a status: the connection went."""


class Tally:
    """Counts answers; times the good ones that came while it was measured."""

    def __init__(self, good: int) -> None:
        self._good = good
        self._statuses: Counter[int] = Counter()
        self._times: list[float] = []
        self._answered = 0
        self._measuring = False
        self._began = self._seconds = self._cpu = 0.0

    def answered(self, status: int, seconds: float) -> None:
        """Take one answer."""
        self._statuses[status] += 1
        if self._measuring:
            self._answered += 1
            if status == self._good:
                self._times.append(seconds)

    def begin(self) -> None:
        """Measure from now on."""
        self._measuring = True
        self._began, self._cpu = asyncio.get_running_loop().time(), own_cpu()
        _say("measuring")

    def end(self) -> None:
        """Measure no longer."""
        self._measuring = False
        self._seconds = asyncio.get_running_loop().time() - self._began
        self._cpu = own_cpu() - self._cpu
        _say("measured")

    def report(self) -> dict[str, Any]:
        """Answer counts of the measured time, and of all time by status; quantiles are in milliseconds."""
        times = sorted(self._times)
        return {
            "answered": self._answered,
            "good": len(times),
            "seconds": self._seconds,
            "own_cpu": self._cpu,
            "statuses": {str(status): count for status, count in self._statuses.items()},
            "quantiles": {str(q): times[len(times) * q // 100] * 1000 for q in (50, 90, 99)} if times else {},
        }


class Connection(asyncio.Protocol):
    """One connection, one question at a time."""

    def __init__(self, answered: Callable[[Connection, int], object]) -> None:
        self._answered = answered
        self._transport: asyncio.WriteTransport | None = None
        self._buffer = b""
        self.since = 0.0
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to ask."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def ask(self, request: bytes, since: float) -> None:
        """Send a request that should have been sent at a time."""
        assert self._transport is not None
        self.since, self.busy = since, True
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Notice a whole answer."""
        self._buffer += data
        end = self._buffer.find(END_OF_HEAD)
        if end < 0:
            return
        head = self._buffer[:end]
        if len(self._buffer) >= end + len(END_OF_HEAD) + int(header(head, b"content-length")):
            self._buffer = b""
            self.busy = False
            self._answered(self, int(head[9:12]))

    def connection_lost(self, problem: Exception | None) -> None:
        """Count what is not answered any more."""
        del problem
        if self.busy:
            self.busy = False
            self._answered(self, BROKEN)

    def close(self) -> None:
        """Hang up."""
        assert self._transport is not None
        self._transport.close()

    @property
    def usable(self) -> bool:
        """Whether it is still open."""
        return self._transport is not None and not self._transport.is_closing()


class Load:
    """Connections to one place, and what is asked over them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._tally = Tally(options.good)
        self._requests: Iterator[bytes] = cycle(options.requests.read_bytes().split(b"\0"))
        self._loop = asyncio.get_running_loop()
        self._free: list[Connection] = []
        self._connections: list[Connection] = []
        self._waiting: deque[float] = deque()
        self._asked = self._under_way = 0
        self._enough, self._idle = asyncio.Event(), asyncio.Event()
        self._ends = False

    async def run(self) -> dict[str, Any]:
        """Ask until it is over; answer the report."""
        await self._connect()
        if self._options.count:
            self._tally.begin()
        self._begin()
        if self._options.count:
            await self._enough.wait()
            await self._drain()
            self._tally.end()
        else:
            await asyncio.sleep(WARM_UP_SECONDS)
            self._tally.begin()
            await asyncio.sleep(self._options.seconds)
            self._tally.end()
            await self._drain()
        return self._tally.report()

    def _begin(self) -> None:
        now = self._loop.time()
        if self._options.load == "open":
            self._arrive(now)
            return
        for connection in self._connections[: self._options.count or None]:
            self._free.remove(connection)
            self._ask(connection, now)

    async def _connect(self) -> None:
        parts = urlsplit(self._options.url)
        context = ssl.create_default_context(cafile=str(self._options.ca)) if parts.scheme == "https" else None
        for _ in range(self._options.connections):
            _, connection = await self._loop.create_connection(
                lambda: Connection(self._answered), parts.hostname, parts.port, ssl=context
            )
            self._connections.append(connection)
        self._free = list(self._connections)

    async def _drain(self) -> None:
        """Wait for what is under way; whoever is not answered by then counts as broken."""
        self._ends = True
        if self._under_way:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), PATIENCE_SECONDS)
        for _ in range(self._under_way):
            self._tally.answered(BROKEN, 0)
        for connection in self._connections:
            connection.close()
        await asyncio.sleep(0)

    def _ask(self, connection: Connection, since: float) -> None:
        self._asked += 1
        self._under_way += 1
        if self._asked == self._options.count:
            self._enough.set()
        connection.ask(next(self._requests), since)

    def _arrive(self, due: float) -> None:
        """Send what is due, and come back for the next."""
        now = self._loop.time()
        while due <= now:
            if self._ends:
                return
            if self._free:
                self._ask(self._free.pop(), due)
            else:
                self._waiting.append(due)
            due += random.expovariate(self._options.rate)
        self._loop.call_at(due, self._arrive, due)

    def _answered(self, connection: Connection, status: int) -> None:
        now = self._loop.time()
        self._tally.answered(status, now - connection.since)
        self._under_way -= 1
        if self._ends and not self._under_way:
            self._idle.set()
        if not connection.usable and not any(each.usable for each in self._connections):
            self._enough.set()  # nobody is left to ask
        if not connection.usable or self._ends:
            return
        if self._options.load == "closed":
            if not 0 < self._options.count <= self._asked:
                self._ask(connection, now)
        elif self._waiting:
            self._ask(connection, self._waiting.popleft())
        else:
            self._free.append(connection)


async def direct(options: argparse.Namespace) -> dict[str, Any]:
    """Call GetInstanceAccessDetails by one shared client whose pool is as large as the concurrency."""
    import aioboto3  # noqa: PLC0415 -- the other loads must not pay for it
    from aiobotocore.config import AioConfig  # noqa: PLC0415 -- same

    tally, loop = Tally(options.good), asyncio.get_running_loop()
    config = AioConfig(max_pool_connections=options.connections)
    ends = False
    async with aioboto3.Session().client("lightsail", "eu-west-1", endpoint_url=options.url, config=config) as client:

        async def work() -> None:
            while not ends:
                started = loop.time()
                answer = await client.get_instance_access_details(
                    instanceName=options.instance, protocol=options.protocol
                )
                assert answer["accessDetails"]["instanceName"] == options.instance
                tally.answered(options.good, loop.time() - started)

        tasks = [asyncio.create_task(work()) for _ in range(options.connections)]
        await asyncio.sleep(WARM_UP_SECONDS)
        tally.begin()
        await asyncio.sleep(options.seconds)
        tally.end()
        ends = True
        await asyncio.gather(*tasks)
    return tally.report()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("load", choices=("closed", "open", "direct"))
    parser.add_argument("url")
    parser.add_argument("--requests", type=Path, help="what is sent, one after the other, with NUL between")
    parser.add_argument("--ca", type=Path)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--count", type=int, default=0, help="of closed: so many requests instead, and no warm-up")
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second, of open")
    parser.add_argument("--good", type=int, default=201)
    parser.add_argument("--instance", default="", help="of direct")
    parser.add_argument("--protocol", default="ssh", help="of direct")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Run one load."""
    options = _options(words)

    if options.load == "direct":
        _say(json.dumps(asyncio.run(direct(options))))
        return

    async def run() -> dict[str, Any]:
        return await Load(options).run()

    gc.disable()  # for seconds, and it must not be what is measured
    # select(2) takes microseconds where epoll waits for whole milliseconds: requests are sent when they are due.
    precise = asyncio.SelectorEventLoop(selectors.SelectSelector())
    with asyncio.Runner(loop_factory=lambda: precise) as runner:
        _say(json.dumps(runner.run(run())))


if __name__ == "__main__":
    main()
