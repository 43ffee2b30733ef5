"""`broker audit rebuild`: the views of the log made again from its events, and compared or written."""

from __future__ import annotations

import asyncio

from broker.cli.audit_files import reader
from broker.cli.configuration import settings_of
from broker.cli.exits import Exit
from broker.cli.output import talk, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from broker.audit.rebuilding import Rebuilt

_TRIES = 10


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--check", action="store_true", help="only compare, also while the service runs; 1 when they differ"
    )


def run(arguments: Namespace) -> int:
    """Compare, and write what differs unless told not to."""
    if arguments.check:
        return Exit.PROBLEMS if _compared(arguments).differences else Exit.OK
    if arguments.database:
        talk("rebuilding writes an event: name the settings, which know the signing key")
        return Exit.USAGE
    return asyncio.run(_write(arguments))


def _compared(arguments: Namespace) -> Rebuilt:
    from broker.audit.rebuilding import rebuild

    with reader(arguments) as opened:
        rebuilt = rebuild(opened)
    for line in rebuilt.differences:
        write(line)
    rows = ", ".join(f"{name} {len(view)}" for name, view in rebuilt.views.items())
    talk(f"{rebuilt.size} events give: {rows}; rows that differ: {len(rebuilt.differences)}")
    if kept := sum(rebuilt.kept.values()):
        talk(f"{kept} rows rest on events whose bodies were pruned: they are kept, and cannot be checked here")
    return rebuilt


async def _write(arguments: Namespace) -> int:
    from broker.audit.operators import operator
    from broker.model import Event
    from broker.wiring import exclusive_log

    async with exclusive_log(settings_of(arguments)) as log:
        for _ in range(_TRIES):
            rebuilt = await asyncio.to_thread(_compared, arguments)
            if not rebuilt.differences:
                talk("nothing had to be written")
                return Exit.OK
            rows = {name: len(view) for name, view in rebuilt.views.items()}
            counts = {"size": rebuilt.size, "differences": len(rebuilt.differences)}
            event = Event(event="audit.rebuilt", outcome="success", details={**counts, "rows": rows, **operator()})
            if await log.rebuild(event, rebuilt.size, rebuilt.views):
                talk("the views were written")
                return Exit.OK
    talk("the log grows faster than it can be read; stop the service for this")
    return Exit.UNAVAILABLE
