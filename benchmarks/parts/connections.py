"""Scale: a thousand TLS connections that do next to nothing: what each costs, and what the others notice of them.

The broker closes a connection after ten idle seconds, so each asks for a word every few seconds, as a balancer's does.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from benchmarks.goals import Outcome, Row, ratios
from benchmarks.processes import cpu_of, memory_of
from benchmarks.profiles import Profile
from benchmarks.world import Loaded, World, world

AT_ONCE = 32
_EVERY_SECONDS = 5.0
_ASK = b"GET /healthz HTTP/1.1\r\nHost: broker\r\n\r\n"
_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def measure(folder: Path, profile: Profile) -> Outcome:
    """Load the broker without and with them in turns."""
    without, beside, memory, handshakes = [], [], [], []
    async with world(folder) as scene:
        rate = await scene.peak(profile.seconds) / 2
        for _ in range(profile.rounds):
            without.append((await _load(scene, rate, profile.seconds)).p99)
            bytes_before, cpu_before = memory_of(scene.broker), cpu_of(scene.broker)
            streams: list[_Streams] = []
            keeping = asyncio.create_task(_keep(streams))
            await _open(scene, profile.connections, streams)
            memory.append((memory_of(scene.broker) - bytes_before) * 1000 / profile.connections)
            handshakes.append((cpu_of(scene.broker) - cpu_before) * 1000 / profile.connections)
            beside.append(await _beside(scene, streams, keeping, (rate, profile.seconds)))
    note = f"{profile.connections:,} connections; of later rounds, in which memory that was freed is used again, less"
    p99 = f"p99 {median(beside):.1f} ms beside {profile.connections:,}, {median(without):.1f} ms alone, at {rate:.0f}/s"
    return Outcome(
        [
            Row("scale connection, memory", memory[:1], 100, more_is_better=False, note=note, unit="kB"),
            Row(
                "scale connection, CPU",
                handshakes,
                3,
                more_is_better=False,
                note="handshake and one small request",
                unit="ms",
            ),
            Row("scale connections, p99", ratios(beside, without), 1.5, more_is_better=False, note=p99),
        ]
    )


async def _beside(
    scene: World, streams: list[_Streams], keeping: asyncio.Task[None], load: tuple[float, float]
) -> float:
    """Answer the p99 of those who ask beside the connections, of which none may be lost."""
    loaded = await _load(scene, *load)
    assert not keeping.done(), keeping.exception()
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping
    await asyncio.gather(*(_close(writer) for _, writer in streams))
    return loaded.p99


async def _load(scene: World, rate: float, seconds: float) -> Loaded:
    return (await scene.load("open", rate=rate, seconds=seconds, connections=64)).served()


async def _open(scene: World, count: int, opened: list[_Streams]) -> None:
    """Open so many, some at once."""
    url, context = urlsplit(scene.url), ssl.create_default_context(cafile=str(scene.ca))
    turn = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with turn:
            streams = await asyncio.open_connection(url.hostname, url.port, ssl=context)
            await _ask(streams)
            opened.append(streams)

    await asyncio.gather(*(one() for _ in range(count)))


async def _ask(streams: _Streams) -> None:
    reader, writer = streams
    writer.write(_ASK)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.partition(b":")[2]))


async def _keep(streams: list[_Streams]) -> None:
    """Ask over each in turn, so that each is idle for no longer than a few seconds."""
    while True:
        await asyncio.sleep(_EVERY_SECONDS / 10)
        for each in [*streams]:
            await _ask(each)
            await asyncio.sleep(_EVERY_SECONDS / len(streams) / 2)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError, ssl.SSLError):
        await writer.wait_closed()
