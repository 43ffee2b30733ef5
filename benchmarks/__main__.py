"""`make bench`: run the measurements, print a table, exit 1 when a check of a run itself failed."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from benchmarks.goals import Row, table
from benchmarks.parts import client_time, decisions, overload, throughput
from benchmarks.world import world

PARTS: dict[str, Callable[[Path, int], Coroutine[Any, Any, list[Row]]]]


async def _throughput(folder: Path, rounds: int) -> list[Row]:
    async with world(folder) as scene:
        return [
            *await throughput(scene, "web-1", "ssh", rounds, {"G1 ssh": 0.8, "G2 ssh": 1.4}),
            *await throughput(scene, "win-1", "rdp", rounds, {"G1 rdp": 0.7, "G2 rdp": 2.0}),
        ]


async def _client(folder: Path, rounds: int) -> list[Row]:
    async with world(folder) as scene:
        return await client_time(scene, rounds + 3)


async def _decisions(folder: Path, rounds: int) -> list[Row]:
    return await asyncio.to_thread(decisions, folder, rounds)


async def _overload(folder: Path, rounds: int) -> list[Row]:
    async with world(folder) as scene:
        return await overload(scene, rounds)


PARTS = {"overload": _overload, "throughput": _throughput, "decisions": _decisions, "client": _client}


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--rounds", type=int, default=4, help="alternating rounds of each comparison (4)")
    options = parser.parse_args()
    rows: list[Row] = []
    for name in options.parts or PARTS:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            rows += asyncio.run(PARTS[name](Path(folder), options.rounds))
    print(
        f"\n{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, {options.rounds} rounds\n"
    )
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
