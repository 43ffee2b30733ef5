"""`broker audit rotate`: a new key signs the log from now on. Safe to run again after it was cut short."""

from __future__ import annotations

import asyncio

from broker.cli.configuration import settings_of
from broker.cli.exits import Exit
from broker.cli.output import talk, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from broker.audit.checkpoints import Signer
    from broker.settings import Settings


def run(arguments: Namespace) -> int:
    """Change the key, and print the new verifier key."""
    from broker.audit.keyfiles import create_signing_key, load_signer, succeed, successor_path
    from broker.wiring import signing_key

    if arguments.database:
        talk("a change of key is an event: name the settings, which know the keys")
        return Exit.USAGE
    settings = settings_of(arguments)
    path, origin = signing_key(settings), settings.audit.origin
    begun = successor_path(path).exists()
    if not begun:
        create_signing_key(successor_path(path), origin)
    old, new = load_signer(path, origin), load_signer(successor_path(path), origin)
    if begun and asyncio.run(_is_in_force(settings, new)):
        talk("the log had the new key already; only its file was not in place")
    else:
        asyncio.run(_rotate(settings, old, new))
    succeed(path)
    talk(f"{path} holds the new key, and the old one is gone; auditors may pin either of")
    talk(str(old.verifier))
    write(str(new.verifier))
    return Exit.OK


async def _is_in_force(settings: Settings, new: Signer) -> bool:
    """Tell whether the log has made the change to this key before."""
    from broker.errors import AuditInUse, AuditUnavailable
    from broker.wiring import exclusive_log

    try:
        async with exclusive_log(settings, new):
            return True
    except AuditInUse:
        raise
    except AuditUnavailable:
        return False


async def _rotate(settings: Settings, old: Signer, new: Signer) -> None:
    from broker.audit.operators import operator
    from broker.audit.rotation import KEY_ROTATED, rotation
    from broker.model import Event
    from broker.wiring import exclusive_log

    details = {**rotation(old, new), **operator()}
    async with exclusive_log(settings, old) as log:
        await log.rotate(Event(event=KEY_ROTATED, outcome="success", details=details), new)
