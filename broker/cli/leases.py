"""`broker leases`: the credentials that are out now, and that I may know of."""

from __future__ import annotations

from broker.cli import output
from broker.cli.exits import Exit
from broker.cli.parsing import guide
from broker.cli.service import service
from broker.cli.times import in_a_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from broker.client.documents import LeaseItem

COLUMNS = ("/INSTANCE", "WHO", "BY", "!SINCE", "!UNTIL", "TICKET", "REASON", ">EVENT")

EPILOG = """\
On a terminal SINCE and UNTIL are by the clock of this machine, with the date when that is not
today; in a pipe, and in JSON and YAML, they are whole and in UTC.
"""

EXAMPLES = """\
broker leases  # who is in where, until when
broker leases --instance web-1  # on this instance alone
broker leases --actor corp/alice --format json  # of one person, for a program
"""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = EPILOG
    parser.add_argument("--instance", metavar="INSTANCE", default="", help="of this one: NAME or ACCOUNT/REGION/NAME")
    parser.add_argument("--actor", metavar="WHO", default="", help="of this one: ISSUER/SUBJECT")
    parser.add_argument("--account", metavar="NAME", default="", help="in this account")
    output.add_format(parser, "table", "json", "yaml")
    guide(parser, EXAMPLES, see="broker ls, broker audit search")


def run(arguments: Namespace) -> int:
    """List them."""
    with service() as broker:
        found = broker.leases(instance=arguments.instance, actor=arguments.actor, account=arguments.account)
        listed = list(found)
    output.show(listed, arguments.format, COLUMNS, _row, "nothing is out that you may know of")
    if any(lease["protocol"] == "rdp" for lease in listed):
        output.talk("note: a Windows password lives on after its lease, until somebody changes it in Windows")
    return Exit.OK


def _row(lease: LeaseItem) -> tuple[object, ...]:
    place = lease["instance"]
    return (
        f"{place['account']}/{place['region']}/{place['name']}",
        lease["actor"],
        f"{lease['protocol']}{' (break-glass)' if lease['break_glass'] else ''}",
        in_a_table(lease["issued_at"] or ""),
        in_a_table(lease["expires_at"]),
        lease["ticket"],
        lease["reason"],
        lease["audit_index"],
    )
