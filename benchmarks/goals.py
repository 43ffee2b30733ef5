"""How results are written down: a goal, the median of what was measured, its range, and what lies behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.plots import Plot

HEADER = "| goal | median (range) | target | met | measured |\n| --- | --- | --- | --- | --- |"


@dataclass(frozen=True, slots=True)
class Row:
    """One result: a ratio for each round, or a figure with a unit.

    `target` is what the median should reach: at least when `more_is_better`, else at most.
    """

    goal: str
    values: Sequence[float]
    target: float
    more_is_better: bool
    note: str
    unit: str = ""

    @property
    def median(self) -> float:
        """The middle of all rounds."""
        return median(self.values)

    @property
    def met(self) -> bool:
        """Tell whether the median reaches the target."""
        return self.median >= self.target if self.more_is_better else self.median <= self.target

    def line(self) -> str:
        """Write it as a line of a Markdown table."""
        sign = ">=" if self.more_is_better else "<="
        unit = self.unit and f" {self.unit}"
        spread = f"{_short(self.median)}{unit} ({_short(min(self.values))}-{_short(max(self.values))})"
        return (
            f"| {self.goal} | {spread} | {sign} {self.target:g}{unit} | {'yes' if self.met else 'no'} | {self.note} |"
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a part has measured: rows for the table, pictures, and by name what `recorded.toml` may hold."""

    rows: Sequence[Row]
    plots: Sequence[Plot] = ()
    figures: Mapping[str, float] = field(default_factory=dict)


def table(rows: Sequence[Row]) -> str:
    """Write the rows as a Markdown table."""
    return "\n".join([HEADER, *(row.line() for row in rows)])


def ratios(of: Sequence[float], to: Sequence[float]) -> list[float]:
    """Answer the ratio of each round."""
    return [one / other for one, other in zip(of, to, strict=True)]


def _short(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"  # noqa: PLR2004 -- so many digits mean something
