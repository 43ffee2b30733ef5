"""What happened lately, counted: credentials by day and outcome, the busiest instances and people."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, Protocol

from broker.audit.stores import Tally
from broker.errors import Overloaded
from broker.model import Clock

DAYS: Final = 14
OUTCOMES: Final = ("credential.issued", "credential.denied", "credential.failed")
_BUSIEST: Final = 8
_REMEMBERED_DAYS: Final = 64


class Counting(Protocol):
    """Counts events of the log."""

    async def tally(self, events: Sequence[str], since: int, until: int) -> Sequence[Tally]:
        """Answer how many there were, by account, name, actor and instance."""
        ...


@dataclass(frozen=True, slots=True)
class Day:
    """What happened on one day (UTC)."""

    date: date
    issued: int = 0
    denied: int = 0
    failed: int = 0
    known: bool = True
    """False when there were too many events to count them in time."""

    @property
    def total(self) -> int:
        """How many were asked for."""
        return self.issued + self.denied + self.failed


@dataclass(frozen=True, slots=True)
class Lately:
    """What happened on the last days, the oldest first, and where and by whom most credentials were got."""

    days: Sequence[Day]
    instances: Sequence[tuple[str, int]]
    people: Sequence[tuple[str, int]]

    @property
    def most(self) -> int:
        """How many were asked for on the busiest day; at least 1."""
        return max(1, *(day.total for day in self.days))


class Counts:
    """Counts each day once: what is over does not change any more."""

    def __init__(self, log: Counting, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._over: OrderedDict[date, Sequence[Tally]] = OrderedDict()

    async def lately(self, accounts: frozenset[str] | None) -> Lately:
        """Answer the last days, of these accounts alone (None: of all)."""
        today = self._clock().astimezone(UTC).date()
        counted = {day: await self._of(day, today) for day in (today - timedelta(n) for n in range(DAYS - 1, -1, -1))}
        seen = {day: None if found is None else _seen(found, accounts) for day, found in counted.items()}
        issued = [each for found in seen.values() for each in found or () if each.event == OUTCOMES[0]]
        return Lately(
            [_day(day, found) for day, found in seen.items()],
            _busiest((each.instance, each.events) for each in issued),
            _busiest((each.actor, each.events) for each in issued),
        )

    async def _of(self, day: date, today: date) -> Sequence[Tally] | None:
        if day in self._over:
            return self._over[day]
        begin = datetime.combine(day, time(), UTC)
        since, until = (int(moment.timestamp() * 1000) for moment in (begin, begin + timedelta(days=1)))
        try:
            found = await self._log.tally(OUTCOMES, since, until)
        except Overloaded:
            return None
        if day < today:
            self._over[day] = found
            while len(self._over) > _REMEMBERED_DAYS:
                self._over.popitem(last=False)
        return found


def _seen(found: Iterable[Tally], accounts: frozenset[str] | None) -> list[Tally]:
    return [each for each in found if accounts is None or each.account in accounts]


def _day(day: date, found: Sequence[Tally] | None) -> Day:
    if found is None:
        return Day(day, known=False)
    counts: Counter[str] = Counter()
    for each in found:
        counts[each.event] += each.events
    issued, denied, failed = (counts[event] for event in OUTCOMES)
    return Day(day, issued, denied, failed)


def _busiest(counted: Iterable[tuple[str, int]]) -> Sequence[tuple[str, int]]:
    sums: Counter[str] = Counter()
    for name, count in counted:
        sums[name] += count
    return sums.most_common(_BUSIEST)
