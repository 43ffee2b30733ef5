"""`broker lock`: keep a person, a program, an instance or an account out, whatever the policies say."""

from __future__ import annotations

from broker.cli import durations, output
from broker.cli.exits import Exit
from broker.cli.identifiers import SHOWN, whole
from broker.cli.parsing import guide
from broker.cli.service import service
from broker.cli.times import clock, in_a_table
from broker.client import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

    from broker.cli.parsing import Parser
    from broker.client import Broker
    from broker.client.documents import LockDocument

COLUMNS = ("!LOCK", "!KIND", "/TARGET", "!SINCE", "!UNTIL", "BY", "MESSAGE")
_LS = "broker lock ls"
_KINDS = {
    "user": ("ISSUER/SUBJECT", "a person"),
    "workload": ("ISSUER/SUBJECT", "a program"),
    "instance": ("INSTANCE", "an instance, for everybody: NAME or ACCOUNT/REGION/NAME"),
    "account": ("NAME", "a whole account, for everybody"),
}

_CREATE_EXAMPLES = """\
broker lock create --user corp/alice --ttl 4h --message "laptop stolen, call 555-0100"  # shown to whoever comes as her
broker lock create --instance main/eu-west-1/db-1 --message "under investigation, INC-9"  # until it is removed
broker lock create --account main --ttl 30m --message "migration, ask ops"  # nobody gets in anywhere
"""
_LS_EXAMPLES = """\
broker lock ls  # those in force that I may remove
broker lock ls --format json  # for a program
"""
_REMOVE_EXAMPLES = 'broker lock remove 5d1f22ab --reason "laptop found"  # the beginning of its id is enough\n'


def configure(parser: Parser) -> None:
    """Add the verbs."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    parser.usual_verb = "ls"
    parser.epilog = "Without a verb, it lists them."

    def verb(name: str, summary: str, run: Callable[[Namespace], int]) -> ArgumentParser:
        sub: ArgumentParser = verbs.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        sub.set_defaults(run_verb=run, verb=name)
        return sub

    create = verb("create", "keep somebody or something out, at once", _create)
    target = create.add_mutually_exclusive_group(required=True)
    for kind, (shape, what) in _KINDS.items():
        target.add_argument(f"--{kind}", metavar=shape, help=what)
    create.add_argument("--ttl", metavar="TIME", type=durations.seconds, default=0, help="for how long (until removed)")
    create.add_argument("--message", metavar="TEXT", required=True, help="what whoever is kept out is told")
    output.add_format(create, "table", "json", "yaml")
    guide(create, _CREATE_EXAMPLES, see="broker lock ls, broker leases")
    listing = verb("ls", "list the locks in force that I may remove", _list)
    output.add_format(listing, "table", "json", "yaml")
    guide(listing, _LS_EXAMPLES, see="broker lock remove")
    remove = verb("remove", "take a lock off", _remove)
    remove.add_argument("lock", metavar="LOCK", help="its id, or how it begins")
    remove.add_argument("--reason", metavar="TEXT", default="", help="why; policies may ask for it")
    guide(remove, _REMOVE_EXAMPLES, {2: "there is no such lock, or it is off"}, see="broker lock ls")


def run(arguments: Namespace) -> int:
    """Run one verb."""
    return int(arguments.run_verb(arguments))


def _create(arguments: Namespace) -> int:
    kind = next(kind for kind in _KINDS if getattr(arguments, kind))
    with service() as broker:
        lock = broker.lock(kind, getattr(arguments, kind), message=arguments.message, ttl=arguments.ttl)
        _print([lock], arguments.format)
        _tell_what_is_out(broker, lock)
    return Exit.OK


def _tell_what_is_out(broker: Broker, lock: LockDocument) -> None:
    """Say which credentials a lock does not take back, as far as whoever locks may know."""
    which = "actor" if lock["kind"] in {"user", "workload"} else lock["kind"]
    try:
        leases = list(broker.leases(**{which: lock["target"]}))
    except ClientError:
        return  # the lock holds; who has locked themselves out, for one, is told nothing any more
    if leases:
        last = max(lease["expires_at"] for lease in leases)
        output.talk(f"note: nothing is taken back; {len(leases)} credentials are out, the last until {clock(last)}")
        output.talk(f"`broker leases --{which} {lock['target']}` shows them")


def _list(arguments: Namespace) -> int:
    with service() as broker:
        found = list(broker.locks())
    _print(found, arguments.format)
    return Exit.OK


def _remove(arguments: Namespace) -> int:
    with service() as broker:
        lock = broker.remove_lock(whole(arguments.lock, "lock", broker.locks, _LS), reason=arguments.reason)
    output.talk(f"the {lock['kind']} {lock['target']} is not locked by this any more")
    return Exit.OK


def _print(locks: list[LockDocument], form: str) -> None:
    output.show(locks, form, COLUMNS, _row, "there is no lock in force that you may remove")


def _row(lock: LockDocument) -> tuple[object, ...]:
    return (
        lock["id"][:SHOWN],
        lock["kind"],
        lock["target"],
        in_a_table(lock["created_at"]),
        in_a_table(lock["until"] or ""),
        lock["created_by"],
        lock["message"],
    )
