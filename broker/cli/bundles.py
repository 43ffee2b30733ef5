"""`broker bundles`: the sizes of instances, and which of them can run a blueprint."""

from __future__ import annotations

from broker.cli import output
from broker.cli.exits import Exit
from broker.cli.parsing import guide
from broker.cli.service import service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from broker.client.documents import BundleDocument

COLUMNS = (
    "BUNDLE",
    ">US$/MONTH",
    ">CPU",
    ">RAM GB",
    ">DISK GB",
    ">TRANSFER GB",
    ">POWER",
    "PLATFORMS",
)


EXAMPLES = """\
broker bundles  # every size, with its price
broker bundles --blueprint windows_server_2022  # those that can run it
"""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--blueprint", metavar="ID", default="", help="only those that can run it")
    parser.add_argument("--all", action="store_true", help="those too that make no new instances any more")
    output.add_format(parser, "table", "json", "yaml")
    guide(parser, EXAMPLES, see="broker blueprints")


def run(arguments: Namespace) -> int:
    """List them."""
    with service() as broker:
        listed = broker.bundles(blueprint=arguments.blueprint, include_inactive=arguments.all)
        output.show(listed, arguments.format, COLUMNS, _row, "there is no such bundle")
    return Exit.OK


def _row(bundle: BundleDocument) -> tuple[object, ...]:
    return (
        bundle["bundleId"],
        f"{bundle['price']:.2f}",
        bundle["cpuCount"],
        f"{bundle['ramSizeInGb']:g}",
        bundle["diskSizeInGb"],
        bundle["transferPerMonthInGb"],
        bundle["power"],
        ", ".join(bundle["supportedPlatforms"]),
    )
