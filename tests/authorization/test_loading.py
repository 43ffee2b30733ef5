import hashlib
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from broker.authorization.loading import PoliciesRefused, load_snapshot, snapshot_of

GOOD = '@id("good") permit(principal, action, resource);\n'


def problems(directory: Path) -> list[str]:
    with pytest.raises(PoliciesRefused) as refused:
        load_snapshot(directory)
    return [str(problem) for problem in refused.value.problems]


def test_a_directory_becomes_one_set_that_knows_where_each_policy_stands(tmp_path: Path) -> None:
    (tmp_path / "b.cedar").write_text("// second\n\n" + GOOD)
    (tmp_path / "a.cedar").write_text(
        '@id("first")\n@max_duration("1h30m")\npermit(principal == User::"corp/a", action, resource);'
    )
    (tmp_path / "README.md").write_text("no policy")
    snapshot = load_snapshot(tmp_path)
    assert [(rule.id, rule.file, rule.line) for rule in snapshot.rules.values()] == [
        ("first", "a.cedar", 1),
        ("good", "b.cedar", 3),
    ]
    assert snapshot.rules["first"].max_duration == timedelta(minutes=90)
    assert snapshot.rules["first"].named == ("User::corp/a",)
    assert snapshot.rules["good"].text == GOOD.strip()


def test_the_digest_is_what_sha256sum_prints(tmp_path: Path) -> None:
    (tmp_path / "a.cedar").write_text(GOOD)
    (tmp_path / "B.cedar").write_text(GOOD.replace('@id("', '@id("b-'))
    command = ["sh", "-c", "LC_ALL=C; export LC_ALL; sha256sum *.cedar"]
    printed = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout
    assert load_snapshot(tmp_path).digest == hashlib.sha256(printed).hexdigest()


def test_every_change_of_a_file_changes_the_digest() -> None:
    assert snapshot_of(GOOD).digest != snapshot_of(GOOD + "// reviewed").digest


def test_an_empty_directory_is_a_set_that_denies(tmp_path: Path) -> None:
    assert load_snapshot(tmp_path).rules == {}


def test_a_directory_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    [problem] = problems(tmp_path / "gone")
    assert problem.startswith(f"{tmp_path}/gone: there is no such directory; copy the shipped `policies`")


def test_all_problems_are_named_at_once_with_file_line_and_column(tmp_path: Path) -> None:
    (tmp_path / "a.cedar").write_text(
        '@id("a") permit(principal,\n  action,\n  foo resource);\n'
        '@id("b") permit(principal, action == Action::"shh", resource);\n'
        "permit(principal, action, resource);\n"
        '@id("d") permit(principal, action == Action::"ssh", resource) when { resource.gone == "x" };\n'
        '@id("e") permit(principal, action == Action::"ssh", resource) when { context.login_age < 60 };\n'
        '@id("f") permit(principal, action == Action::"ssh", resource) when { resource.getTag("env") == "x" };\n'
        '@id("g") permit(principal, action, resource'
    )
    (tmp_path / "b.cedar").write_bytes(b'@id("h")\n  // \xff\n')
    (tmp_path / "c.cedar").mkdir()
    found = problems(tmp_path)
    assert [line.split(" ")[0] for line in found] == [
        "a.cedar:3:7:",
        "a.cedar:4:1:",
        "a.cedar:4:38:",
        "a.cedar:5:1:",
        "a.cedar:6:79:",
        "a.cedar:7:78:",
        "a.cedar:8:86:",
        "a.cedar:9:1:",
        "b.cedar:2:6:",
        "c.cedar:",
    ]
    text = "\n".join(found)
    for part in (
        "unexpected token `resource`",
        "unrecognized action",
        "needs an @id",
        "`gone`",
        "login_age",
        "tag",
        "not UTF-8",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ("", "needs an @id"),
        ("@id", "needs an @id"),
        ('@id("")', "needs an @id"),
        ('@id("a b")', "needs an @id"),
        ('@id("-a")', "needs an @id"),
        ('@id("é")', "needs an @id"),
        ('@id("a") @id("b")', "duplicate annotation"),
        ('@id("a") @max_duration', "not a duration"),
        ('@id("a") @max_duration("1 h")', "not a duration"),
        ('@id("a") @max_duration("\u0661h")', "not a duration"),
        ('@id("a") @max_duration("0s")', "at most 30d"),
        ('@id("a") @max_duration("31d")', "at most 30d"),
        ('@id("a") @max_durations("1h")', "did you mean @max_duration"),
        ('@id("a") @MaxDuration("1h")', "did you mean @max_duration"),
        ('@id("a") @max_staleness("soon")', "@max_staleness: not a duration"),
        ('@id("a") @max_stalenes("1m")', "did you mean @max_staleness"),
    ],
)
def test_annotations_that_mean_nothing_are_refused(annotations: str, message: str) -> None:
    with pytest.raises(PoliciesRefused, match=message):
        snapshot_of(annotations + " permit(principal, action, resource);")


