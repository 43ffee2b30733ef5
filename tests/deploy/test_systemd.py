import sys
from pathlib import Path

import pytest

from tests.deploy.confinement import NEVER, UNIT, allowed_calls, analyze, directives, profile


@pytest.mark.real("systemd-analyze")
def test_the_unit_is_exposed_to_at_most_one_and_a_half_of_ten() -> None:
    result = analyze("security", "--offline=true", "--threshold=15", UNIT)  # the threshold counts in tenths
    assert result.returncode == 0, result.stdout
    assert "Overall exposure level" in result.stdout


@pytest.mark.real("systemd-analyze")
def test_an_unhardened_unit_would_not_pass(tmp_path: Path) -> None:
    bare = tmp_path / "bare.service"
    bare.write_text(f"[Service]\nExecStart={sys.executable}\n")
    assert analyze("security", "--offline=true", "--threshold=15", bare).returncode != 0


def complaints(unit: Path) -> str:
    """Ask systemd what it does not understand; its exit code says nothing about misspelt names."""
    result = analyze("verify", unit)
    return result.stdout + result.stderr


@pytest.mark.real("systemd-analyze")
def test_systemd_understands_every_line_of_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "broker.service"
    text = UNIT.read_text().replace("/opt/broker/bin/broker", sys.executable)
    unit.write_text(text)
    assert complaints(unit) == ""
    unit.write_text(text.replace("LimitCORE=", "LimitCROE="))
    assert "LimitCROE" in complaints(unit)


def test_the_unit_starts_the_service_and_gives_it_time_to_drain() -> None:
    unit = directives()
    assert unit["ExecStart"] == ["/opt/broker/bin/broker serve --config /etc/broker/broker.toml"]
    assert int(unit["TimeoutStopSec"][0]) > 25


def test_the_unit_keeps_secrets_off_the_disk() -> None:
    unit = directives()
    assert unit["LimitCORE"] == ["0"]
    assert unit["MemorySwapMax"] == ["0"]
    assert unit["StateDirectoryMode"] == ["0700"]


@pytest.mark.real("systemd-analyze")
def test_the_unit_allows_no_call_that_looks_into_others_or_goes_round_the_filter() -> None:
    assert NEVER & allowed_calls() == set()


@pytest.mark.real("systemd-analyze")
def test_the_profile_for_containers_allows_what_the_unit_allows_and_no_more() -> None:
    assert profile() == allowed_calls() & profile()
    assert NEVER & profile() == set()
