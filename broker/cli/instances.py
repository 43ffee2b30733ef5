"""`broker ls`: the instances that I may reach, and how."""

from __future__ import annotations

from broker.cli import output
from broker.cli.exits import Exit
from broker.cli.service import service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from broker.client.documents import InstanceDocument

COLUMNS = ("INSTANCE", "STATE", "BY", "ACCOUNT", "REGION", "BLUEPRINT", "BUNDLE", "TAGS")


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    output.add_format(parser, "table", "json", "yaml")


def run(arguments: Namespace) -> int:
    """List them."""
    with service() as broker:
        listed = list(broker.instances())
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
