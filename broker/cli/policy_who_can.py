"""`broker policy who-can`: the matrix of those whom policies name, instances and actions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from broker.cli.exits import Exit
from broker.cli.output import add_format, show
from broker.cli.policy_files import Usage, add_directory, add_inventory, at, checked, directory_of, known_instances
from broker.cli.policy_question import ACTIONS, add_context, context_of, named

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from broker.authorization.matrix import Outcome, Principal
    from broker.authorization.questions import Question
    from broker.authorization.snapshot import PolicySnapshot
    from broker.model import Instance, RequestContext

COLUMNS = ("WHO", "ACTION", "/ON", "MAY", "FOR", "POLICIES", "TAGS")


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    add_directory(parser)
    parser.add_argument("--action", choices=ACTIONS, help="what for; default: anything")
    parser.add_argument("--on", metavar="INSTANCE", help="account/region/name, a name, or an account; default: all")
    parser.add_argument("--as", dest="who", metavar="ISSUER/SUBJECT", help="ask about this one alone")
    parser.add_argument("--workload", action="store_true", help="--as is a program")
    parser.add_argument("--group", action="append", default=[], metavar="G", help="of --as; or alone: any member")
    parser.add_argument("--all", action="store_true", help="show also who may not")
    add_inventory(parser)
    add_context(parser)
    add_format(parser, "table", "json", "yaml")


def run(arguments: Namespace) -> int:
    """List."""
    from broker.authorization.matrix import cells, principals
    from broker.model import Action

    directory = directory_of(arguments)
    snapshot = checked(directory, arguments.format)
    if snapshot is None:
        return Exit.PROBLEMS
    context = context_of(arguments)
    who = _given(arguments, context) or principals([snapshot], context)
    what = _resources(arguments, known_instances(directory, arguments.inventory))
    actions = [Action(arguments.action)] if arguments.action else list(Action)
    found = [
        _document(directory, snapshot, *cell)
        for cell in cells(snapshot, who, what, actions, context)
        if arguments.all or cell[2].may != "no"
    ]
    show(found, arguments.format, COLUMNS, _row, "nobody may; --all shows by which policies")
    return Exit.OK


def _given(arguments: Namespace, context: RequestContext) -> list[Principal]:
    """Answer whom the words name; nobody when they name none."""
    from broker.authorization.matrix import SOMEBODY, Principal
    from broker.authorization.questions import question_from

    name, groups = arguments.who, arguments.group
    if not name and not groups:
        return []
    issuer = (name or groups[0]).partition("/")[0]
    if "/" not in (name or groups[0]):
        raise Usage("write ISSUER/SUBJECT or, for a group without --as, ISSUER/GROUP, such as corp/ops")
    whole = name or f"{issuer}/{SOMEBODY}"
    described = {"as": f'Workload::"{whole}"' if arguments.workload else whole, "groups": groups}
    caller = question_from({**described, "action": "readAudit", "on": "main"}, {}).caller
    label = name or f"group {' and '.join(groups)}"
    return [Principal(label, replace(caller, token_expires_at=context.now))]


def _resources(arguments: Namespace, known: Sequence[Instance]) -> Sequence[Instance | str]:
    from broker.authorization.matrix import resources

    if arguments.on is None:
        return resources(known)
    if arguments.action in {"readAudit", "lock"}:
        return [arguments.on]
    if not (same := named(arguments.on, known)):
        raise Usage(f"no inventory and no truth table names the instance {arguments.on}; see --inventory")
    return same


def _document(
    directory: Path, snapshot: PolicySnapshot, who: Principal, question: Question, found: Outcome
) -> dict[str, Any]:
    rules = [snapshot.rules[name] for name in found.policies]
    return {
        "who": who.name,
        "action": question.action.value,
        "on": question.on,
        "tags": {} if isinstance(question.resource, str) else dict(question.resource.tags),
        "may": found.may,
        "allowed": found.allowed,
        "needs": [*found.needs],
        "max_duration_seconds": int(found.max_duration.total_seconds()) if found.max_duration else None,
        "policies": [{"id": rule.id, **at(directory, rule.file, rule.line, rule.column)} for rule in rules],
    }


def _row(item: dict[str, Any]) -> tuple[str, ...]:
    seconds = item["max_duration_seconds"]
    return (
        item["who"],
        item["action"],
        item["on"],
        item["may"],
        "" if seconds is None else f"{seconds // 60}m",
        ",".join(policy["id"] for policy in item["policies"]),
        " ".join(f"{key}={value}" for key, value in item["tags"].items()),
    )
