"""`broker policy explain`: the decision, the deciding policies, and what the nearest permit lacks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from broker.cli.exits import Exit
from broker.cli.output import add_format, plain, print_json, write
from broker.cli.policy_files import Usage, add_directory, add_inventory, at, checked, directory_of, place
from broker.cli.policy_question import add_question, question_of

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

    from broker.authorization.explaining import Anatomy, Explanation
    from broker.authorization.questions import Question


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    add_directory(parser)
    add_question(parser)
    add_inventory(parser)
    parser.add_argument("--case", metavar="FILE:LINE", help="the question of a case of a truth table instead")
    add_format(parser, "table", "json", "yaml")


def run(arguments: Namespace) -> int:
    """Explain."""
    from broker.authorization.explaining import explain

    directory = directory_of(arguments)
    snapshot = checked(directory, arguments.format)
    if snapshot is None:
        return Exit.PROBLEMS
    question = _case(arguments.case) if arguments.case else question_of(arguments, directory, arguments.inventory)
    try:
        explanation = explain(snapshot, question)
    except ValueError as error:
        raise Usage(f"the question cannot be asked: {error}") from error
    if arguments.format == "table":
        _show(directory, question, explanation)
    else:
        _print(document(directory, question, explanation), arguments.format)
    return Exit.OK if explanation.decision.allowed else Exit.DENIED


def _case(named: str) -> Question:
    from broker.authorization.cases import Unreadable
    from broker.authorization.questions import case_at, question_of

    file, _, line = named.rpartition(":")
    if not file or not line.isdecimal():
        raise Usage(f"{named}: a case is named FILE:LINE, such as policies/tests/operators.yaml:12")
    try:
        return question_of(case_at(Path(file), int(line)))
    except Unreadable as error:
        raise Usage(f"{file}:{error.line}: {error.message}") from error


def document(directory: Path, question: Question, explanation: Explanation) -> dict[str, Any]:
    """Answer an explanation, for a program."""
    from broker.authorization.matrix import described

    decision, nearest = explanation.decision, explanation.nearest
    return {
        "decision": "allow" if decision.allowed else "deny",
        "as": str(question.caller),
        "action": question.action.value,
        "on": question.on,
        "policies": [_anatomy(directory, each) for each in explanation.deciding],
        "max_duration_seconds": int(decision.max_duration.total_seconds()) if decision.max_duration else None,
        "obligations": [step.obligation.value for step in explanation.steps],
        "needs": [described(step) for step in explanation.steps],
        "nearest": _anatomy(directory, nearest) if nearest else None,
        "errors": [*decision.errors],
    }


def _anatomy(directory: Path, anatomy: Anatomy) -> dict[str, Any]:
    parts = [
        {"kind": part.kind, "text": part.text, "holding": part.holding}
        | at(directory, anatomy.rule.file, part.line, part.column)
        for part in anatomy.parts
    ]
    return {**place(directory, anatomy.rule), "parts": parts}


def _print(found: dict[str, Any], form: str) -> None:
    if form == "json":
        print_json(found)
        return
    import yaml

    write(yaml.safe_dump(found, sort_keys=False).rstrip())


def _show(directory: Path, question: Question, explanation: Explanation) -> None:
    found = document(directory, question, explanation)
    write(plain(f"{found['decision']}: {found['as']} {found['action']} {found['on']}"))
    for error in found["errors"]:
        write(plain(f"error: {error}"))
    if found["policies"]:
        write("\ndecided by:")
    elif found["decision"] == "deny":
        write("\nno policy allows it, and none forbids it")
    for policy in found["policies"]:
        _show_policy(policy)
    if found["needs"]:
        write(f"\nwould be allowed with: {plain(', '.join(found['needs']))}")
    if found["nearest"]:
        write("\nnearest permit:")
        _show_policy(found["nearest"])


def _show_policy(policy: dict[str, Any]) -> None:
    write(plain(f"{policy['file']}:{policy['line']}:{policy['column']}: {policy['effect']} {policy['id']}"))
    for part in policy["parts"]:
        kind = f"{part['kind']} " if part["kind"] in {"when", "unless"} else ""
        where = f"{part['file']}:{part['line']}:{part['column']}"
        write(plain(f"{where}: {part['holding']}: {kind}{part['text']}"))
