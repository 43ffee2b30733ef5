"""`broker blueprints`: what instances are made from."""

from __future__ import annotations

from broker.cli import output
from broker.cli.exits import Exit
from broker.cli.parsing import guide
from broker.cli.service import service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from broker.client.documents import BlueprintDocument

COLUMNS = ("BLUEPRINT", "NAME", "VERSION", "TYPE", "PLATFORM", ">MIN POWER")


EXAMPLES = """\
broker blueprints  # what new instances can be made from
broker blueprints --all --format json  # older ones too, for a program
"""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--all", action="store_true", help="those too that make no new instances any more")
    output.add_format(parser, "table", "json", "yaml")
    guide(parser, EXAMPLES, see="broker bundles")


def run(arguments: Namespace) -> int:
    """List them."""
    with service() as broker:
        listed = broker.blueprints(include_inactive=arguments.all)
        output.show(listed, arguments.format, COLUMNS, _row, "the catalogue is empty")
    return Exit.OK


def _row(blueprint: BlueprintDocument) -> tuple[object, ...]:
    return (
        blueprint["blueprintId"],
        blueprint["name"],
        blueprint["version"],
        blueprint["type"],
        blueprint["platform"],
        blueprint["minPower"],
    )
