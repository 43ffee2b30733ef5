"""G11: from the start of the service to its first credential, against one `aws` call."""

from __future__ import annotations

import asyncio
import ssl
import sys
from pathlib import Path
from statistics import median
from time import perf_counter
from urllib.parse import urlsplit

from benchmarks.goals import Outcome, Row, ratios
from benchmarks.parts.client import aws, wall
from benchmarks.profiles import Profile
from benchmarks.world import Stage, stage

_PATIENCE = 30.0


async def measure(folder: Path, profile: Profile) -> Outcome:
    """Start and call in turns; the first of each only warms the disk's cache."""
    async with stage(folder) as scene:
        pairs = [(await _first_credential(scene), await wall(aws(scene))) for _ in range(profile.rounds + 1)][1:]
    started, called = zip(*pairs, strict=True)
    note = f"{median(started) * 1000:.0f} ms against {median(called) * 1000:.0f} ms"
    return Outcome([Row("G11 first credential", ratios(started, called), 1.3, more_is_better=False, note=note)])


async def _first_credential(scene: Stage) -> float:
    """Answer the seconds until a service that is being started gives out a credential to somebody who waits for it."""
    request = scene.requests().read_bytes().split(b"\0")[0]
    context = ssl.create_default_context(cafile=str(scene.ca))
    words = [sys.executable, "-m", "broker", "serve", "--config", str(scene.folder / "broker.toml")]
    started = perf_counter()
    process = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    try:
        async with asyncio.timeout(_PATIENCE):
            while b"serving on " not in (line := await process.stderr.readline()):
                assert line
            url = urlsplit(line.decode().split()[-1])
            reader, writer = await asyncio.open_connection(url.hostname, url.port, ssl=context)
            writer.write(request)
            assert (await reader.readline()).startswith(b"HTTP/1.1 201")
        took = perf_counter() - started
        writer.close()
    finally:
        process.terminate()
        await process.communicate()
    return took
