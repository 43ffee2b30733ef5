"""`broker audit migrate`: bring the tables of an older log up to what this version keeps. No event is changed."""

from __future__ import annotations

import asyncio

from broker.cli.configuration import settings_of
from broker.cli.exits import Exit
from broker.cli.output import talk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from broker.settings import Settings


def run(arguments: Namespace) -> int:
    """Migrate, and write the event that says so."""
    from broker.audit.schema import VERSION
    from broker.audit.stores import InUse, StoreError, opening
    from broker.errors import AuditInUse, AuditUnavailable

    if arguments.database:
        talk("a migration is an event: name the settings, which know the signing key")
        return Exit.USAGE
    settings = settings_of(arguments)
    try:
        version = opening.migrate(settings.audit.database)
    except InUse as problem:
        raise AuditInUse(str(problem)) from problem
    except StoreError as problem:
        raise AuditUnavailable(str(problem)) from problem
    if version == VERSION:
        talk(f"the log has schema version {VERSION} already")
        return Exit.OK
    asyncio.run(_record(settings, version))
    talk(f"the log had schema version {version} and has {VERSION} now")
    return Exit.OK


async def _record(settings: Settings, version: int) -> None:
    from broker.audit.operators import operator
    from broker.audit.schema import VERSION
    from broker.model import Event
    from broker.wiring import exclusive_log

    event = Event(event="audit.migrated", outcome="success", details={"from": version, "to": VERSION, **operator()})
    async with exclusive_log(settings) as log:
        await log.append(event)
