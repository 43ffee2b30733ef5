"""What operators do at the command line is recorded too: in the log, or through its spool while the service has it."""

from __future__ import annotations

import os
import pwd
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from broker.audit.checkpoints import Signer
from broker.audit.log import AuditLog
from broker.audit.spool import Append, Spool
from broker.audit.stores import Store
from broker.errors import AuditInUse, AuditUnavailable
from broker.model import Clock, Event, utc_now

LEFT_TO_THE_SERVICE: Final = "the running service has the audit log open, and will record this within seconds"
_LOGIN_UID: Final = Path("/proc/self/loginuid")
_NOBODY: Final = 2**32 - 1


@asynccontextmanager
async def operator_log(
    store: Store, signer: Signer, spool: Spool | None, *, say: Callable[[str], object], clock: Clock = utc_now
) -> AsyncIterator[Append]:
    """Answer how to record what an operator does; each event is durable when the call returns, and says who it was.

    Args:
        store: The log.
        signer: Signs its checkpoints.
        spool: Takes the events while another process has the log; None for a log that many processes write.
        say: Told, once, when they go there.
        clock: The time.

    Raises:
        AuditUnavailable: Neither can be written.
    """
    log: AuditLog | None = None
    with suppress(AuditInUse):
        log = await AuditLog.open(store, signer, clock=clock, announce=False)
    if log is None:
        if spool is None:
            raise AuditUnavailable("another process has the audit log for itself")
        yield _signed(_telling(spool.append, say))
        return
    try:
        if spool:
            await spool.collect(log.append)
        yield _signed(log.append)
        if spool:
            await spool.collect(log.append)  # of a command that ran meanwhile
    finally:
        await log.close()


def operator() -> Mapping[str, str]:
    """Say who runs this, as the system knows it: `os_user`, and `login_user` who became that user, by sudo for one."""
    user = _name(os.getuid())
    with suppress(OSError, ValueError):
        login = int(_LOGIN_UID.read_text())
        if login not in {_NOBODY, os.getuid()}:
            return {"os_user": user, "login_user": _name(login)}
    return {"os_user": user}


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _signed(append: Append) -> Append:
    async def signed(event: Event) -> object:
        return await append(replace(event, details={**event.details, **operator()}))

    return signed


def _telling(append: Append, say: Callable[[str], object]) -> Append:
    told = False

    async def telling(event: Event) -> object:
        nonlocal told
        answer = await append(event)
        if not told:
            told = True
            say(LEFT_TO_THE_SERVICE)
        return answer

    return telling
