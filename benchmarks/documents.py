"""Writes what was measured into the documents: rows between two marks of docs/performance.md, plots beside it."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks.goals import HEADER, Row
from benchmarks.plots import Plot, svg

DOCS: Final = Path(__file__).parents[1] / "docs"
PAGE: Final = "performance.md"
_MARKS: Final = re.compile(r"(<!-- measured -->\n).*?(<!-- end of measured -->)", re.DOTALL)


def machine() -> str:
    """Say on what it was measured."""
    return f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"


def write(rows: Sequence[Row], plots: Sequence[Plot], profile: str, docs: Path = DOCS) -> None:
    """Replace the lines of these goals, and these plots; those that were not measured now stay as they are."""
    page = docs / PAGE
    when = f"{datetime.now(UTC):%Y-%m-%d}, {profile}"
    page.write_text(updated(page.read_text(), [_dated(row, when) for row in rows]))
    for plot in plots:
        (docs / "images" / f"bench-{plot.name}.svg").write_text(svg(plot))


def updated(text: str, lines: Sequence[str]) -> str:
    """Put lines of the table into a text, in the order of their goals; lines of the same goals go."""
    marked = _MARKS.search(text)
    assert marked is not None, "the marks are gone"
    kept = {_goal(line): line for line in marked[0].splitlines() if _goal(line)}
    kept |= {_goal(line): line for line in lines}
    header = "\n".join(f"{line} {cell} |" for line, cell in zip(HEADER.splitlines(), ("when", "---"), strict=True))
    body = "\n".join(kept[goal] for goal in sorted(kept, key=_order))
    return _MARKS.sub(lambda found: f"{found[1]}{header}\n{body}\n{found[2]}", text)


def _dated(row: Row, when: str) -> str:
    return f"{row.line()} {when} |"


def _goal(line: str) -> str:
    """Answer whose line of the table it is; empty for any other line."""
    cell = line.split("|")[1].strip() if line.startswith("| ") else ""
    return "" if cell in {"goal", "---"} else cell


def _order(goal: str) -> tuple[int, int]:
    """Answer by what lines are sorted: the number of the goal, then as they came."""
    found = re.match(r"G(\d+)\b", goal)
    return (0, int(found[1])) if found else (1, 0)
