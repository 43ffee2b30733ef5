import json
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
    assert out[0] == f"{directory}/tests/a.yaml:1:1: in: corp/a ssh main/eu-west-1/web-1"
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


QUESTION = ("--as", "corp/a", "--action", "ssh", "--on", "main/eu-west-1/web-1")


def test_an_explanation_tells_by_its_exit_code(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert broker_policy("explain", str(directory), *QUESTION) == 0
    assert f"{directory}/a.cedar:1:1: permit good" in capsys.readouterr().out.splitlines()
    (directory / "a.cedar").write_text(GOOD.replace(";", " when { context.mfa };"))
    assert broker_policy("explain", str(directory), *QUESTION, "--format", "json") == 3
    found = json.loads(capsys.readouterr().out)
    assert (found["decision"], found["obligations"]) == ("deny", ["mfa"])
    part = found["nearest"]["parts"][0]
    assert (part["text"], part["holding"], part["line"], part["column"]) == ("context.mfa", "fails", 1, 73)
    assert broker_policy("explain", str(directory), *QUESTION, "--context", "mfa=true") == 0
    assert broker_policy("explain", str(directory), "--case", f"{directory}/tests/a.yaml:1") == 3


@pytest.mark.parametrize(
    "words",
    [
        (),
        (*QUESTION, "--context", "mfa"),
        (*QUESTION, "--context", "approvals=many"),
        (*QUESTION, "--context", "source=nowhere"),
        ("--case", "a.yaml"),
        ("--as", "corp/a", "--action", "ssh", "--on", "unknown"),
    ],
)
def test_what_is_no_question_is_wrong_usage(
    words: tuple[str, ...], directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert broker_policy("explain", str(directory), *words) == 2
    assert capsys.readouterr().err.startswith("broker: ")


def test_problems_are_told_to_programs_with_their_place(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "b.cedar").write_text('@id("b")\npermit(principal, action, foo resource);')
    assert broker_policy("check", str(directory), "--format", "json") == 1
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert (problem["file"], problem["line"], problem["column"]) == (f"{directory}/b.cedar", 2, 31)


def test_required_coverage_wants_a_case_that_holds_and_one_that_does_not(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "a.cedar").write_text(GOOD.replace(";", " unless { context.mfa };"))
    assert broker_policy("test", str(directory)) == 0
    assert broker_policy("test", str(directory), "--require-coverage") == 1
    assert f"{directory}/a.cedar:1:1: good: no case fits its head" in capsys.readouterr().out
    case = "- {as: corp/a, on: main/eu-west-1/web-1, action: ssh, context: {mfa: true}, expect: deny}\n"
    (directory / "tests" / "a.yaml").write_text(CASE % "allow" + case)
    assert broker_policy("test", str(directory), "--require-coverage", "--format", "json") == 0
    (policy,) = json.loads(capsys.readouterr().out)["policies"]
    assert (policy["decides"], policy["misses"], policy["lacks"]) == (["a.yaml:1"], ["a.yaml:2"], "")


def test_formatting_writes_only_what_it_may(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = directory / "a.cedar"
    path.chmod(0o640)
    assert broker_policy("format", "--check", str(directory)) == 1
    assert (path.read_text(), f"{path}:1:1: " in capsys.readouterr().out) == (GOOD, True)
    assert broker_policy("format", str(directory)) == 0
    assert path.read_text().startswith('@id("good")\npermit (')
    assert path.stat().st_mode & 0o777 == 0o640
    assert broker_policy("format", "--check", str(path)) == 0
    assert sorted(each.name for each in directory.iterdir()) == ["a.cedar", "tests"]


def test_a_difference_shows_in_the_exit_code(
    directory: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path_factory.mktemp("new")
    (new / "a.cedar").write_text(GOOD.replace(";", " when { context.mfa };"))
    assert broker_policy("diff", str(directory), str(directory)) == 0
    assert broker_policy("diff", str(directory), str(new)) == 1
    assert "  anybody: ssh: yes by good -> with mfa by good" in capsys.readouterr().out
    assert broker_policy("diff", str(directory), "gone") == 2


def test_who_can_answers_for_an_instance_and_for_a_person(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert broker_policy("who-can", str(directory), "--on", "web-1", "--action", "ssh", "--format", "json") == 0
    assert {each["who"] for each in json.loads(capsys.readouterr().out)} == {"anybody", "any program"}
    assert broker_policy("who-can", str(directory), "--as", "corp/a", "--format", "json") == 0
    assert [(each["on"], each["action"]) for each in json.loads(capsys.readouterr().out)] == [
        ("main/eu-west-1/web-1", "ssh")
    ]
    assert broker_policy("who-can", str(directory), "--on", "nowhere") == 2
