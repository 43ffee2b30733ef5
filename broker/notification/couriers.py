"""A courier follows the audit log for one receiver: what was not told yet, in order, and then notes how far it came."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Protocol

import structlog

from broker.audit.leaves import parse
from broker.errors import BrokerError
from broker.notification.lines import Line
from broker.outbound.notices import DENIED_BURST, Burst, Bursts, Told, notices

_CHUNK: Final = 128
"""So many events are read at once."""
_LAST_NOTE: Final = 1.0
"""So many seconds a stop waits for the note of how far the courier has come."""
_LOOK_BACK: Final = 10_000
"""So many older events are looked at for a burst of denials that had begun before this courier did."""

_log = structlog.get_logger("broker.notify")


class Log(Protocol):
    """The audit log, as far as it keeps who follows it."""

    async def claim(self, follower: str, seconds: float) -> int | None:
        """Keep a follower to this process for so long; answer its position, or None while another has it."""
        ...

    async def advance(self, follower: str, position: int) -> None:
        """Note durably how far a claimed follower has come."""
        ...


class Record(Protocol):
    """One event as it lies in the log."""

    @property
    def idx(self) -> int:
        """Its index."""
        ...

    @property
    def leaf_hash(self) -> bytes:
        """The hash of its bytes."""
        ...

    @property
    def leaf(self) -> bytes:
        """Its canonical JSON."""
        ...


class Events(Protocol):
    """The events of the log."""

    async def records(self, first: int, end: int) -> Sequence[Record]:
        """Answer those from `first` up to, not including, `end`, in order; those that were pruned are left out."""
        ...

    async def size(self) -> int:
        """Answer how many there are."""
        ...


def follower_of(receiver: str) -> str:
    """Answer the name under which a receiver follows the log."""
    return f"webhook:{receiver}"


class Courier:
    """Tells one receiver what the log holds for it. Among several processes, the one that holds the claim does so."""

    def __init__(self, line: Line, log: Log, events: Events, *, origin: str, burst: Burst) -> None:
        self.name = line.receiver.name
        self._follower = follower_of(self.name)
        self._line = line
        self._log = log
        self._events = events
        self._origin = origin
        self._rule = burst
        self._bursts = Bursts(burst)
        self._position: int | None = None
        """As the log has it; None while we do not know, or another process follows."""
        self._told = 0
        """What comes next; not below the position."""
        self._held_until = self._noted_at = 0.0
        self._hindrance = ""

    @property
    def trouble(self) -> str:
        """Why the receiver is not told what there is to tell; empty while all is well."""
        return self._line.trouble or ("the log cannot be followed" if self._hindrance else "")

    async def run(self) -> None:
        """Follow the log until cancelled, or until the receiver wants no more."""
        try:
            while not self._line.gone:
                pause = await self._turn()
                await asyncio.sleep(pause)
        finally:
            with suppress(BrokerError, TimeoutError):  # what is not noted is told again, no more
                async with asyncio.timeout(_LAST_NOTE):
                    await self._note()

    async def _turn(self) -> float:
        """Tell what there is, if it is ours to tell; answer when to look again."""
        try:
            mine = await self._begin()
            if mine:
                await self._follow()
            self._hindered("")
        except BrokerError as problem:
            self._hindered(problem.cause or problem.detail)
        except Exception as problem:  # noqa: BLE001 - a courier that ended silently would tell nobody anything
            self._hindered(type(problem).__name__)
        else:
            return self._line.pace.look if mine else self._line.pace.claim / 4
        return self._line.pace.look

    def _hindered(self, why: str) -> None:
        if why:
            self._position = None
        if why and not self._hindrance:
            _log.error("the audit log cannot be followed for a receiver", receiver=self.name, detail=why)
        self._hindrance = why

    async def _begin(self) -> bool:
        """Find out where to go on; False while another process follows. A new receiver is told what comes from now."""
        if self._position is None:
            position = await self._claim()
            if position == 0:
                position = await self._events.size()
                await self._log.advance(self._follower, position)
            if position is not None:
                await self._look_back(position)
                self._told, self._noted_at = position, asyncio.get_running_loop().time()
            self._position = position
        return self._position is not None

    async def _claim(self) -> int | None:
        before = asyncio.get_running_loop().time()
        position = await self._log.claim(self._follower, self._line.pace.claim)
        self._held_until = before + self._line.pace.claim
        return position

    async def _keep(self) -> bool:
        """Renew the claim when half of it is over; False when another process has come between."""
        if asyncio.get_running_loop().time() < self._held_until - self._line.pace.claim / 2:
            return True
        if await self._claim() != self._position:
            self._position = None
        return self._position is not None

    async def _look_back(self, position: int) -> None:
        """Learn from the events before which bursts of denials are under way."""
        self._bursts = Bursts(self._rule)
        if self._line.receiver.selection.wants(DENIED_BURST):
            for first in range(max(0, position - _LOOK_BACK), position, _CHUNK):
                for record in await self._events.records(first, min(first + _CHUNK, position)):
                    self._bursts.take(record.idx, parse(record.leaf))

    async def _follow(self) -> None:
        """Tell everything that is there now."""
        while self._position is not None and await self._keep():
            end = self._told + _CHUNK
            records = await self._events.records(self._told, end)
            if not records and end > await self._events.size():
                await self._note()
                return
            for record in records:
                if not await self._tell(record):
                    return
            # All of the chunk may have been pruned: then there is no record, but the log goes on behind it.
            self._told = records[-1].idx + 1 if records else end

    async def _tell(self, record: Record) -> bool:
        event = Told(self._origin, record.idx, record.leaf_hash, parse(record.leaf))
        wanted = notices(event, self._line.receiver.selection, self._bursts)
        for notice in wanted:
            if not await self._line.deliver(notice, self._keep):
                return False
        self._told = record.idx + 1
        if asyncio.get_running_loop().time() - self._noted_at >= self._line.pace.note:
            await self._note()
        return True

    async def _note(self) -> None:
        """Note how far we have come. Each note is a commit beside those of the service, so there are not too many."""
        if self._position not in {None, self._told}:
            await self._log.advance(self._follower, self._told)
            self._position = self._told
            self._noted_at = asyncio.get_running_loop().time()
