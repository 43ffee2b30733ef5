"""Refused tokens are counted into the log once a minute, and what is left when the service stops."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping

from broker.housekeeping import ended, record_failures
from tests.doubles.issuing import Diary, DiaryLedger


class CountedFailures:
    """Hands out the counts that it was given, once."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def drain_failures(self) -> Mapping[str, int]:
        drained, self.counts = self.counts, Counter()
        return dict(drained)


async def test_counts_are_recorded_by_cause_and_silence_is_not() -> None:
    failures, diary = CountedFailures(), Diary()
    ledger = DiaryLedger(diary)
    chore = asyncio.create_task(record_failures(failures, ledger, every=0.01))
    failures.counts.update(["expired", "expired", "bad_signature"])
    await asyncio.sleep(0.1)
    assert [event.details for event in ledger.events] == [{"counts": {"expired": 2, "bad_signature": 1}}]
    await ended(chore)
    assert len(ledger.events) == 1


async def test_what_was_counted_since_is_recorded_at_the_stop() -> None:
    failures, diary = CountedFailures(), Diary()
    ledger = DiaryLedger(diary)
    chore = asyncio.create_task(record_failures(failures, ledger, every=60))
    await asyncio.sleep(0)
    failures.counts.update(["unknown_key"])
    await ended(chore)
    assert [event.details for event in ledger.events] == [{"counts": {"unknown_key": 1}}]
