"""Whether witnesses have seen the newest checkpoint that was kept elsewhere, and when. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from broker.audit.anchors.cosignatures import WitnessKey
from broker.audit.checkpoints import BadSignature, CheckpointError, unverified
from broker.audit.findings import Finding, Report


class Seen(NamedTuple):
    """That a witness cosigned the checkpoint of so many events at a time; None when it did not."""

    witness: str
    size: int
    time: datetime | None


def seen_by(witnesses: Sequence[WitnessKey], notes: Sequence[str]) -> list[Seen]:
    """Answer for each witness when it cosigned the newest of these notes; the same checkpoint may be there often."""
    size = max(map(_size, notes), default=-1)
    newest = [note for note in notes if _size(note) == size]
    return [Seen(witness.name, size, _time(witness, newest)) for witness in witnesses]


def judged(report: Report, seen: Sequence[Seen]) -> Report:
    """Answer the report with a finding for each witness that should have cosigned and did not."""
    missing = tuple(
        Finding("no_cosignature", each.size, f"the newest checkpoint kept elsewhere is not cosigned by {each.witness}")
        for each in seen
        if each.time is None
    )
    return replace(report, findings=(*report.findings, *missing))


def _size(note: str) -> int:
    try:
        return unverified(note).size
    except CheckpointError:
        return -1


def _time(witness: WitnessKey, notes: Sequence[str]) -> datetime | None:
    times = []
    for note in notes:
        with suppress(BadSignature):
            times.append(witness.time_on(note))
    return max(times, default=None)
