from pathlib import Path

import pytest

from benchmarks.documents import updated, write
from benchmarks.goals import Row
from benchmarks.plots import Plot

PAGE = """# Performance

<!-- measured -->
| goal | median (range) | target | met | measured | when |
| --- | --- | --- | --- | --- | --- |
| G2 ssh | 3.58 (3-4) | <= 1.4 | no | then | 2026-01-31, long |
| G12 broker get | 0.14 (0.1-0.2) | <= 0.2 | yes | then | 2026-01-31, long |
<!-- end of measured -->

| target | why it is missed |
"""


def row(goal: str) -> Row:
    return Row(goal, [1.0], 2, more_is_better=False, note="now")


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(("| G", "| rec"))]


def test_measured_lines_replace_their_own_and_leave_the_others() -> None:
    text = updated(PAGE, ["| G2 ssh | new |"])
    assert lines(text) == ["| G2 ssh | new |", lines(PAGE)[1]]
    assert text.endswith("<!-- end of measured -->\n\n| target | why it is missed |\n")
    assert updated(text, []) == text


def test_lines_are_in_the_order_of_their_goals() -> None:
    text = updated(PAGE, ["| recorded cpu |", "| G10 memory |", "| G1 ssh |", "| G1 rdp |"])
    goals = [line.split(" |")[0] for line in lines(text)]
    assert goals == ["| G1 ssh", "| G1 rdp", "| G2 ssh", "| G10 memory", "| G12 broker get", "| recorded cpu"]


def test_a_page_without_marks_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "performance.md").write_text("# Performance\n")
    with pytest.raises(AssertionError, match="marks"):
        write([row("G1")], [], "quick", tmp_path)
    assert (tmp_path / "performance.md").read_text() == "# Performance\n"


def test_rows_are_dated_and_plots_lie_beside_the_page(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "performance.md").write_text(PAGE)
    write([row("G1 ssh")], [Plot("by-load", "t", "x", "y", {"a": [(0, 0), (1, 1)]})], "quick", tmp_path)
    assert lines((tmp_path / "performance.md").read_text())[0].endswith(", quick |")
    assert (tmp_path / "images/bench-by-load.svg").read_text().startswith("<svg")
