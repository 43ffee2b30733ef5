"""A question in the words of a command line: `--as`, `--group`, `--action`, `--on`, `--tag`, `--context`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from broker.cli.policy_files import Usage, known_instances

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence
    from typing import Any

    from broker.authorization.questions import Question
    from broker.model import Instance, RequestContext

ACTIONS = ("ssh", "rdp", "list", "approve", "readAudit", "lock")
_ATTRIBUTES = ("platform", "blueprint", "bundle", "state", "key_pair")


def add_question(parser: ArgumentParser) -> None:
    """Add the words that describe who asks for what."""
    parser.add_argument("--as", dest="who", metavar="ISSUER/SUBJECT", help="who asks, such as corp/alice")
    parser.add_argument("--workload", action="store_true", help="it is a program that asks")
    parser.add_argument("--group", action="append", default=[], metavar="G", help="a group that they are in; repeat it")
    parser.add_argument("--action", choices=ACTIONS, help="what for")
    parser.add_argument(
        "--on", metavar="INSTANCE", help="account/region/name, or the name of an instance of the tables; or an account"
    )
    parser.add_argument("--tag", action="append", default=[], metavar="K=V", help="a tag that it has; repeat it")
    parser.add_argument("--platform", choices=("LINUX_UNIX", "WINDOWS"), help="what runs on it")
    for name in ("blueprint", "bundle", "state", "key-pair"):
        parser.add_argument(f"--{name}", metavar="NAME", help=f"its {name.replace('-', ' ')}")
    add_context(parser)


def add_context(parser: ArgumentParser) -> None:
    """Add `--context`."""
    parser.add_argument(
        "--context",
        action="append",
        default=[],
        metavar="K=V",
        help="a circumstance, such as mfa=true, reason=deploy, ticket=OPS-1, login_age=60, source=192.0.2.1, "
        "now=2026-01-31T09:30:00Z; repeat it",
    )
    parser.add_argument(
        "--time-zone", default="UTC", metavar="ZONE", help="of context.local, such as Europe/Berlin (default: UTC)"
    )


def question_of(arguments: Namespace, directory: Path, inventory: Path | None = None) -> Question:
    """Read a question; raises Usage when the words make none."""
    from broker.authorization.cases import Unreadable
    from broker.authorization.questions import question_from

    missing = [f"--{name}" for name, given in _wanted(arguments) if not given]
    if missing:
        raise Usage(f"a question needs {', '.join(missing)}; or name a case by --case FILE:LINE")
    who = f'Workload::"{arguments.who}"' if arguments.workload else arguments.who
    on: object = arguments.on
    if arguments.action not in {"readAudit", "lock"}:
        on = _described(arguments, directory, inventory)
    described = {"as": who, "groups": arguments.group, "action": arguments.action, "on": on}
    try:
        return question_from(described, pairs(arguments.context), arguments.time_zone)
    except Unreadable as error:
        raise Usage(error.message) from error


def context_of(arguments: Namespace) -> RequestContext:
    """Read the circumstances alone; raises Usage."""
    from broker.authorization.cases import Unreadable
    from broker.authorization.questions import question_from

    try:
        whole = {"as": "a/b", "action": "readAudit", "on": "main"}
        return question_from(whole, pairs(arguments.context), arguments.time_zone).context
    except Unreadable as error:
        raise Usage(error.message) from error


def named(on: str, known: Sequence[Instance]) -> list[Instance]:
    """Answer the instances of that name."""
    return [instance for instance in known if on in {instance.ref.name, str(instance.ref)}]


def pairs(words: Sequence[str]) -> dict[str, str]:
    """Read `key=value` words; raises Usage."""
    for word in words:
        if "=" not in word:
            raise Usage(f"{word!r} is not of the form key=value")
    return dict(word.split("=", 1) for word in words)


def _wanted(arguments: Namespace) -> list[tuple[str, str]]:
    return [("as", arguments.who), ("action", arguments.action), ("on", arguments.on)]


def _described(arguments: Namespace, directory: Path, inventory: Path | None) -> dict[str, Any]:
    """Describe an instance as a case does: what is known of it, and on top of that what the words say."""
    parts = arguments.on.split("/")
    found: dict[str, Any] = {"tags": {}}
    told = arguments.tag or any(getattr(arguments, name) for name in _ATTRIBUTES)
    if len(parts) == len(("account", "region", "name")):
        found |= dict(zip(("account", "region", "name"), parts, strict=True))
    if len(parts) == 1 or not told:
        found |= _known(arguments.on, known_instances(directory, inventory), bare=len(parts) == 1)
    found["tags"] = {**found["tags"], **pairs(arguments.tag)}
    given = {name: value for name in _ATTRIBUTES if (value := getattr(arguments, name))}
    return {**found, **given}


def _known(on: str, known: Sequence[Instance], *, bare: bool) -> dict[str, Any]:
    same = named(on, known)
    if len(same) != 1:
        if not bare and not same:
            return {}
        choices = "; ".join(f"{each.ref} with {_tags(each)}" for each in same)
        why = f"is ambiguous: {choices}; say which by --tag" if same else "is unknown; write account/region/name"
        raise Usage(f"the instance {on} {why}")
    (instance,) = same
    attributes = {name: getattr(instance, name) for name in _ATTRIBUTES if name != "platform"}
    ref = instance.ref
    place = {"account": ref.account, "region": ref.region, "name": ref.name}
    return {**place, **attributes, "platform": instance.platform.value, "tags": dict(instance.tags)}


def _tags(instance: Instance) -> str:
    return " ".join(f"{key}={value}" for key, value in instance.tags.items()) or "no tags"
