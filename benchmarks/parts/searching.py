"""G9: a page of 50 from a long log against one from a log of 10,000 events, by every shape of question: p95.

No question may skip rows by OFFSET, sort what it finds, or read a table from end to end; SQLite's own plans tell.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Final

from benchmarks.bulk import PLACES, SUBJECTS, BulkLog, bulk_log
from benchmarks.goals import Outcome, Row
from benchmarks.plots import Plot
from benchmarks.profiles import Profile
from broker.audit.stores import Filters, Position
from broker.audit.stores.sqlite_reader import SqliteReader, query_of

SHORT: Final = 10_000
BETWEEN: Final = (100_000, 1_000_000)
PAGE: Final = 50
_QUESTIONS: Final = 60
"""Of each shape in a round."""
_DAY: Final = timedelta(days=1) // timedelta(milliseconds=1)
_SHOWN: Final = ("newest", "next page", "actor and instance", "protocol", "words", "words and actor")


class Asked:
    """Questions of every shape about one log, the same ones for every log of these people and instances."""

    def __init__(self, log: BulkLog) -> None:
        self.reader = SqliteReader(log.database, patience=60)
        [newest] = self.reader.search(Filters(), 1, None)
        self._end = newest.time
        self._size = newest.record.idx + 1
        [first] = self.reader.records(1, 2)
        found = self.reader.find(first.idx)
        assert found is not None
        self._begin = found.time

    def shapes(self) -> Mapping[str, Callable[[int], tuple[Filters, Position | None]]]:
        """Answer, by name, what makes the nth question of a shape."""
        return {
            "newest": lambda _: (Filters(), None),
            "next page": lambda n: (Filters(), self._somewhere(n)),
            "actor": lambda n: (Filters(actor=_actor(n)), None),
            "actor, next page": lambda n: (Filters(actor=_actor(n)), self._somewhere(n)),
            "instance": lambda n: (Filters(instance=_instance(n)), None),
            "actor and instance": lambda n: (Filters(actor=_actor(n), instance=_instance(n // 3)), None),
            "event": lambda n: (Filters(event=_EVENTS[n % 3]), None),
            "actor and event": lambda n: (Filters(actor=_actor(n), event=_EVENTS[n % 3]), None),
            "outcome": lambda n: (Filters(outcome=("success", "denied")[n % 2]), None),
            "instance and outcome": lambda n: (Filters(instance=_instance(n), outcome="denied"), None),
            "protocol": lambda n: (Filters(protocol=("ssh", "rdp")[n % 2]), None),
            "request": lambda n: (Filters(request_id=f"{n * self._size // 150:032x}"), None),
            "time": lambda n: (Filters(since=self._somewhere(n).time - _DAY, until=self._somewhere(n).time), None),
            "account": lambda _: (Filters(accounts=frozenset({"main"})), None),
            "all accounts": lambda n: (Filters(accounts=frozenset({"main", "other", ""})), self._somewhere(n)),
            "account and event": lambda n: (Filters(accounts=frozenset({"other"}), event=_EVENTS[n % 3]), None),
            "words": lambda n: (Filters(text=_WORDS[n % len(_WORDS)]), None),
            "words and actor": lambda n: (Filters(text=_WORDS[n % len(_WORDS)], actor=_actor(n)), None),
        }

    def _somewhere(self, n: int) -> Position:
        """Answer a place in the newer half of the log, where a page might have ended."""
        share = 0.5 + (n * 7 % 40) / 100
        return Position(self._begin + int((self._end - self._begin) * share), int(self._size * share))

    def seconds(self, shape: str, n: int) -> float:
        """Ask; answer how long it took, and refuse an answer that shows nothing."""
        filters, after = self.shapes()[shape](n)
        started = perf_counter()
        found = self.reader.search(filters, PAGE + 1, after)
        took = perf_counter() - started
        assert found, (shape, n)
        return took


_EVENTS: Final = ("credential.requested", "credential.issued", "credential.denied")
_WORDS: Final = (("kernel",), ("disk", "full"), ("customer", "ticket"))


async def measure(_: Path, profile: Profile) -> Outcome:
    """Ask all logs in turns."""
    return await asyncio.to_thread(_measure, profile)


def _measure(profile: Profile) -> Outcome:
    sizes = [SHORT, *(size for size in BETWEEN if SHORT < size < profile.events), profile.events]
    logs = [bulk_log(size, words=True) for size in sizes]
    asked = [Asked(log) for log in logs]
    _check_plans(logs[-1], asked[-1])
    rounds = [{shape: _p95(asked, shape) for shape in asked[0].shapes()} for _ in range(profile.rounds)]
    rows = [_row(shape, [each[shape] for each in rounds], profile.events) for shape in rounds[0]]
    lines = {
        shape: [(size, median(each[shape][n] for each in rounds) * 1000) for n, size in enumerate(sizes)]
        for shape in _SHOWN
    }
    plot = Plot(
        name="search-by-events",
        title=f"A page of {PAGE} from the audit log, by its length: p95",
        across="events",
        up="milliseconds",
        lines=lines,
        logarithmic_across=True,
        logarithmic_up=True,
    )
    return Outcome(rows, [plot])


def _p95(asked: Sequence[Asked], shape: str) -> list[float]:
    """Ask the same of every log in turns; answer how long most answers took at most, for each."""
    times = [[log.seconds(shape, n) for log in asked] for n in range(_QUESTIONS)]
    return [quantiles(column, n=20)[-1] for column in zip(*times, strict=True)]


def _row(shape: str, rounds: Sequence[Sequence[float]], events: int) -> Row:
    short, long = (median(each[n] for each in rounds) * 1000 for n in (0, -1))
    target = 1.3 if shape == "next page" else 2
    note = f"{long:.2f} ms of {events:,} events against {short:.2f} ms of {SHORT:,}"
    values = [each[-1] / each[0] for each in rounds]
    return Row(f"G9 {shape}", values, target, more_is_better=False, note=note)


def _check_plans(log: BulkLog, asked: Asked) -> None:
    """Refuse a question that skips, sorts, or reads a table without an index."""
    with closing(sqlite3.connect(f"{log.database.as_uri()}?mode=ro", uri=True)) as connection:
        for shape, question in asked.shapes().items():
            filters, after = question(0)
            if filters.text:
                continue  # by an index of its own, and by index of the event
            query, values = query_of(filters, PAGE + 1, after)
            plan = [row[-1] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", values)]
            assert not list(_dear(plan)), (shape, plan)
            assert "OFFSET" not in query.upper(), query


def _dear(plan: Sequence[str]) -> Iterator[str]:
    """Answer the steps whose cost grows with the log. What is sorted in a subquery's answer is a page at most."""
    for before, step in pairwise(["", *plan]):
        if step.startswith("SCAN events") and "USING" not in step:
            yield step
        if "TEMP B-TREE" in step and not before.startswith("SCAN (subquery"):
            yield step


def _actor(n: int) -> str:
    return f"corp/{SUBJECTS[n % len(SUBJECTS)]}"


def _instance(n: int) -> str:
    place = PLACES[n % len(PLACES)]
    return f"{place.account}/{place.region}/{place.name}"
