"""`broker policy test`: run the truth tables, and tell which policies they exercise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.cli.exits import Exit
from broker.cli.output import add_format, print_json, talk, write
from broker.cli.policy_files import add_directory, checked, count, directory_of, place, show_problems

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from pathlib import Path
    from typing import Any

    from broker.authorization.snapshot import PolicySnapshot
    from broker.authorization.tables import Failure, Report


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    add_directory(parser)
    parser.add_argument(
        "--require-coverage",
        action="store_true",
        help="exit 1 unless each policy decides a case and, if it has conditions, fails to hold in another one "
        "that its head fits",
    )
    add_format(parser, "table", "json")


def run(arguments: Namespace) -> int:
    """Run the tables."""
    from broker.authorization.tables import run_tables

    directory = directory_of(arguments)
    snapshot = checked(directory, arguments.format)
    if snapshot is None:
        return Exit.PROBLEMS
    tables = directory / "tests"
    report = run_tables(snapshot, tables)
    lacking = [each for each in report.coverage if each.lacks]
    if report.problems:
        show_problems(tables, report.problems, arguments.format)
        talk(f"{count(len(report.problems), 'problem')}; mend the tables first")
        return Exit.PROBLEMS
    if not report.cases:
        talk(f"{tables}: there are no truth tables")
        return Exit.PROBLEMS
    if arguments.format == "json":
        print_json(_document(directory, snapshot, report))
    else:
        _show(directory, snapshot, report, required=arguments.require_coverage)
    return Exit.PROBLEMS if report.failures or (arguments.require_coverage and lacking) else Exit.OK


def _show(directory: Path, snapshot: PolicySnapshot, report: Report, *, required: bool) -> None:
    for failure in report.failures:
        write(_failure(directory, snapshot, failure))
    say = write if required else talk
    for each in report.coverage:
        if each.lacks:
            say(f"{directory}/{each.rule.file}:{each.rule.line}:{each.rule.column}: {each.rule.id}: {each.lacks}")
    passed = f"{report.cases - len(report.failures)} of {count(report.cases, 'case')} as expected"
    write(f"{passed}, {len(snapshot.rules) - len(report.uncovered)} of {len(snapshot.rules)} policies decided one")


def _failure(directory: Path, snapshot: PolicySnapshot, failure: Failure) -> str:
    case = failure.case
    title = f"{case.name}: " if case.name else ""
    where = f"{directory}/tests/{case.file}:{case.line}"
    rules = [snapshot.rules[name] for name in failure.policies]
    lines = [
        f"{where}:1: {title}{_question(failure)}",
        f"  expected {failure.expected}",
        f"  got      {failure.got}",
        *(f"  {directory}/{rule.file}:{rule.line}:{rule.column}: {rule.effect} {rule.id}" for rule in rules),
        f"  why: broker policy explain {directory} --case {where}",
    ]
    return "\n".join(lines)


def _question(failure: Failure) -> str:
    case = failure.case
    what = case.resource if isinstance(case.resource, str) else str(case.resource.ref)
    return f"{case.caller} {case.action.value} {what}"


def _document(directory: Path, snapshot: PolicySnapshot, report: Report) -> dict[str, Any]:
    failures = [
        {
            "file": f"{directory}/tests/{each.case.file}",
            "line": each.case.line,
            "name": each.case.name,
            "question": _question(each),
            "expected": each.expected,
            "got": each.got,
            "policies": [place(directory, snapshot.rules[name]) for name in each.policies],
        }
        for each in report.failures
    ]
    policies = [
        {**place(directory, each.rule), "decides": each.decides, "misses": each.misses, "lacks": each.lacks}
        for each in report.coverage
    ]
    return {"cases": report.cases, "failures": failures, "policies": policies}
