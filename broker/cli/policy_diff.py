"""`broker policy diff`: what a change of policies changes for people and programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from broker.cli.exits import Exit
from broker.cli.output import add_format, plain, print_json, write
from broker.cli.policy_files import Usage, add_inventory, checked, count, existing, known_instances
from broker.cli.policy_question import add_context, context_of

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterable
    from typing import Any

    from broker.authorization.cases import Case
    from broker.authorization.difference import Change, Difference
    from broker.authorization.matrix import Outcome
    from broker.model import Instance

_KINDS = ("gains", "loses", "changes")


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("old", type=Path, metavar="OLD", help="the directory of the policies as they were")
    parser.add_argument("new", type=Path, metavar="NEW", help="the directory of the policies as they would be")
    add_inventory(parser)
    add_context(parser)
    add_format(parser, "table", "json", "yaml")


def run(arguments: Namespace) -> int:
    """Compare."""
    from broker.authorization.difference import difference
    from broker.authorization.matrix import resources

    old, new = (checked(existing(each), arguments.format) for each in (arguments.old, arguments.new))
    if old is None or new is None:
        return Exit.USAGE
    found = difference(old, new, resources(_instances(arguments)), _cases(arguments), context_of(arguments))
    _print(found, arguments.format)
    return Exit.PROBLEMS if found.policies or found.changes else Exit.OK


def _instances(arguments: Namespace) -> list[Instance]:
    if arguments.inventory is not None:
        return known_instances(arguments.new, arguments.inventory)
    found: list[Instance] = []
    for directory in (arguments.old, arguments.new):
        found += [each for each in known_instances(directory, None) if each not in found]
    return found


def _cases(arguments: Namespace) -> Iterable[Case]:
    from broker.authorization.cases import Unreadable
    from broker.authorization.questions import cases_in

    try:
        return cases_in(arguments.new / "tests")
    except Unreadable as error:
        raise Usage(f"{arguments.new / 'tests'}: {error.message}") from error


def _print(found: Difference, form: str) -> None:
    changes = sorted(found.changes, key=lambda each: (_KINDS.index(each.kind), each.who))
    if form == "table":
        _show(found, changes)
        return
    document = {"policies": found.policies, "cells": found.cells, "changes": [_document(each) for each in changes]}
    if form == "json":
        print_json(document)
        return
    import yaml

    write(yaml.safe_dump(document, sort_keys=False).rstrip())


def _document(change: Change) -> dict[str, Any]:
    question = change.question
    return {
        "kind": change.kind,
        "who": change.who,
        "action": question.action.value,
        "on": question.on,
        "tags": {} if isinstance(question.resource, str) else dict(question.resource.tags),
        "when": change.when,
        "before": _outcome(change.before),
        "after": _outcome(change.after),
    }


def _outcome(found: Outcome) -> dict[str, Any]:
    seconds = int(found.max_duration.total_seconds()) if found.max_duration else None
    return {
        "may": found.may,
        "allowed": found.allowed,
        "needs": [*found.needs],
        "policies": [*found.policies],
        "max_duration_seconds": seconds,
    }


def _show(found: Difference, changes: list[Change]) -> None:
    for name, how in found.policies.items():
        write(f"{how} {name}")
    for kind in _KINDS:
        grouped: dict[tuple[str, ...], list[str]] = {}
        for change in changes:
            if change.kind == kind:
                when = f" ({change.when})" if change.when else ""
                key = (change.who + when, change.question.action.value, _text(change.before), _text(change.after))
                on = grouped.setdefault(key, [])
                on += [change.question.on] if change.question.on not in on else []
        if grouped:
            write(f"\n{kind}:")
        for (who, action, before, after), on in grouped.items():
            write(plain(f"  {who}: {action}: {before} -> {after}"))
            write(plain(f"    on {', '.join(on)}"))
    if found.policies and not changes:
        write("no question that was asked is answered otherwise; --inventory may name instances that show it")
    write(f"{count(len(changes), 'change')} among {count(found.cells, 'question')}")


def _text(found: Outcome) -> str:
    bound = f" for {int(found.max_duration.total_seconds()) // 60}m" if found.max_duration else ""
    by = f" by {', '.join(found.policies)}" if found.policies else ""
    return f"{found.may}{bound}{by}"
