"""Where policies, their truth tables and an inventory are, for the verbs of `broker policy`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from broker.cli.configuration import add_config, named_path, path_of, settings_of
from broker.cli.output import print_json, talk, write

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterable
    from typing import Any

    from broker.authorization.rules import PolicyProblem, PolicyRule
    from broker.authorization.snapshot import PolicySnapshot
    from broker.model import Instance

DEFAULT_DIRECTORY = Path("policies")


class Usage(Exception):
    """The words of the command line do not make a question; the message says what is missing."""


def add_directory(parser: ArgumentParser) -> None:
    """Add `[DIR]` and `--config`."""
    parser.add_argument(
        "directory", nargs="?", type=Path, metavar="DIR", help="where the *.cedar files are (default: policies)"
    )
    add_config(parser)


def add_inventory(parser: ArgumentParser) -> None:
    """Add `--inventory`."""
    parser.add_argument(
        "--inventory",
        type=Path,
        metavar="FILE",
        help="instances as `broker ls --format json` prints them; default: those of the truth tables in DIR/tests",
    )


def directory_of(arguments: Namespace) -> Path:
    """Find the directory: DIR, else what --config, BROKER_CONFIG or ./broker.toml names, else ./policies."""
    if arguments.directory is not None:
        return Path(arguments.directory)
    if named_path(arguments) is None and not path_of(arguments).is_file():
        return DEFAULT_DIRECTORY
    return settings_of(arguments).policies.directory


def existing(directory: Path) -> Path:
    """Answer a directory that is there; raises Usage."""
    if not directory.is_dir():
        raise Usage(
            f"{directory.absolute()}: there is no such directory; copy the shipped `policies` there to begin with"
        )
    return directory


def checked(directory: Path, form: str = "table") -> PolicySnapshot | None:
    """Load policies; None after every problem has been shown."""
    from broker.authorization.loading import PoliciesRefused, load_snapshot

    try:
        return load_snapshot(existing(directory))
    except PoliciesRefused as refused:
        show_problems(directory, refused.problems, form)
        talk(f"{count(len(refused.problems), 'problem')}; these policies would not be used")
        return None


def show_problems(directory: Path, problems: Iterable[PolicyProblem], form: str) -> None:
    """Print problems as `path:line:column: message`, or as JSON; what is wrong with a whole file is at its start."""
    found = [
        {
            "file": str(directory / problem.file),
            "line": max(problem.line, 1),
            "column": max(problem.column, 1),
            "message": problem.message,
        }
        for problem in problems
    ]
    if form == "json":
        print_json({"problems": found})
        return
    for each in found:
        write(f"{each['file']}:{each['line']}:{each['column']}: {each['message']}")


def place(directory: Path, rule: PolicyRule) -> dict[str, Any]:
    """Answer where a policy stands, for a program."""
    return {"id": rule.id, "effect": rule.effect, **at(directory, rule.file, rule.line, rule.column)}


def at(directory: Path, file: str, line: int, column: int) -> dict[str, Any]:
    """Answer a place, for a program."""
    return {"file": str(directory / file), "line": line, "column": column}


def known_instances(directory: Path, inventory: Path | None) -> list[Instance]:
    """Answer the instances of an inventory, else those that the truth tables speak of.

    Raises:
        Usage: it is no inventory, or a table cannot be read.
    """
    from broker.authorization.cases import Unreadable
    from broker.authorization.matrix import inventory as read
    from broker.authorization.questions import cases_in, instances_of

    try:
        if inventory is not None:
            return read(json.loads(inventory.read_bytes()))
        return instances_of(cases_in(directory / "tests"))
    except (ValueError, Unreadable) as error:
        raise Usage(f"{inventory or directory / 'tests'}: {error}") from error


def count(number: int, noun: str) -> str:
    """Write a number of things."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun[:-1]}ies" if noun.endswith("y") else f"{number} {noun}s"
