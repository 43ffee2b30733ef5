"""Line plots as SVG, in the colours of whoever looks: light or dark."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 760
HEIGHT: Final = 400
LEFT, RIGHT, TOP, BOTTOM = 66, 176, 48, 56
_TICKS: Final = 5
_LABEL_HEIGHT: Final = 17

_STYLE: Final = """
text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #454b54 }
.title { font-size: 15px; font-weight: 600; fill: #1c2128 }
.grid { stroke: #d9dde2; stroke-width: 1 } .axis { stroke: #8b929b; stroke-width: 1 }
.line { fill: none; stroke-width: 2.25; stroke-linejoin: round; stroke-linecap: round }
.s0 { --c: #0b63ce } .s1 { --c: #c2410c } .s2 { --c: #15803d }
.s3 { --c: #7e3fbf } .s4 { --c: #9a6700 } .s5 { --c: #0e7490 }
.line { stroke: var(--c) } .dot, text.of { fill: var(--c) }
@media (prefers-color-scheme: dark) {
  text { fill: #b3bac4 } .title { fill: #eceff3 } .grid { stroke: #30363d } .axis { stroke: #6e7681 }
  .s0 { --c: #62a8ff } .s1 { --c: #ff9356 } .s2 { --c: #5cc77c }
  .s3 { --c: #c496ff } .s4 { --c: #e3b341 } .s5 { --c: #4cc3d9 }
}
"""
_COLOURS: Final = 6


@dataclass(frozen=True, slots=True)
class Plot:
    """Lines through points, each with its name. `name` is that of the file."""

    name: str
    title: str
    across: str
    """What the horizontal axis says."""
    up: str
    """What the vertical axis says; it begins at 0, unless it is logarithmic."""
    lines: Mapping[str, Sequence[tuple[float, float]]]
    logarithmic_across: bool = False
    logarithmic_up: bool = False


@dataclass(frozen=True, slots=True)
class _Scale:
    """From values to places along an axis."""

    ticks: Sequence[float]
    begin: float
    end: float
    logarithmic: bool

    def __call__(self, value: float) -> float:
        low, high, here = (self._even(each) for each in (self.ticks[0], self.ticks[-1], value))
        return self.begin + (here - low) / (high - low) * (self.end - self.begin)

    def _even(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value


def svg(plot: Plot) -> str:
    """Draw a plot."""
    points = [point for line in plot.lines.values() for point in line]
    x = _Scale(_ticks([x for x, _ in points], plot.logarithmic_across), LEFT, WIDTH - RIGHT, plot.logarithmic_across)
    y = _Scale(_ticks([y for _, y in points], plot.logarithmic_up), HEIGHT - BOTTOM, TOP, plot.logarithmic_up)
    body = "\n".join([*_grid(plot, x, y), *_lines(plot, x, y)])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">\n'
        f"<title>{escape(plot.title)}</title>\n<style>{_STYLE}</style>\n{body}\n</svg>\n"
    )


def _grid(plot: Plot, x: _Scale, y: _Scale) -> Iterator[str]:
    yield f'<text class="title" x="{LEFT}" y="22">{escape(plot.title)}</text>'
    yield f'<text x="{LEFT}" y="40">{escape(plot.up)}</text>'
    yield f'<text x="{(x.begin + x.end) / 2:.1f}" y="{HEIGHT - 12}" text-anchor="middle">{escape(plot.across)}</text>'
    for tick in y.ticks:
        kind = "axis" if tick == y.ticks[0] else "grid"
        yield f'<line class="{kind}" x1="{x.begin}" x2="{x.end}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        yield f'<text x="{x.begin - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{_number(tick)}</text>'
    for tick in x.ticks:
        yield f'<line class="axis" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{y.begin}" y2="{y.begin + 5}"/>'
        yield f'<text x="{x(tick):.1f}" y="{y.begin + 20}" text-anchor="middle">{_number(tick)}</text>'


def _lines(plot: Plot, x: _Scale, y: _Scale) -> Iterator[str]:
    ends = _apart({name: y(line[-1][1]) for name, line in plot.lines.items()})
    for number, (name, line) in enumerate(plot.lines.items()):
        series = f"s{number % _COLOURS}"
        places = [(f"{x(at):.1f}", f"{y(value):.1f}") for at, value in line]
        yield f'<polyline class="line {series}" points="{" ".join(map(",".join, places))}"/>'
        for (across, up), (at, value) in zip(places, line, strict=True):
            told = escape(f"{name}: {_number(value)} at {_number(at)}")
            yield f'<circle class="dot {series}" cx="{across}" cy="{up}" r="3.5"><title>{told}</title></circle>'
        yield f'<text class="of {series}" x="{x.end + 10}" y="{ends[name] + 4:.1f}">{escape(name)}</text>'


def _apart(wanted: Mapping[str, float]) -> dict[str, float]:
    """Move labels down until none lies over another, then up again as far as the last ones would fall off."""
    placed: dict[str, float] = {}
    highest, lowest = -math.inf, float(HEIGHT - BOTTOM)
    for name in sorted(wanted, key=wanted.__getitem__):
        placed[name] = highest = max(wanted[name], highest)
        highest += _LABEL_HEIGHT
    for name in reversed(placed):
        placed[name] = lowest = min(placed[name], lowest)
        lowest -= _LABEL_HEIGHT
    return placed


def _ticks(values: Sequence[float], logarithmic: bool) -> list[float]:  # noqa: FBT001 -- of an axis, as in `Plot`
    """Answer round numbers from below the lowest value to above the highest."""
    if logarithmic:
        low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        return [10.0**power for power in range(low, max(high, low + 1) + 1)]
    least = (max(values) or 1.0) / _TICKS
    power = 10.0 ** math.floor(math.log10(least))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * 0.999)
    return [step * number for number in range(math.ceil(max(values) / step * 0.999) + 1)]


def _number(value: float) -> str:
    for least, size, sign in ((1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if value >= least:
            return f"{value / size:.3g} {sign}"
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"  # noqa: PLR2004 -- three digits, but never as 1e+03
