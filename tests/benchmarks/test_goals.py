import json
from dataclasses import asdict

import pytest

from benchmarks.goals import Row, ratios, table


def test_a_row_tells_median_range_and_whether_the_target_is_met() -> None:
    row = Row("G1 ssh", [0.7, 0.9, 0.85], 0.8, more_is_better=True, note="343/s against 404/s")
    assert row.line() == "| G1 ssh | 0.85 (0.70-0.90) | >= 0.8 | yes | 343/s against 404/s |"
    assert Row("G10", [150.4], 160, more_is_better=False, note="", unit="MB").line() == (
        "| G10 | 150 MB (150-150) | <= 160 MB | yes |  |"
    )


@pytest.mark.parametrize(
    ("value", "more_is_better", "met"), [(0.79, True, False), (0.8, True, True), (0.81, False, False)]
)
def test_a_target_is_met_from_its_own_side(value: float, *, more_is_better: bool, met: bool) -> None:
    assert Row("G", [value], 0.8, more_is_better=more_is_better, note="").met is met


def test_ratios_are_those_of_each_round() -> None:
    assert ratios([1, 6], [2, 3]) == [0.5, 2]
    with pytest.raises(ValueError, match="longer"):
        ratios([1], [2, 3])


def test_the_table_has_a_line_for_every_row_and_a_row_is_json() -> None:
    rows = [Row(f"G{n}", [1.0], 1, more_is_better=True, note="") for n in range(3)]
    assert [line.split(" | ")[0] for line in table(rows).splitlines()[2:]] == ["| G0", "| G1", "| G2"]
    assert json.loads(json.dumps(asdict(rows[0])))["values"] == [1.0]
