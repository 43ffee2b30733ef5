import re
from itertools import pairwise
from xml.etree import ElementTree as ET

from benchmarks.plots import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Plot, svg

SVG = "{http://www.w3.org/2000/svg}"


def drawn(plot: Plot) -> ET.Element:
    return ET.fromstring(svg(plot))  # noqa: S314 -- our own picture


def places(picture: ET.Element) -> list[list[tuple[float, float]]]:
    return [
        [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]  # type: ignore[misc]  # pairs
        for line in picture.iter(f"{SVG}polyline")
    ]


def texts(picture: ET.Element) -> list[str]:
    return [str(text.text) for text in picture.iter(f"{SVG}text")]


def test_points_lie_where_their_values_say() -> None:
    [line] = places(drawn(Plot("p", "t", "x", "y", {"a": [(0, 0), (50, 5), (100, 10)]})))
    assert line == [
        (LEFT, HEIGHT - BOTTOM),
        ((LEFT + WIDTH - RIGHT) / 2, (HEIGHT - BOTTOM + TOP) / 2),
        (WIDTH - RIGHT, TOP),
    ]


def test_a_logarithmic_axis_gives_every_power_the_same_room() -> None:
    plot = Plot("p", "t", "x", "y", {"a": [(10, 1), (100, 1), (1000, 1)]}, logarithmic_across=True)
    [line] = places(drawn(plot))
    assert line[1][0] - line[0][0] == line[2][0] - line[1][0]
    assert {"10", "100", "1000"} <= set(texts(drawn(plot)))


def test_every_value_lies_between_the_first_and_the_last_tick() -> None:
    for highest in (0.003, 0.9, 1, 7, 99, 101, 12_345):
        for logarithmic in (False, True):
            plot = Plot("p", "t", "x", "y", {"a": [(1, highest / 3), (2, highest)]}, logarithmic_up=logarithmic)
            assert all(TOP - 0.1 <= up <= HEIGHT - BOTTOM + 0.1 for line in places(drawn(plot)) for _, up in line)


def test_names_of_lines_do_not_lie_over_each_other_nor_below_the_axis() -> None:
    lines = {f"line {n}": [(0.0, 0.0), (1.0, 1.0 + n / 100)] for n in range(6)} | {"last": [(0.0, 0.0), (1.0, 0.0)]}
    picture = drawn(Plot("p", "t", "x", "y", lines))
    ups = sorted(float(text.attrib["y"]) for text in picture.iter(f"{SVG}text") if "of" in text.attrib.get("class", ""))
    assert len(ups) == len(lines)
    assert all(second - first >= 16 for first, second in pairwise(ups))
    assert ups[-1] <= HEIGHT - BOTTOM + 5


def test_what_the_names_say_is_text() -> None:
    picture = drawn(Plot("p", "a < b & c", "x", "y", {"<script>": [(0, 0), (1, 1)]}))
    assert {"a < b & c", "<script>"} <= set(texts(picture))


def test_a_picture_fits_a_dark_page_too() -> None:
    style = str(drawn(Plot("p", "t", "x", "y", {"a": [(0, 0), (1, 1)]})).find(f"{SVG}style").text)  # type: ignore[union-attr]  # it has one
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    assert set(re.findall(r"\.s\d", dark)) == set(re.findall(r"\.s\d", light))
