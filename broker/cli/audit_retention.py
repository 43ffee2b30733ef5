"""`broker audit archive` and `prune`: bodies of old events go to a file, then out of the log; proofs still hold."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from broker.cli.audit_files import reader
from broker.cli.audit_search import moment
from broker.cli.configuration import settings_of
from broker.cli.exits import Exit
from broker.cli.output import talk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from broker.audit.retention import Archive
    from broker.settings import Settings

_CONNECTION = "sqlite:///"


def configure_archive(parser: ArgumentParser) -> None:
    """Add the arguments."""
    when = "a date, an RFC 3339 time, or how long ago, such as 400d: what is older goes into the archive"
    parser.add_argument("--before", type=moment, required=True, metavar="TIME", help=when)
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="a new file, as an export is one")


def configure_prune(parser: ArgumentParser) -> None:
    """Add the arguments."""
    help_text = "what `broker audit archive` wrote; it stays the only place of these bodies"
    parser.add_argument("--archive", type=Path, required=True, metavar="FILE", help=help_text)


def archive(arguments: Namespace) -> int:
    """Write the oldest bodies to a file. The log stays as it is."""
    from broker.audit.retention import write_archive

    output: Path = arguments.output
    with reader(arguments) as opened:
        try:
            descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except FileExistsError:
            talk(f"{output} is there already, and is left as it is")
            return Exit.USAGE
        with os.fdopen(descriptor, "wb") as file:
            count = write_archive(opened, arguments.before, file.write, shared=_is_shared(arguments))
            file.flush()
            os.fsync(file.fileno())
    if not count:
        output.unlink()
        talk("no event is old enough that need not stay: those of the newest run and of leases that are out do")
        return Exit.PROBLEMS
    talk(f"{count} events written; `broker audit prune --archive {output}` takes their bodies out of the log")
    return Exit.OK


def prune(arguments: Namespace) -> int:
    """Take the bodies that an archive holds out of the log, and write the event that says so, in one transaction."""
    from broker.audit.retention import read_archive

    if arguments.database:
        talk("pruning writes an event: name the settings, which know the signing key")
        return Exit.USAGE
    with reader(arguments) as opened:
        held = read_archive(arguments.archive, opened)
    asyncio.run(_prune(settings_of(arguments), held))
    talk(f"{held.end - held.first} events have no body here any more; keep {arguments.archive}")
    return Exit.OK


async def _prune(settings: Settings, held: Archive) -> None:
    from dataclasses import replace

    from broker.audit.operators import operator
    from broker.wiring import exclusive_log

    event = held.event()
    async with exclusive_log(settings) as log:
        await log.prune(replace(event, details={**event.details, **operator()}), held.end)


def _is_shared(arguments: Namespace) -> bool:
    return not arguments.database and not settings_of(arguments).audit.database.startswith(_CONNECTION)
