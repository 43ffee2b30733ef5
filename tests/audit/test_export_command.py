from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.audit.commands import Desk, a_desk
from tests.doubles.audit import an_event

EVENTS = 12


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Answer a log of events, every third of which failed."""
    outcomes = ("failure", "success", "success")
    return a_desk(tmp_path, [an_event(number=number, outcome=outcomes[number % 3]) for number in range(EVENTS)])


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "exported"


def checkpoint_of(output: Path) -> Path:
    return output.with_name("exported.checkpoint")


def test_csv_has_a_row_for_every_event_that_fits(desk: Desk, output: Path) -> None:
    words = ("--format", "csv", "--output", output, "--outcome", "failure")
    assert desk.audit("export", "--database", desk.database, *words) == 0
    with output.open(newline="") as file:
        assert [int(row["index"]) for row in csv.DictReader(file)] == [0, 3, 6, 9]
    assert not checkpoint_of(output).exists()


def test_ocsf_has_an_object_for_every_event_that_fits(desk: Desk, output: Path) -> None:
    words = ("--format", "ocsf", "--output", output, "--request-id", "request-4")
    assert desk.audit("export", "--database", desk.database, *words) == 0
    [line] = output.read_text().splitlines()
    assert json.loads(line)["unmapped"]["index"] == 4
    assert not checkpoint_of(output).exists()


def test_lines_of_some_events_have_no_checkpoint_since_they_cannot_verify(desk: Desk, output: Path) -> None:
    assert desk.audit("export", "--output", output, "--outcome", "failure") == 0
    assert [json.loads(line)["index"] for line in output.read_text().splitlines()] == [0, 3, 6, 9]
    assert not checkpoint_of(output).exists()


def test_an_export_holds_the_event_that_it_was_made_and_still_verifies(desk: Desk, output: Path) -> None:
    assert desk.audit("export", "--output", output) == 0
    last = json.loads(output.read_text().splitlines()[-1])["event"]
    assert (last["event"], last["details"]["format"], last["index"]) == ("audit.exported", "jsonl", EVENTS)
    assert desk.audit("verify", "--export", output) == 0


def test_an_export_on_stdout_is_the_same(desk: Desk, output: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert desk.audit("export", "--database", desk.database, "--output", output) == 0
    capfdbinary.readouterr()
    assert desk.audit("export", "--database", desk.database) == 0
    assert capfdbinary.readouterr().out == output.read_bytes()


def test_an_export_through_a_link_is_refused(desk: Desk, output: Path, tmp_path: Path) -> None:
    output.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="exported"):
        desk.audit("export", "--database", desk.database, "--output", output)
    assert not (tmp_path / "elsewhere").exists()


def test_an_unknown_format_is_refused(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        desk.audit("export", "--format", "xml")
    assert "jsonl" in capsys.readouterr().err
