"""`make bench-compare REV=…`: another revision and this tree in turns, A B A B; prints the ratios of their figures.

The other revision is unpacked into a folder of its own that ends with the comparison. Both are measured by the
harness of this tree. Where the locked dependencies differ, the other revision gets an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from shutil import copytree, ignore_patterns, rmtree
from statistics import median
from typing import Final

from benchmarks.parts import PARTS
from benchmarks.profiles import PROFILES
from benchmarks.progress import say

ROOT: Final = Path(__file__).parents[1]
_LOCK: Final = "requirements-dev.lock"

Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Tree:
    """A revision on disk, and the Python that has what it needs."""

    folder: Path
    python: Path

    def measure(self, parts: Sequence[str], profile: str) -> Figures:
        """Run parts once; answer the median of each row by its goal."""
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            rows = Path(folder) / "rows.json"
            words = [*parts, "--profile", profile, "--rounds", "1", "--print-only", "--json", str(rows)]
            environment = {**os.environ, "PYTHONPATH": str(self.folder)}
            subprocess.run(
                [self.python, "-m", "benchmarks", *words],
                cwd=self.folder,
                env=environment,
                stdout=subprocess.DEVNULL,
                check=False,  # it fails when issuing is dearer than recorded, which is what is to be seen here
            )
            return {row["goal"]: median(row["values"]) for row in json.loads(rows.read_text())}


def compared(rounds: Sequence[tuple[Figures, Figures]]) -> str:
    """Write a table of what was measured in both, and the ratios of the second to the first."""
    lines = ["| figure | there | here | here / there, median (range) |", "| --- | --- | --- | --- |"]
    for goal in rounds[0][0]:
        pairs = [(there[goal], here[goal]) for there, here in rounds if goal in there and goal in here]
        if pairs:
            there, here = (median(column) for column in zip(*pairs, strict=True))
            ratios = [second / first for first, second in pairs]
            spread = f"{median(ratios):.3f} ({min(ratios):.3f}-{max(ratios):.3f})"
            lines.append(f"| {goal} | {there:.3g} | {here:.3g} | {spread} |")
    return "\n".join(lines)


@contextmanager
def unpacked(revision: str) -> Iterator[Tree]:
    """Unpack a revision, with the harness of this tree."""
    with tempfile.TemporaryDirectory(prefix="bench-revision-") as outer:
        folder = Path(outer) / "tree"
        archive = subprocess.run(["git", "-C", str(ROOT), "archive", revision], check=True, stdout=subprocess.PIPE)
        with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
            files.extractall(folder, filter="data")
        rmtree(folder / "benchmarks", ignore_errors=True)
        copytree(ROOT / "benchmarks", folder / "benchmarks", ignore=ignore_patterns("__pycache__"))
        yield Tree(folder, _python(folder))


def _python(folder: Path) -> Path:
    if (folder / _LOCK).read_bytes() == (ROOT / _LOCK).read_bytes():
        return Path(sys.executable)
    say("it needs other packages: making an environment for it ...")
    subprocess.run(["make", ".venv/dev.stamp"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return folder / ".venv/bin/python"


def main(words: Sequence[str] | None = None) -> int:
    """Compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare")
    parser.add_argument("revision", help="what this tree is compared with")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: issuing")
    parser.add_argument("--profile", choices=PROFILES, default="quick")
    parser.add_argument("--rounds", type=int, default=4, help="of both in turns (4)")
    options = parser.parse_intermixed_args(words)
    parts = options.parts or ["issuing"]
    here = Tree(ROOT, Path(sys.executable))
    with unpacked(options.revision) as there:
        rounds = []
        for number in range(options.rounds):
            say(f"round {number + 1} of {options.rounds}: {options.revision}")
            first = there.measure(parts, options.profile)
            say(f"round {number + 1} of {options.rounds}: here")
            rounds.append((first, here.measure(parts, options.profile)))
    print(f"\nhere against {options.revision}\n\n{compared(rounds)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
