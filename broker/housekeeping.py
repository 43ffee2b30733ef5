"""What a running service does beside answering requests, and what it writes down about it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Protocol

import structlog

from broker.audit.spool import Spool
from broker.authorization.policies import Policies
from broker.authorization.snapshot import PolicySnapshot
from broker.errors import AuditUnavailable, PoliciesUnavailable
from broker.model import Event, Receipt
from broker.unsealing.custody import Custody

_TOLD = 5
"""So many problems of a broken set stand in the log; `broker policy check` names all of them."""
_log = structlog.get_logger("broker.service")


class Log(Protocol):
    """The audit log, as far as it is written here."""

    async def append(self, event: Event) -> Receipt:
        """Write one event."""
        ...


class FailureCounter(Protocol):
    """Counts refused tokens."""

    def drain_failures(self) -> Mapping[str, int]:
        """Answer the counts by cause since the last call."""
        ...


async def record_policies(log: Log, snapshot: PolicySnapshot) -> None:
    """Write down which policies are in force from now on."""
    _log.info("policies loaded", policies=len(snapshot.rules), digest=snapshot.digest)
    await log.append(
        Event(
            event="policies.loaded",
            outcome="success",
            details={"digest": snapshot.digest, "policies": len(snapshot.rules), "files": tuple(snapshot.files)},
        )
    )


async def record_refusal(log: Log, problems: Sequence[str], digest: str) -> None:
    """Write down that changed policies are broken, and which ones stay in force."""
    await log.append(
        Event(
            event="policies.refused",
            outcome="failure",
            error=PoliciesUnavailable.code,
            details={"problems": len(problems), "first": tuple(problems[:_TOLD]), "digest": digest},
        )
    )


async def watch_policies(policies: Policies, log: Log) -> None:
    """Take in changed policies within a few seconds, until cancelled. A broken set keeps the old one in force."""

    async def looked(snapshot: PolicySnapshot | None) -> None:
        await _note_policies(policies, log, snapshot)

    while True:
        try:
            await policies.watch(looked)
        except AuditUnavailable:
            _log.error("policies loaded, but the audit log cannot be written")


async def reload_policies(policies: Policies, log: Log) -> None:
    """Take in the policies now, changed or not (SIGHUP)."""
    await _note_policies(policies, log, await policies.reload())


async def _note_policies(policies: Policies, log: Log, snapshot: PolicySnapshot | None) -> None:
    """Say what came of a reload: a new set, the same one, or a broken one."""
    health = policies.health()
    if snapshot:
        await record_policies(log, snapshot)
    elif health.ready:
        _log.info("the policies are those in force", detail=health.detail)
    else:
        _log.error("the policies are broken, the old ones stay in force", detail=health.detail)
        await record_refusal(log, policies.problems, policies.snapshot.digest)


async def record_failures(counter: FailureCounter, log: Log, every: float = 60.0) -> None:
    """Write down once a minute, and when cancelled, how many tokens were refused, by cause.

    Counts, not one event each: strangers cannot grow the log at will.
    """
    try:
        while True:
            await asyncio.sleep(every)
            await _record_failures(counter, log)
    finally:
        await _record_failures(counter, log)


async def _record_failures(counter: FailureCounter, log: Log) -> None:
    if counts := counter.drain_failures():
        with suppress(AuditUnavailable):
            await log.append(Event(event="authentication.failures", outcome="failure", details={"counts": counts}))


@asynccontextmanager
async def collecting(spool: Spool, log: Log, every: float = 1.0) -> AsyncIterator[None]:
    """Record what operators' commands leave in the spool: now, every second, and once more at the end."""
    stop = asyncio.Event()
    task = asyncio.create_task(_collect_until(stop, spool, log, every))
    try:
        yield
    finally:
        stop.set()  # not cancelled: what is half collected would be recorded twice
        await task


async def _collect_until(stop: asyncio.Event, spool: Spool, log: Log, every: float) -> None:
    trouble = ""
    ending = False
    while not ending:
        ending = stop.is_set()
        told, trouble = trouble, await _collect(spool, log)
        if trouble and trouble != told:
            _log.error("what operators did cannot be recorded now", detail=trouble)
        if not ending:
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), every)


async def _collect(spool: Spool, log: Log) -> str:
    """Answer what went wrong. Whatever it is, the next round tries again."""
    try:
        if count := await spool.collect(log.append):
            _log.info("recorded what operators did", events=count)
    except AuditUnavailable as problem:
        return problem.cause
    except Exception as problem:  # noqa: BLE001 - a chore that ended silently would lose what operators do
        return type(problem).__name__
    return ""


async def watch_keys(custody: Custody, every: float = 1.0) -> None:
    """Take over what operators' commands change in custody within a second or so, until cancelled."""
    known = custody.problems
    while True:
        await asyncio.sleep(every)
        try:
            await custody.refresh()
        except Exception as problem:  # noqa: BLE001 - a chore that ended silently would keep a removed key in use
            _log.error("the keys in custody cannot be looked at", error=type(problem).__name__)
        if custody.problems != known:
            known = custody.problems
            _log.warning("the keys in custody", problems=known)


async def record_expiry(what: str, expire: Callable[[], Awaitable[None]], every: float = 5.0) -> None:
    """Write down what has come to its end by itself, until cancelled."""
    trouble = ""
    while True:
        await asyncio.sleep(every)
        told, trouble = trouble, ""
        try:
            await expire()
        except Exception as problem:  # noqa: BLE001 - a chore that ended silently would leave the log without the end
            trouble = type(problem).__name__
            if trouble != told:
                _log.error(f"{what} cannot be looked through", error=trouble)


def note_start(notes: Sequence[str]) -> None:
    """Say what the machine does not give to the service."""
    for note in notes:
        _log.warning("at the start", detail=note)


def report_anchor(name: str, trouble: str) -> None:
    """Say that an anchor of the log does not take checkpoints, or that it is well again."""
    if trouble:
        _log.error("an anchor of the audit log", anchor=name, detail=trouble)
    else:
        _log.info("an anchor of the audit log takes checkpoints again", anchor=name)


def report_texts(trouble: str) -> None:
    """Say that the index of words cannot be kept up; searches are slower then, and find the same."""
    _log.warning("the index of words of the audit log", detail=trouble)


async def ended(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it is gone."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
