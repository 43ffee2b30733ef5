from datetime import UTC, datetime
from pathlib import Path

import pytest

from broker.authorization.cases import Unreadable, read_table
from broker.authorization.tables import run_tables
from broker.model import Action, Instance
from tests.authorization.quick import quick

CASE = "{as: corp/alice, on: main/eu-west-1/web-1, action: ssh, expect: allow}"
POLICIES = """
    @id("ops") @max_duration("1h") permit(principal in Group::"corp/ops", action == Action::"ssh", resource);
    @id("mfa") permit(principal, action == Action::"ssh", resource) when { context.mfa };
    @id("idle") permit(principal == User::"corp/x", action == Action::"ssh", resource);
"""


def test_a_case_says_who_where_what_and_under_which_circumstances() -> None:
    (case,) = read_table(
        b"""
cases:
  - name: everything
    as: Workload::"ci/deploy"
    groups: [ops, ci/web, other/team]
    email: robot@example.com
    on: {account: other, region: us-east-1, name: web-9, platform: WINDOWS, tags: {env: prod}, key_pair: k}
    action: rdp
    context: {now: 2026-03-01T10:00:00Z, source: 10.0.0.1, mfa: true, login_age: 60, bound: true,
              reason: why, ticket: T-1, approvals: 2, break_glass: true}
    expect: deny
    by: [a, b]
    max_duration: 90m
    obligations: [mfa]
""",
        "t.yaml",
    )
    assert (str(case.caller), case.caller.kind, case.caller.groups) == (
        "ci/deploy",
        "workload",
        ("ops", "web", "other/team"),
    )
    assert (case.caller.mfa, case.caller.bound, case.caller.email) == (True, True, "robot@example.com")
    assert isinstance(case.resource, Instance)
    assert str(case.resource.ref) == "other/us-east-1/web-9"
    assert case.resource.tags == {"env": "prod"}
    assert case.context.now == datetime(2026, 3, 1, 10, tzinfo=UTC)
    assert case.caller.authenticated_at == datetime(2026, 3, 1, 9, 59, tzinfo=UTC)
    assert (case.context.source_ip, case.context.approvals, case.context.break_glass) == ("10.0.0.1", 2, True)
    assert (case.action, case.expect, case.by, case.line) == (Action.RDP, "deny", ("a", "b"), 3)


def test_a_table_may_be_a_bare_list_and_a_resource_a_bare_reference() -> None:
    (case,) = read_table(f"- {CASE}".encode(), "t.yaml")
    assert isinstance(case.resource, Instance)
    assert str(case.resource.ref) == "main/eu-west-1/web-1"
    assert case.by is None


@pytest.mark.parametrize(
    ("table", "message", "line"),
    [
        ("", "the table is not a mapping", 1),
        ("cases: []", "there are no cases", 1),
        ("cases: [", "not YAML", 1),
        ("case: []", "the table has no case", 1),
        ("- 1", "a case is not a mapping", 1),
        (f"- {CASE}\n- {CASE.replace('expect', 'expects')}", "a case has no expects", 2),
        (f"- {CASE.replace('allow', 'maybe')}", "`expect` is one of allow, deny", 1),
        (f"- {CASE.replace('ssh', 'connect')}", "`action` is one of", 1),
        (f"- {CASE.replace('corp/alice', 'alice')}", "`as` is the caller", 1),
        (f"- {CASE.replace('corp/alice', '3')}", "`as` is not of the kind", 1),
        (f"- {CASE.replace('main/eu-west-1/web-1', 'web-1')}", "`on` is no instance", 1),
        (f"- {CASE.replace('main/eu-west-1/web-1', '{nme: web-1}')}", "an instance has no nme", 1),
        (f"- {CASE.replace('main/eu-west-1/web-1', '{tags: {port: 22}}')}", "the value of a tag is text", 1),
        (f"- {CASE.replace('expect', 'context: {mfa: yes}, expect')}", "`mfa` is not of the kind", 1),
        (f"- {CASE.replace('expect', 'context: {approvals: true}, expect')}", "`approvals` is not of the kind", 1),
        (f"- {CASE.replace('expect', 'context: {mfaa: true}, expect')}", "context has no mfaa", 1),
        (f"- {CASE.replace('expect', 'context: {now: soon}, expect')}", "`now` is a time", 1),
        (f"- {CASE.replace('expect', 'by: ops, expect')}", "`by` is a list", 1),
        (f"- {CASE.replace('expect', 'obligations: [hope], expect')}", "no such obligation", 1),
        (f"- {CASE.replace('expect', 'max_duration: long, expect')}", "not a duration", 1),
        (f"- {CASE.replace('expect', 'action: rdp, expect')}", "comes twice", 1),
        ("- !!python/object:os.system {}", "not YAML", 1),
    ],
)
def test_a_table_that_is_not_as_it_should_be_is_refused_with_its_line(table: str, message: str, line: int) -> None:
    with pytest.raises(Unreadable, match=message) as refused:
        read_table(table.encode(), "t.yaml")
    assert refused.value.line == line


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(Unreadable, match="not YAML"):
        read_table(b"- \xff", "t.yaml")


