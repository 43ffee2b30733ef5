"""What issuing cost when that last changed on purpose. Who makes it dearer must say so: `make bench` fails until then.

The figures are ratios to a direct call of the same run, so they hold on another machine, as well as one can tell.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.goals import Row

FILE: Final = Path(__file__).with_name("recorded.toml")
_TOLERANCES: Final = {"cpu": 1.25, "allocations": 1.05}
"""By how much a figure may be above the recorded one, by the first word of its name: neighbours disturb the first."""
_HEAD: Final = (
    "# What a credential cost, against a direct call of the same run. `make bench ARGS=--record` writes it anew.\n\n"
)


def recorded(file: Path = FILE) -> Mapping[str, float]:
    """Read what was recorded."""
    return {name: float(figure) for name, figure in tomllib.loads(file.read_text()).items()}


def against(measured: Mapping[str, float], known: Mapping[str, float]) -> Sequence[Row]:
    """Hold what was measured against what was recorded."""
    return [
        Row(
            f"recorded {name}",
            [figure / known[name]],
            _TOLERANCES[name.split()[0]],
            more_is_better=False,
            note=f"{figure:.2f} times a direct call, recorded {known[name]:.2f}",
        )
        for name, figure in measured.items()
        if name in known
    ]


def record(measured: Mapping[str, float], file: Path = FILE) -> None:
    """Write down what was measured; what was not stays as it is."""
    known = {**recorded(file), **measured} if file.exists() else measured
    file.write_text(_HEAD + "".join(f'"{name}" = {known[name]:.2f}\n' for name in sorted(known)))


def dearer(rows: Iterable[Row]) -> Sequence[str]:
    """Answer what costs more than was recorded."""
    return [row.goal for row in rows if row.goal.startswith("recorded ") and not row.met]