def test_a_duration_on_a_forbid_is_refused() -> None:
    with pytest.raises(PoliciesRefused, match="bounds a permit"):
        snapshot_of('@id("a") @max_duration("1h") forbid(principal, action, resource);')


def test_other_annotations_are_welcome() -> None:
    assert snapshot_of('@id("a") @owner("team web") permit(principal, action, resource);').rules.keys() == {"a"}


def test_an_id_is_used_once_in_all_files(tmp_path: Path) -> None:
    (tmp_path / "a.cedar").write_text(GOOD)
    (tmp_path / "b.cedar").write_text("\n " + GOOD)
    assert problems(tmp_path) == ['b.cedar:2:2: @id("good") is taken by a.cedar:1']


def test_a_template_is_refused() -> None:
    with pytest.raises(PoliciesRefused, match=r":1:30: templates"):
        snapshot_of('@id("a") permit(principal == ?principal, action, resource);')


@pytest.mark.parametrize("levels", [65, 400, 5000])
def test_deep_nesting_is_refused_before_any_parser_sees_it(levels: int) -> None:
    deep = "(" * levels + "true" + ")" * levels
    with pytest.raises(PoliciesRefused, match="nests deeper than 64"):
        snapshot_of(f'@id("deep") permit(principal, action, resource) when {{ {deep} }};')


@pytest.mark.parametrize("length", [200, 2000])
def test_what_parses_but_cannot_be_sliced_is_refused_and_not_found_out_in_service(length: int) -> None:
    chain = " || ".join(['context.reason == "x"'] * length)
    with pytest.raises(PoliciesRefused, match="write a long chain"):
        snapshot_of(f'@id("long") permit(principal, action, resource) when {{ {chain} }};')


def test_a_policy_that_kills_the_parser_kills_no_one_else() -> None:
    nested = "true" + ".a" * 30_000
    with pytest.raises(PoliciesRefused) as refused:
        snapshot_of(GOOD + f'@id("killer") permit(principal, action, resource) when {{ {nested} }};')
    (problem,) = refused.value.problems
    assert str(problem).startswith("policies.cedar:2:1: the Cedar parser did not survive this policy (SIGSEGV)")


def test_unchanged_files_are_not_checked_again(tmp_path: Path) -> None:
    (tmp_path / "a.cedar").write_text(GOOD)
    (tmp_path / "b.cedar").write_text('@id("b") permit(principal, action, resource);')
    first = load_snapshot(tmp_path)
    (tmp_path / "b.cedar").write_text('@id("b2") permit(principal, action, resource);')
    second = load_snapshot(tmp_path, first)
    assert second.rules["good"] is first.rules["good"]
    assert list(second.rules) == ["good", "b2"]


def test_text_without_bounds_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "a.cedar").open("wb") as file:
        file.truncate(8 * 1024 * 1024 + 1)
    assert problems(tmp_path) == ["a.cedar: this is more text than policies may have"]