def report_of(tmp_path: Path, *cases: str) -> list[tuple[int, str, str]]:
    (tmp_path / "t.yaml").write_text("".join(f"- {case}\n" for case in cases))
    return [
        (failure.case.line, failure.expected, failure.got) for failure in run_tables(quick(POLICIES), tmp_path).failures
    ]


OPS = "as: corp/alice, groups: [ops], on: main/eu-west-1/web-1, action: ssh"
NOBODY = "as: corp/eve, on: main/eu-west-1/web-1, action: ssh"


def test_cases_that_come_out_as_expected_are_no_failures(tmp_path: Path) -> None:
    assert (
        report_of(
            tmp_path,
            f"{{{OPS}, expect: allow, by: [ops], max_duration: 60m}}",
            f"{{{OPS}, context: {{mfa: true}}, expect: allow, by: [mfa, ops]}}",
            f"{{{NOBODY}, context: {{mfa: true}}, expect: allow, max_duration: none}}",
            f"{{{NOBODY}, expect: deny, by: [], obligations: [mfa]}}",
        )
        == []
    )


def test_every_way_to_be_wrong_is_a_failure(tmp_path: Path) -> None:
    assert report_of(
        tmp_path,
        f"{{{OPS}, expect: deny}}",
        f"{{{OPS}, expect: allow, by: [mfa]}}",
        f"{{{OPS}, expect: allow, by: [mfa, ops]}}",
        f"{{{OPS}, expect: allow, max_duration: 2h}}",
        f"{{{NOBODY}, expect: deny, obligations: []}}",
    ) == [
        (1, "deny", "allow"),
        (2, "allow by mfa", "allow by ops"),
        (3, "allow by mfa, ops", "allow by ops"),
        (4, "allow for at most 2:00:00", "allow for at most 1:00:00"),
        (5, "deny needing nothing more", "deny needing mfa"),
    ]


def test_policies_that_decide_no_case_are_named(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(f"- {{{OPS}, expect: allow}}")
    report = run_tables(quick(POLICIES), tmp_path)
    assert (report.cases, report.uncovered) == (1, ("mfa", "idle"))


def test_an_unreadable_table_is_a_problem_and_the_others_still_run(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("- {}")
    (tmp_path / "b.yml").write_text(f"- {{{OPS}, expect: allow}}")
    report = run_tables(quick(POLICIES), tmp_path)
    assert [str(problem).split(" ")[0] for problem in report.problems] == ["a.yaml:1:1:"]
    assert report.cases == 1


def test_a_question_that_cannot_be_put_is_a_failure_that_says_so(tmp_path: Path) -> None:
    ((_, expected, got),) = report_of(tmp_path, f"{{{OPS}, context: {{source: nowhere}}, expect: deny}}")
    assert expected == "deny"
    assert "error: " in got
