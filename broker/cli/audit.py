"""`broker audit`: verify, search and export the audit log, from its files; no service is needed."""

from __future__ import annotations

import sys
from pathlib import Path

from broker.cli import (
    audit_export,
    audit_migrate,
    audit_rebuild,
    audit_reconcile,
    audit_retention,
    audit_rotate,
    audit_search,
    audit_trace,
    audit_verify,
)
from broker.cli.audit_examples import EXAMPLES, EXITS, SEE
from broker.cli.audit_files import public_key_path, reader
from broker.cli.audit_reads import note_reading
from broker.cli.configuration import add_config
from broker.cli.exits import Exit
from broker.cli.output import print_json, talk, write
from broker.cli.parsing import guide

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable


def configure(parser: ArgumentParser) -> None:
    """Add the verbs."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, summary: str, run: Callable[[Namespace], int]) -> ArgumentParser:
        sub = verbs.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        sub.set_defaults(run_verb=run)
        add_config(sub)
        sub.add_argument("--database", type=Path, metavar="FILE", help="the log itself, instead of a configuration")
        guide(sub, EXAMPLES[name], EXITS.get(name), see=SEE[name])
        return sub

    verify = verb("verify", "tell whether the log is the one that was signed", audit_verify.run)
    audit_verify.configure(verify)
    verb("checkpoint", "print the newest signed checkpoint, to be kept elsewhere", _checkpoint)
    verb("key", "print the verifier key, for auditors to pin", _key)
    export = verb("export", "write events out as JSON Lines, CSV or OCSF; the first can be verified", audit_export.run)
    audit_export.configure(export)
    event = verb("show", "print one event", _show)
    event.add_argument("index", type=int, metavar="INDEX", help="its number in the log, from 0")
    audit_search.configure(verb("search", "list events, newest first", audit_search.run))
    trace = verb("trace", "tell who logged in, by the logs of sshd", audit_trace.run)
    audit_trace.configure(trace)
    reconcile = verb("reconcile", "tell whether the log knows every credential that AWS minted", audit_reconcile.run)
    audit_reconcile.configure(reconcile)
    rebuild = verb("rebuild", "make leases, host keys and open requests again from the events", audit_rebuild.run)
    audit_rebuild.configure(rebuild)
    verb("migrate", "bring the tables of an older log up to date; no event changes", audit_migrate.run)
    verb("rotate", "let a new key sign the log; the old and the new one both sign the change", audit_rotate.run)
    older = verb("archive", "write the bodies of old events to a file that verifies", audit_retention.archive)
    audit_retention.configure_archive(older)
    prune = verb("prune", "take bodies that are archived out of the log; hashes and proofs stay", audit_retention.prune)
    audit_retention.configure_prune(prune)


def run(arguments: Namespace) -> int:
    """Run one verb."""
    from broker.audit.evidence import CannotVerify, Damaged

    try:
        return int(arguments.run_verb(arguments))
    except (CannotVerify, Damaged) as problem:
        talk(str(problem))
        return Exit.UNAVAILABLE


def _checkpoint(arguments: Namespace) -> int:
    with reader(arguments) as opened:
        newest = opened.newest_checkpoint()
    if newest is None:
        talk("the log has no checkpoint")
        return Exit.PROBLEMS
    sys.stdout.write(newest.note)
    return Exit.OK


def _key(arguments: Namespace) -> int:
    write(public_key_path(arguments).read_text().strip())
    return Exit.OK


def _show(arguments: Namespace) -> int:
    with reader(arguments) as opened:
        found = opened.find(arguments.index) if 0 <= arguments.index < 1 << 63 else None
    if found is None:
        talk(f"there is no event {arguments.index}")
        return Exit.PROBLEMS
    note_reading(arguments, (f"index={arguments.index}",))
    print_json(audit_search.item_of(found))
    return Exit.OK
