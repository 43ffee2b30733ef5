"""The only writer of the audit log. Whoever holds a `Receipt` knows that the event is on disk.

One thread writes; everybody who waits while it syncs shares the next sync (group commit). Nothing that happens to a
waiter, such as a client that goes away, reaches the commit.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from os import getpid
from queue import Empty, SimpleQueue
from socket import gethostname
from time import monotonic, sleep
from typing import Any, NamedTuple, Self, TypeVar

from broker.audit.checkpoints import Signer
from broker.audit.events import Document, document
from broker.audit.ledger import Ledger, Place
from broker.audit.projections import FAILED, ISSUED, REQUESTED, WITHHELD
from broker.audit.stores import Store, Views
from broker.errors import AuditUnavailable, Superseded
from broker.model import Clock, Event, Health, Measure, Receipt, utc_now

_SILENT = "the disk does not answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How much may wait, how much is written at once, and how often the log is looked after and sealed (seconds)."""

    queue_limit: int = 1024
    batch_limit: int = 256
    linger: float = 0.002
    """Seconds that the writer waits for more while events come together: a commit costs much, another event little."""
    watch_interval: float = 2.0
    checkpoint_interval: float = 60.0
    checkpoint_events: int = 16_384
    append_deadline: float = 10.0
    stall: float = 5.0
    """While the disk keeps the writer longer than this many seconds, the health shows it and no event is taken."""


class _Waiting(NamedTuple):
    """An event on its way, and who waits for it."""

    event: Event
    document: Document
    future: asyncio.Future[Receipt]
    until: float
    after: int | None = None


class _Errand(NamedTuple):
    """Something else that the writer's thread does between two batches."""

    work: Callable[[Ledger], object]
    future: asyncio.Future[Any]


class _Stop(NamedTuple):
    """The last thing in the queue."""


_Item = _Waiting | _Errand | _Stop
_Answer = TypeVar("_Answer")


def create(store: Store, signer: Signer, clock: Clock = utc_now) -> None:
    """Make a new, empty log. Nothing else makes one: a log that is missing is a loss, not a beginning.

    Raises:
        AuditUnavailable: when there is one already, or it cannot be made.
    """
    Ledger(store, signer, clock).create()


