"""Who was in when: leases as bars, a lane for each instance of a person, or for each person of an instance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

SPANS: Final = {
    "hour": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "month": timedelta(days=30),
}
_TICKS: Final = 6


@dataclass(frozen=True, slots=True)
class Bar:
    """One lease: where it begins and how long it is, in percent of the span, and the event that issued it."""

    left: float
    width: float
    index: int
    begin: datetime
    end: datetime
    protocol: str
    other: str


@dataclass(frozen=True, slots=True)
class Picture:
    """Lanes by their names, over a span of time, with marks along it (percent and time)."""

    since: datetime
    until: datetime
    lanes: Mapping[str, Sequence[Bar]]
    ticks: Sequence[tuple[float, datetime]]
    now: float | None
    """Where now is, in percent; None when it is not in the picture."""


def picture(events: Iterable[Mapping[str, Any]], since: datetime, until: datetime, lane: str, now: datetime) -> Picture:
    """Draw the leases that these `credential.issued` events began.

    Args:
        events: what the log says of them.
        since: where the picture begins.
        until: where it ends.
        lane: what has a lane of its own, `instance` or `actor`.
        now: the time.
    """
    lanes: dict[str, list[Bar]] = {}
    for event in events:
        begin, end = datetime.fromisoformat(event["time"]), _end(event)
        if begin < until and end > since:
            names = {"instance": _instance(event), "actor": _actor(event)}
            name = names.pop(lane)
            lanes.setdefault(name, []).append(_bar(event, begin, end, since, until, *names.values()))
    step = (until - since) / _TICKS
    ticks = [(100 * n / _TICKS, since + n * step) for n in range(_TICKS + 1)]
    drawn = {name: sorted(lanes[name], key=lambda bar: bar.begin) for name in sorted(lanes)}
    return Picture(since, until, drawn, ticks, (now - since) / (until - since) * 100 if since < now < until else None)


def _bar(event: Mapping[str, Any], begin: datetime, end: datetime, since: datetime, until: datetime, other: str) -> Bar:
    whole = (until - since).total_seconds()
    left = max(0.0, (begin - since).total_seconds() / whole * 100)
    right = min(100.0, (end - since).total_seconds() / whole * 100)
    return Bar(round(left, 3), round(max(right - left, 0.4), 3), event["index"], begin, end, event["protocol"], other)


def _end(event: Mapping[str, Any]) -> datetime:
    text = event.get("expires_at") or event["time"]
    return datetime.fromisoformat(text).astimezone(UTC)


def _instance(event: Mapping[str, Any]) -> str:
    place = event["instance"]
    return f"{place['account']}/{place['region']}/{place['name']}"


def _actor(event: Mapping[str, Any]) -> str:
    return f"{event['actor']['issuer']}/{event['actor']['subject']}"
