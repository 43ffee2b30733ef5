from pathlib import Path

import pytest

from benchmarks.parts import issuing
from benchmarks.recorded import against, dearer, record, recorded

KNOWN = {"cpu ssh": 2.0, "allocations ssh": 2.0}


@pytest.mark.parametrize(
    ("measured", "found"),
    [
        ({"cpu ssh": 2.4, "allocations ssh": 2.0}, []),
        ({"cpu ssh": 2.6, "allocations ssh": 2.0}, ["recorded cpu ssh"]),
        ({"cpu ssh": 1.0, "allocations ssh": 2.2}, ["recorded allocations ssh"]),
        ({"cpu ssh": 0.5}, []),
    ],
)
def test_what_became_dearer_is_found(measured: dict[str, float], found: list[str]) -> None:
    assert dearer(against(measured, KNOWN)) == found


def test_what_is_measured_for_the_first_time_is_compared_with_nothing() -> None:
    assert against({"cpu rdp": 9.0}, KNOWN) == []


def test_recording_keeps_what_was_not_measured(tmp_path: Path) -> None:
    file = tmp_path / "recorded.toml"
    record(KNOWN, file)
    record({"cpu ssh": 1.5}, file)
    assert recorded(file) == {"cpu ssh": 1.5, "allocations ssh": 2.0}


def test_what_issuing_costs_is_recorded() -> None:
    assert set(recorded()) == {"allocations ssh", *(f"cpu {protocol}" for protocol in issuing.WHAT)}
