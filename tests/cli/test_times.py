from datetime import datetime, timedelta, timezone

import pytest

from broker.cli.times import clock

NOW = datetime(2026, 3, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2026-03-01T12:13:00.000Z", "14:13"),
        ("2026-02-28T22:00:00Z", "00:00"),
        ("2026-02-28T21:59:59.999Z", "2026-02-28 23:59"),
        ("2026-03-01T22:00:00Z", "2026-03-02 00:00"),
        ("", ""),
        ("soon", "soon"),
    ],
)
def test_a_time_is_told_by_the_clock_here_and_the_date_only_of_another_day(text: str, shown: str) -> None:
    assert clock(text, NOW) == shown