class AuditLog:
    """The open log of this process. Built by `open`; belongs to the event loop that opened it."""

    def __init__(self, ledger: Ledger, pace: Pace, version: str, *, announce: bool = True) -> None:
        self._ledger = ledger
        self._pace = pace
        self._version = version
        self._announce = announce
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Item] = SimpleQueue()
        self._pending = 0
        self._waiting: deque[_Waiting] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self._stopping = False
        self._condemned = ""
        self._busy_since = 0.0
        self._crowded = False
        self._thread = threading.Thread(target=self._write_until_stopped, name="audit-writer", daemon=True)
        self._tending: asyncio.Task[None] | None = None
        self._sealed, self._sealed_at = -1, monotonic()
        self._told: list[Callable[[Event], object]] = []

    @classmethod
    async def open(
        cls,
        store: Store,
        signer: Signer,
        *,
        clock: Clock = utc_now,
        version: str = "",
        pace: Pace | None = None,
        announce: bool = True,
    ) -> Self:
        """Open an existing log, check it, and close what a crash left open.

        Args:
            store: Where it is.
            signer: Signs its checkpoints.
            clock: The time.
            version: Of the broker.
            pace: How much may wait, and how often the log is sealed.
            announce: Write `service.started` now and `service.stopped` at the end; an operator's command is no service.

        Raises:
            AuditInUse: when another process has it.
            AuditUnavailable: when there is none, or head, tree and checkpoint disagree.
        """
        log = cls(Ledger(store, signer, clock), pace or Pace(), version, announce=announce)
        log._thread.start()
        try:
            last_stop = await log._errand(_open)
            if announce:
                await log.append(log._service("started", **last_stop))
                await log.checkpoint()
        except BaseException:
            await log._stop_thread()
            raise
        log._tending = asyncio.create_task(log._tend())
        return log

    def tell(self, whom: Callable[[Event], object]) -> None:
        """Tell somebody of every event that is appended, once it is durable and before who waits for it goes on."""
        self._told.append(whom)

    async def append(self, event: Event, *, after: int | None = None) -> Receipt:
        """Write one event; answers when it is durable. Giving up the wait does not take the event back.

        Args:
            event: What to write.
            after: Only if this is still the newest event of the thread that `event` belongs to (-1: there is none).
                Of several brokers that go on from one event, one does.

        Raises:
            AuditUnavailable: when it is not known to be durable, or not within the deadline; then nothing may leave.
            Superseded: when the thread has gone on; nothing was written.
        """
        if self._closing or self._ledger.poison:
            raise AuditUnavailable(self._ledger.poison or "the audit log is closed")
        if self._pending >= self._pace.queue_limit:
            raise AuditUnavailable("too many events wait to be written", retry_after=1)
        if self._stalled():
            raise AuditUnavailable(_SILENT, retry_after=1)
        future = self._enqueue(event, after)
        try:
            return await future
        except asyncio.CancelledError:
            if not future.cancelled() and not future.exception():  # it was told already, to somebody who has just left
                self._after_giving_up(event)
            raise

    def _after_giving_up(self, event: Event) -> None:
        """Write what became of an event that is durable, but for which nobody waits any more."""
        if self._stopping:
            return
        if outcome := given_up(event):
            with suppress(AuditUnavailable):
                self._enqueue(outcome).add_done_callback(_look_away)

    def _stalled(self) -> bool:
        busy_since = self._busy_since
        return bool(busy_since) and monotonic() - busy_since > self._pace.stall

    def _enqueue(self, event: Event, after: int | None = None) -> asyncio.Future[Receipt]:
        try:
            members = document(event)
        except (TypeError, ValueError) as problem:
            raise AuditUnavailable(f"an event cannot be written: {problem}") from problem
        future: asyncio.Future[Receipt] = self._loop.create_future()
        waiting = _Waiting(event, members, future, self._loop.time() + self._pace.append_deadline, after)
        self._pending += 1
        self._waiting.append(waiting)
        if self._timer is None:
            self._timer = self._loop.call_at(waiting.until, self._give_up)
        self._queue.put(waiting)
        return future

    def _give_up(self) -> None:
        """Let nobody wait beyond their deadline. One timer serves all: who came first has the first deadline."""
        now = self._loop.time()
        while self._waiting and (self._waiting[0].until <= now or self._waiting[0].future.done()):
            future = self._waiting.popleft().future
            if not future.done():
                future.set_exception(AuditUnavailable(_SILENT, retry_after=1))
        self._timer = self._loop.call_at(self._waiting[0].until, self._give_up) if self._waiting else None

    async def checkpoint(self) -> str:
        """Seal what is new and answer the newest signed note.

        Raises:
            AuditUnavailable: when the store cannot be read or written.
        """
        self._refuse_when_closed()
        return await self._errand(_seal)

    def _refuse_when_closed(self) -> None:
        if self._closing:
            raise AuditUnavailable("the audit log is closed")

    async def prune(self, event: Event, end: int) -> None:
        """Take the bodies of all events below `end` out of the log; `event` says so, in the same transaction.

        Raises:
            AuditUnavailable: when one of them is not sealed, or still needed, or the store cannot be written.
        """
        self._refuse_when_closed()
        await self._errand(partial(Ledger.prune, document=document(event), end=end))

    async def rebuild(self, event: Event, size: int, views: Views) -> bool:
        """Replace all rows of the views by those that `size` events give, and write `event`; False when there are more.

        Raises:
            AuditUnavailable: when the store cannot be written.
        """
        self._refuse_when_closed()
        return await self._errand(partial(Ledger.rebuild, document=document(event), size=size, views=views))

    async def rotate(self, event: Event, successor: Signer) -> None:
        """Let another key sign from now on; `event` carries what `rotation` answers for both keys.

        Raises:
            AuditUnavailable: when the store cannot be written.
        """
        self._refuse_when_closed()
        await self._errand(partial(Ledger.rotate, document=document(event), successor=successor))

    async def claim(self, follower: str, seconds: float) -> int | None:
        """Follow the log as `follower` for so long, and let no other process do so.

        Answers how far the follower has come (0 for a new one), or None while another process follows.

        Raises:
            AuditUnavailable: when the store cannot be written.
        """
        self._refuse_when_closed()
        return await self._errand(partial(Ledger.claim, follower=follower, seconds=seconds))

    async def advance(self, follower: str, position: int) -> None:
        """Note durably how far a claimed follower has come.

        Raises:
            AuditUnavailable: when the store cannot be written, or another process follows by now.
        """
        self._refuse_when_closed()
        await self._errand(partial(Ledger.advance, follower=follower, position=position))

    def condemn(self, reason: str) -> None:
        """Write nothing more: somebody outside knows that this is not the log that it was."""
        self._condemned = self._condemned or f"the audit log is closed until it is restored: {reason}"
        self._ledger.poison = self._ledger.poison or self._condemned

    def measures(self) -> Iterator[Measure]:
        """Answer how long the log is, and how much of it waits for what."""
        unsealed = self._ledger.unsealed
        yield Measure("audit_events", self._ledger.size)
        yield Measure("audit_unsealed_events", unsealed)
        yield Measure("audit_unsealed_seconds", monotonic() - self._sealed_at if unsealed else 0)
        yield Measure("audit_waiting_events", self._pending)

    def health(self) -> Health:
        """Tell whether events can be written now."""
        trouble = self._trouble() or self._trouble_with_time()
        return Health("audit", ready=not trouble, detail=trouble or self._ledger.burden)

    def _trouble_with_time(self) -> str:
        behind = self._ledger.clock_behind
        return f"The clock was set back: it is {behind:.0f} seconds behind the newest event." if behind else ""

    def _trouble(self) -> str:
        if self._condemned:
            return "An anchor contradicts the log; nothing is written until it is restored."
        if self._ledger.poison:
            return "A write failed; the log is closed until the broker is restarted."
        if self._closing or not self._thread.is_alive():
            return "The log is closed."
        if self._ledger.hindrance:
            return "The last write was refused, for instance because the disk is full."
        if self._stalled():
            return "The disk does not answer."
        return ""

    async def end(self) -> None:
        """Announce the stop and seal the log: nothing is written after it. Events that still wait are written first."""
        if self._closing:
            return
        self._closing = True
        if self._tending:
            self._tending.cancel()
        with suppress(AuditUnavailable):  # it is closed all the same, and the next start tells
            await self._errand(_nothing)  # now all is told to who waited, and what follows from it is on its way
            self._stopping = True
            if self._announce and not self._condemned:
                await self._enqueue(self._service("stopped"))
            await self._errand(_seal)

    async def close(self) -> None:
        """End the log, if that was not done, and let go of it."""
        await self.end()
        if self._thread.is_alive():
            await self._stop_thread()

    async def _stop_thread(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._queue.put(_Stop())
        await asyncio.to_thread(self._thread.join)

    def _service(self, what: str, **details: bool) -> Event:
        which = {"process": f"{gethostname()}/{getpid()}"} if self._ledger.shared else {}
        return Event(event=f"service.{what}", outcome="success", details={"version": self._version, **which, **details})

    async def _tend(self) -> None:
        """Look after the log now and then, and seal it when enough time has passed or events have come."""
        sealed_at = monotonic()
        while True:
            await asyncio.sleep(self._pace.watch_interval)
            due = monotonic() - sealed_at >= self._pace.checkpoint_interval
            with suppress(AuditUnavailable):  # health tells; the next round tries again
                await self._errand(partial(Ledger.tend, seal=due, threshold=self._pace.checkpoint_events))
                sealed_at = monotonic() if due else sealed_at
            sealed = self._ledger.size - self._ledger.unsealed
            if sealed != self._sealed or not self._ledger.unsealed:
                self._sealed, self._sealed_at = sealed, monotonic()

    async def _errand(self, work: Callable[[Ledger], _Answer]) -> _Answer:
        future: asyncio.Future[_Answer] = self._loop.create_future()
        self._queue.put(_Errand(work, future))
        return await future

    # Everything below runs in the writer's thread, but for `_deliver`.

    def _write_until_stopped(self) -> None:
        """Take what waits, write it, deliver; until a stop comes by."""
        stopped = False
        while not stopped:
            batch, then = self._next_batch()
            self._busy_since = monotonic()
            self._crowded = len(batch) > 1 and self._pace.linger > 0
            if batch:
                self._write(batch)
            if isinstance(then, _Errand):
                self._run(then)
            stopped = isinstance(then, _Stop)
            self._busy_since = 0.0
        self._ledger.close()

    def _next_batch(self) -> tuple[list[_Waiting], _Errand | _Stop | None]:
        """Answer the events that wait, up to the limit, and what cut them short."""
        batch: list[_Waiting] = []
        item: _Item = self._queue.get()
        if self._crowded:
            sleep(self._pace.linger)
        while isinstance(item, _Waiting):
            batch.append(item)
            if len(batch) == self._pace.batch_limit:
                return batch, None
            try:
                item = self._queue.get_nowait()
            except Empty:
                return batch, None
        return batch, item

    def _write(self, batch: Sequence[_Waiting]) -> None:
        outcomes: Sequence[Place | AuditUnavailable | Superseded]
        moment: datetime | None = None
        after = {number: waiting.after for number, waiting in enumerate(batch) if waiting.after is not None}
        try:
            time, outcomes = self._ledger.write([waiting.document for waiting in batch], after)
            moment = datetime.fromisoformat(time)
        except AuditUnavailable as problem:
            outcomes = [AuditUnavailable(problem.cause, retry_after=problem.retry_after) for _ in batch]
        self._tell(partial(self._deliver, batch, outcomes, moment))
        self._ledger.read_back_some()

    def _run(self, errand: _Errand) -> None:
        try:
            answer = errand.work(self._ledger)
        except Exception as problem:  # noqa: BLE001 -- whoever sent the errand gets it
            self._tell(partial(_fail, errand.future, problem))
        else:
            self._tell(partial(_answer, errand.future, answer))

    def _tell(self, callback: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop is gone, and with it all who waited
            self._loop.call_soon_threadsafe(callback)

    def _deliver(
        self,
        batch: Sequence[_Waiting],
        outcomes: Sequence[Place | AuditUnavailable | Superseded],
        moment: datetime | None,
    ) -> None:
        """Wake all who waited for a batch, in one step of the event loop."""
        self._pending -= len(batch)
        for waiting, outcome in zip(batch, outcomes, strict=True):
            is_alone = waiting.future.done()  # cancelled or too late; the event is in the log all the same
            if not isinstance(outcome, Place):
                if not is_alone:
                    waiting.future.set_exception(outcome)
                continue
            if is_alone:
                self._after_giving_up(waiting.event)
            elif moment:
                waiting.future.set_result(Receipt(outcome.idx, outcome.leaf_hash, moment))
        while self._waiting and self._waiting[0].future.done():
            self._waiting.popleft()
        for waiting, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Place):
                for tell in self._told:
                    tell(waiting.event)


def given_up(event: Event) -> Event | None:
    """Answer what must follow an event that became durable after its caller had been refused; None for most events."""
    closing = {REQUESTED: FAILED, ISSUED: WITHHELD}.get(event.event)
    if closing is None:
        return None
    error = AuditUnavailable.code
    details = {name: value for name, value in event.details.items() if name == "thread"}
    told = replace(event, event=closing, outcome="failure", error=error, credential=None, expires_at=None)
    return replace(told, details=details)


def _look_away(future: asyncio.Future[Any]) -> None:
    """Nobody waits for this; an error is in the health."""
    if not future.cancelled():
        future.exception()


def _nothing(ledger: Ledger) -> None:
    """Let everything before this be done."""
    del ledger


def _open(ledger: Ledger) -> dict[str, bool]:
    """Open it; answer how the last service stopped, where there is only one at a time."""
    ledger.open()
    return {} if ledger.shared else {"clean_stop": ledger.ended_cleanly()}


def _seal(ledger: Ledger) -> str:
    return ledger.tend(seal=True) or ledger.newest_note()


def _answer(future: asyncio.Future[Any], answer: object) -> None:
    if not future.done():
        future.set_result(answer)


def _fail(future: asyncio.Future[Any], problem: Exception) -> None:
    if not future.done():
        future.set_exception(problem)
