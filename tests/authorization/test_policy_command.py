from argparse import ArgumentParser
from pathlib import Path

import pytest

from broker.cli import policy

GOOD = '@id("good") permit(principal, action == Action::"ssh", resource);'
CASE = "- {name: in, as: corp/a, on: main/eu-west-1/web-1, action: ssh, expect: %s, by: [good]}\n"


def broker_policy(*words: str) -> int:
    parser = ArgumentParser(prog="broker policy")
    policy.configure(parser)
    return policy.run(parser.parse_args(words))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "tests").mkdir()
    (tmp_path / "a.cedar").write_text(GOOD)
    (tmp_path / "tests" / "a.yaml").write_text(CASE % "allow")
    return tmp_path


def test_a_sound_set_is_summed_up(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert broker_policy("check", str(directory)) == 0
    assert capsys.readouterr().out.startswith("1 policy in 1 file, sha256 ")


@pytest.mark.parametrize("command", ["check", "test"])
def test_problems_go_to_stdout_with_their_place(
    command: str, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "b.cedar").write_text('@id("b") permit(principal, action == Action::"fly", resource);\n' + GOOD)
    assert broker_policy(command, str(directory)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{directory}/b.cedar:1:1: ")
    assert lines[-1] == f'{directory}/b.cedar:2:1: @id("good") is taken by a.cedar:1'


def test_tables_that_hold_are_counted(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert broker_policy("test", str(directory)) == 0
    assert capsys.readouterr().out == "1 of 1 case as expected, 1 of 1 policies decided one\n"


def test_a_failure_shows_where_what_was_expected_and_what_came(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "tests" / "a.yaml").write_text(CASE % "deny")
    assert broker_policy("test", str(directory)) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"{directory}/tests/a.yaml:1: in: corp/a ssh main/eu-west-1/web-1"
    assert [line.strip() for line in out[1:3]] == ["expected deny by good", "got      allow by good"]


def test_uncovered_policies_are_talked_about_and_fail_nothing(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "b.cedar").write_text('@id("idle") permit(principal, action == Action::"rdp", resource);')
    assert broker_policy("test", str(directory)) == 0
    assert "idle" in capsys.readouterr().err


def test_tables_that_are_missing_or_unreadable_do_not_pass(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "tests" / "a.yaml").write_text("cases: [")
    assert broker_policy("test", str(directory)) == 1
    shown = capsys.readouterr().out
    assert f"{directory}/tests/a.yaml:1:1: not YAML" in shown
    assert "case" not in shown
    (directory / "tests" / "a.yaml").unlink()
    assert broker_policy("test", str(directory)) == 1
    shown, told = capsys.readouterr()
    assert (shown, "there are no truth tables" in told) == ("", True)


def test_a_directory_that_is_not_there_is_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert broker_policy("check", "gone") == 2
    assert f"{tmp_path}/gone: there is no such directory; copy the shipped `policies`" in capsys.readouterr().err
