"""`broker ls`: the instances that I may reach, and how."""

from __future__ import annotations

from broker.cli import output
from broker.cli.exits import Exit
from broker.cli.parsing import guide
from broker.cli.service import service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from broker.client.documents import InstanceDocument

COLUMNS = ("INSTANCE", "STATE", "BY", "ACCOUNT", "REGION", "BLUEPRINT", "BUNDLE", "TAGS")

EPILOG = """\
--format ansible is an inventory, with groups by account, region, platform, state and tag
(tag_KEY_VALUE). Its hosts are reached by way of `broker ssh-config`:

  broker ls --format ansible > lightsail.yaml
  ansible linux -i lightsail.yaml -m raw -a uptime
"""


EXAMPLES = """\
broker ls  # name, state, how to get in, and where it is
broker ls --format json | jq -r '.[].name'  # the names alone
broker ls --format ansible > lightsail.yaml  # an inventory
"""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = EPILOG
    output.add_format(parser, "table", "json", "yaml", "ansible")
    guide(parser, EXAMPLES, see="broker ssh, broker ssh-config, broker get, broker leases")


def run(arguments: Namespace) -> int:
    """List them."""
    with service() as broker:
        listed = list(broker.instances())
    if arguments.format == "ansible":
        from broker.cli.inventory import inventory

        output.print_json(inventory(listed))
        return Exit.OK
    output.show(listed, arguments.format, COLUMNS, _row, "there is no instance that you may reach")
    for instance in listed:
        for warning in instance.get("warnings", []):
            output.talk(f"warning: {instance['name']}: {warning}")
    return Exit.OK


def _row(instance: InstanceDocument) -> tuple[str, ...]:
    return (
        instance["name"],
        instance["state"],
        ",".join(instance["protocols"]),
        instance["account"],
        instance["region"],
        instance["blueprint"],
        instance["bundle"],
        " ".join(f"{key}={value}" if value else key for key, value in instance["tags"].items()),
    )
