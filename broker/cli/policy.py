"""`broker policy`: check policies before the service sees them, and run their truth tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from broker.cli.configuration import add_config, named_path, path_of, settings_of
from broker.cli.exits import Exit
from broker.cli.output import talk, write
from broker.cli.parsing import guide

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from broker.authorization.snapshot import PolicySnapshot
    from broker.authorization.tables import Failure

DEFAULT_DIRECTORY = Path("policies")


EXAMPLES = {
    "check": """\
broker policy check  # the policies of the settings, else ./policies
broker policy check policies  # those in a folder, without any settings
""",
    "test": """\
broker policy test  # every case of the truth tables
broker policy test policies  # those in a folder, without any settings
""",
}


def configure(parser: ArgumentParser) -> None:
    """Add the subcommands."""
    subcommands = parser.add_subparsers(dest="subcommand", required=True, metavar="check|test")
    for name, purpose in (
        ("check", "parse and validate every policy; name all problems at once"),
        ("test", "check, then run the truth tables in DIR/tests/*.yaml"),
    ):
        command = subcommands.add_parser(name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")
        command.add_argument(
            "directory", nargs="?", type=Path, metavar="DIR", help="where the *.cedar files are (default: policies)"
        )
        add_config(command)
        exits = {1: "there are problems; each is named with its file and line", 2: "there is no such folder"}
        guide(command, EXAMPLES[name], exits, see="broker check")


def run(arguments: Namespace) -> int:
    """Run one subcommand; answer 0 when all is well, 1 when there are problems, 2 when there is no directory."""
    directory = _directory(arguments)
    if not directory.is_dir():
        talk(f"{directory.absolute()}: there is no such directory; copy the shipped `policies` there to begin with")
        return Exit.USAGE
    snapshot = _checked(directory)
    if snapshot is None:
        return Exit.PROBLEMS
    return _test(snapshot, directory) if arguments.subcommand == "test" else _summarise(snapshot)


def _directory(arguments: Namespace) -> Path:
    """Find the directory: DIR, else what --config, BROKER_CONFIG or ./broker.toml names, else ./policies."""
    if arguments.directory is not None:
        return Path(arguments.directory)
    if named_path(arguments) is None and not path_of(arguments).is_file():
        return DEFAULT_DIRECTORY
    return settings_of(arguments).policies.directory


def _checked(directory: Path) -> PolicySnapshot | None:
    from broker.authorization.loading import PoliciesRefused, load_snapshot

    try:
        return load_snapshot(directory)
    except PoliciesRefused as refused:
        for problem in refused.problems:
            write(f"{directory}/{problem}")
        talk(f"{_count(len(refused.problems), 'problem')}; these policies would not be used")
        return None


def _summarise(snapshot: PolicySnapshot) -> int:
    write(f"{_count(len(snapshot.rules), 'policy')} in {_count(len(snapshot.files), 'file')}, sha256 {snapshot.digest}")
    if not snapshot.rules:
        talk("there is no policy, so everything is denied")
    return Exit.OK


def _test(snapshot: PolicySnapshot, directory: Path) -> int:
    from broker.authorization.tables import run_tables

    tables = directory / "tests"
    report = run_tables(snapshot, tables)
    for problem in report.problems:
        write(f"{tables}/{problem}")
    if report.problems:
        talk(f"{_count(len(report.problems), 'problem')}; mend the tables first")
        return Exit.PROBLEMS
    if not report.cases:
        talk(f"{tables}: there are no truth tables")
        return Exit.PROBLEMS
    for failure in report.failures:
        write(f"{tables}/{_describe(failure)}")
    if report.uncovered:
        talk(f"no case is decided by {', '.join(report.uncovered)}")
    passed = f"{report.cases - len(report.failures)} of {_count(report.cases, 'case')} as expected"
    write(f"{passed}, {len(snapshot.rules) - len(report.uncovered)} of {len(snapshot.rules)} policies decided one")
    return Exit.PROBLEMS if report.failures else Exit.OK


def _describe(failure: Failure) -> str:
    case = failure.case
    what = case.resource if isinstance(case.resource, str) else str(case.resource.ref)
    title = f"{case.name}: " if case.name else ""
    question = f"{title}{case.caller} {case.action.value} {what}"
    return f"{case.file}:{case.line}: {question}\n  expected {failure.expected}\n  got      {failure.got}"


def _count(number: int, noun: str) -> str:
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun[:-1]}ies" if noun.endswith("y") else f"{number} {noun}s"
