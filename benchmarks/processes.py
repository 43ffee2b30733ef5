"""What a process and its children cost, as Linux tells it."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def own_cpu() -> float:
    """Answer the CPU seconds of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def cpu_of(process: int) -> float:
    """Answer the CPU seconds of a process with its threads and children, those that have ended included."""
    return sum(_ticks(each) for each in _family(process)) / _TICKS


def memory_of(process: int) -> float:
    """Answer the resident memory of a process and its children, in MB."""
    return sum(_resident(each) for each in _family(process)) / 1000


def _family(process: int) -> Iterator[int]:
    yield process
    for thread in Path(f"/proc/{process}/task").iterdir():
        for child in (thread / "children").read_text().split():
            yield from _family(int(child))


def _ticks(process: int) -> int:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15]))


def _resident(process: int) -> float:
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1.024 if found else 0.0
