"""`broker policy`: check policies before the service sees them, test them, and reason about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.cli import policy_diff, policy_explain, policy_format, policy_test, policy_who_can
from broker.cli.exits import Exit
from broker.cli.output import add_format, print_json, talk, write
from broker.cli.parsing import guide
from broker.cli.policy_examples import EXAMPLES, EXITS, SEE
from broker.cli.policy_files import Usage, add_directory, checked, count, directory_of

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def configure(parser: ArgumentParser) -> None:
    """Add the verbs."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, purpose, configured, run_verb in (
        ("check", "parse and validate every policy; name all problems at once", _configure_check, _check),
        ("test", "check, then run the truth tables in DIR/tests/*.yaml", policy_test.configure, policy_test.run),
        ("explain", "tell why something is allowed or denied", policy_explain.configure, policy_explain.run),
        ("who-can", "list who may do what, now or with more", policy_who_can.configure, policy_who_can.run),
        ("diff", "list what a change of policies changes", policy_diff.configure, policy_diff.run),
        (
            "format",
            "lay policies out in one way; meaning and comments stay",
            policy_format.configure,
            policy_format.run,
        ),
    ):
        verb = verbs.add_parser(name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")
        verb.set_defaults(run_verb=run_verb)
        configured(verb)
        guide(verb, EXAMPLES[name], EXITS[name], see=SEE[name])


def run(arguments: Namespace) -> int:
    """Run one verb; answer its exit code, 2 where its words make no sense."""
    try:
        return int(arguments.run_verb(arguments))
    except Usage as wrong:
        talk(str(wrong))
        return Exit.USAGE


def _configure_check(parser: ArgumentParser) -> None:
    add_directory(parser)
    add_format(parser, "table", "json")


def _check(arguments: Namespace) -> int:
    snapshot = checked(directory_of(arguments), arguments.format)
    if snapshot is None:
        return Exit.PROBLEMS
    policies, files = len(snapshot.rules), len(snapshot.files)
    if arguments.format == "json":
        print_json({"problems": [], "policies": policies, "files": files, "digest": snapshot.digest})
    else:
        write(f"{count(policies, 'policy')} in {count(files, 'file')}, sha256 {snapshot.digest}")
    if not policies:
        talk("there is no policy, so everything is denied")
    return Exit.OK
