"""Budgets: how many credentials in a minute, and how many different instances in an hour, one caller is issued.

They are counted from the log, so that several brokers keep to one budget and a restart forgets nothing; what is on its
way to the log in this process is counted beside it. (Of what two brokers write at the same moment, neither knows.)
Where no other process writes the log, it is read once for each caller, and counted along from then on.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Final, Protocol

from broker.errors import BudgetExhausted
from broker.issuing.rooms import Ledger
from broker.model import Clock, Event

COUNTED: Final = "credential.requested"
_MINUTE: Final = 60_000
_HOUR: Final = 3_600_000
_SKEW: Final = 60_000
"""So far apart the clocks of several brokers may be: what is new in the log may be older by so many ms."""
_REMEMBERED_CALLERS: Final = 10_000


class Issues(Protocol):
    """The log, as far as it is counted."""

    async def asked_since(self, actor: str, event: str, since: int, after: int) -> Sequence[tuple[int, int, str, str]]:
        """Answer a caller's events of one name from a time on and after an index, by index; raises AuditUnavailable.

        Each as its index, time (ms since 1970), instance and request id.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much is too much for one caller; 0 is no limit."""

    issues_per_minute: int = 0
    instances_per_hour: int = 0


@dataclass(slots=True)
class _Account:
    """What is known of one caller: what the log says, and what is on its way there, by request id. Times are ms."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    minute: deque[int] = field(default_factory=deque)
    """When something was issued in the last minute."""
    hour: OrderedDict[str, int] = field(default_factory=OrderedDict)
    """When something was last issued for each instance in the last hour, the longest ago first."""
    underway: dict[str, str] = field(default_factory=dict)
    newest: int = -1
    newest_time: int = 0
    is_loaded: bool = False
    refused: bool = False

    def count(self, row: tuple[int, int, str, str]) -> None:
        """Take in what the log says."""
        self.newest, time, instance, request_id = row
        self.newest_time = time
        self.minute.append(time)
        self.hour[instance] = time
        self.hour.move_to_end(instance)
        self.underway.pop(request_id, None)

    def forget(self, now: int) -> None:
        """Let go of what is too long ago to count."""
        while self.minute and self.minute[0] <= now - _MINUTE:
            self.minute.popleft()
        while self.hour and next(iter(self.hour.values())) <= now - _HOUR:
            self.hour.popitem(last=False)


class Budgets:
    """Holds callers to their budgets, and writes down once that somebody ran into one."""

    def __init__(self, limits: Limits, issues: Issues, ledger: Ledger, clock: Clock, *, shared: bool) -> None:
        self._limits = limits
        self._issues = issues
        self._ledger = ledger
        self._clock = clock
        self._shared = shared
        self._accounts: OrderedDict[str, _Account] = OrderedDict()

    @asynccontextmanager
    async def spending(self, event: Event) -> AsyncIterator[None]:
        """Count the issue that `event` is about while it is on its way to the log.

        Raises:
            BudgetExhausted: it is one too many; says in how many seconds it would not be.
            AuditUnavailable: the log cannot be counted.
        """
        if not (self._limits.issues_per_minute or self._limits.instances_per_hour):
            yield
            return
        account = self._account(str(event.actor))
        async with account.turn:
            try:
                await self._check(account, str(event.actor), str(event.instance))
            except BudgetExhausted as spent:
                await self._tell(account, event, spent)
                raise
            account.refused = False
            account.underway[event.request_id] = str(event.instance)
        try:
            yield
            if not self._shared:
                account.count((account.newest, self._milliseconds(), str(event.instance), event.request_id))
        finally:
            account.underway.pop(event.request_id, None)

    def _milliseconds(self) -> int:
        return int(self._clock().timestamp() * 1000)

    def _account(self, actor: str) -> _Account:
        account = self._accounts.setdefault(actor, _Account())
        self._accounts.move_to_end(actor)
        if len(self._accounts) > _REMEMBERED_CALLERS:
            self._accounts.popitem(last=False)
        return account

    async def _check(self, account: _Account, actor: str, instance: str) -> None:
        now = self._milliseconds()
        if self._shared or not account.is_loaded:
            since = max(account.newest_time - _SKEW, now - _HOUR)
            for row in await self._issues.asked_since(actor, COUNTED, since, account.newest):
                account.count(row)
            account.is_loaded = True
        account.forget(now)
        self._hold(account, instance, now)

    def _hold(self, account: _Account, instance: str, now: int) -> None:
        limit = self._limits.issues_per_minute
        if limit and len(account.minute) + len(account.underway) >= limit:
            lately = [*account.minute, *(now for _ in account.underway)]
            raise _exhausted(f"{limit} credentials within a minute", lately[-limit] + _MINUTE - now)
        limit = self._limits.instances_per_hour
        if not limit or instance in account.hour:
            return
        newest = account.hour | dict.fromkeys(account.underway.values(), now)
        if instance not in newest and len(newest) >= limit:
            raise _exhausted(
                f"{limit} different instances within an hour", sorted(newest.values())[-limit] + _HOUR - now
            )

    async def _tell(self, account: _Account, event: Event, spent: BudgetExhausted) -> None:
        """Write down that a burst begins; what follows of it leaves its denials, and nothing more."""
        if account.refused:
            return
        exhausted = replace(event, event="budget.exhausted", outcome="denied", error=spent.code, lease_id="")
        await self._ledger.append(replace(exhausted, details={"budget": spent.cause}))
        account.refused = True


def _exhausted(what: str, wait_ms: int) -> BudgetExhausted:
    seconds = max(1, ceil(wait_ms / 1000))
    return BudgetExhausted(
        what,
        detail=f"You were issued {what}, which is all that one caller gets.",
        next_step=f"Wait {_spoken(seconds)}, or use what you have: a credential serves many connections.",
        retry_after=seconds,
    )


def _spoken(seconds: int) -> str:
    return f"{seconds} seconds" if seconds < 120 else f"{ceil(seconds / 60)} minutes"  # noqa: PLR2004 - two minutes
