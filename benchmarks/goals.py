"""How results are written down: a goal, the median of its ratio, its range, and what was measured on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Row:
    """One result. `target` is what the ratio should reach: at least when `more_is_better`, else at most."""

    goal: str
    ratios: Sequence[float]
    target: float
    more_is_better: bool
    note: str

    @property
    def met(self) -> bool:
        """Tell whether the median reaches the target."""
        middle = median(self.ratios)
        return middle >= self.target if self.more_is_better else middle <= self.target


def table(rows: Sequence[Row]) -> str:
    """Write the rows as a Markdown table."""
    lines = ["| goal | ratio, median (range) | target | met | measured |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        sign = ">=" if row.more_is_better else "<="
        spread = f"{median(row.ratios):.2f} ({min(row.ratios):.2f}-{max(row.ratios):.2f})"
        met = "yes" if row.met else "no"
        lines.append(f"| {row.goal} | {spread} | {sign} {row.target} | {met} | {row.note} |")
    return "\n".join(lines)
