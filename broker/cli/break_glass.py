"""`broker break-glass`: look at how somebody broke the glass, and sign it off."""

from __future__ import annotations

from broker.cli import output
from broker.cli.exits import Exit
from broker.cli.identifiers import SHOWN, whole
from broker.cli.parsing import guide
from broker.cli.service import service
from broker.cli.times import in_a_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

    from broker.cli.parsing import Parser
    from broker.client.documents import UseDocument

COLUMNS = ("!USE", "WHO", "/INSTANCE", "!USED", "STATE", "TICKET", "REASON", ">EVENT")
_LS = "broker break-glass ls"

_LS_EXAMPLES = """\
broker break-glass ls  # my own last use, and those that wait for my review
broker break-glass ls --reviewable --format json  # for a program
"""
_REVIEW_EXAMPLES = """\
broker break-glass review 3fa9c1d2 --reason "read the session's log with alice"  # how it begins is enough
broker break-glass review 3fa9c1d2 --unjustified --reason "the ticket system was up"  # settles it too
"""


def configure(parser: Parser) -> None:
    """Add the verbs."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    parser.usual_verb = "ls"
    parser.epilog = "Without a verb, it lists them."

    def verb(name: str, summary: str, run: Callable[[Namespace], int]) -> ArgumentParser:
        sub: ArgumentParser = verbs.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        sub.set_defaults(run_verb=run, verb=name)
        return sub

    listing = verb("ls", "list my own last use, and those that wait for my review", _list)
    which = listing.add_mutually_exclusive_group()
    which.add_argument("--mine", dest="show", action="store_const", const="mine", help="only my own")
    which.add_argument(
        "--reviewable", dest="show", action="store_const", const="reviewable", help="only those that wait for me"
    )
    listing.set_defaults(show="all")
    output.add_format(listing, "table", "json", "yaml")
    guide(listing, _LS_EXAMPLES, see="broker break-glass review, broker audit search")
    review = verb("review", "sign a use off: only then can the same person break the glass again", _review)
    review.add_argument("use", metavar="USE", help="its id, or how it begins")
    review.add_argument("--reason", metavar="TEXT", required=True, help="what you found")
    review.add_argument("--unjustified", action="store_true", help="it should not have been done")
    exits = {2: "there is no such use, or it is settled", 3: "it is your own, or you may not"}
    guide(review, _REVIEW_EXAMPLES, exits, see="broker break-glass ls, broker lock create")


def run(arguments: Namespace) -> int:
    """Run one verb."""
    return int(arguments.run_verb(arguments))


def _list(arguments: Namespace) -> int:
    with service() as broker:
        found = list(broker.break_glass_uses(arguments.show))
    nothing = "no use of yours is known, and none waits for your review"
    output.show(found, arguments.format, COLUMNS, _row, nothing)
    return Exit.OK


def _review(arguments: Namespace) -> int:
    verdict = "unjustified" if arguments.unjustified else "justified"
    with service() as broker:
        use = whole(arguments.use, "use", broker.break_glass_uses, _LS)
        settled = broker.review_break_glass(use, reason=arguments.reason, verdict=verdict)
    output.talk(f"{settled['verdict']}: {settled['person']} may break the glass again")
    return Exit.OK


def _row(use: UseDocument) -> tuple[object, ...]:
    place = use["instance"]
    return (
        use["id"][:SHOWN],
        use["person"],
        f"{place['account']}/{place['region']}/{place['name']}",
        in_a_table(use["used_at"]),
        use["verdict"] or use["state"],
        use["ticket"],
        use["reason"],
        use["audit_index"],
    )
