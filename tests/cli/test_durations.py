from argparse import ArgumentTypeError

import pytest

from broker.cli.durations import seconds


@pytest.mark.parametrize(
    ("text", "value"), [("90s", 90), ("5m", 300), ("1h30m", 5400), ("2d", 172_800), ("0s", 0), ("1d1h1m1s", 90_061)]
)
def test_a_duration_is_read_into_seconds(text: str, value: int) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "1.5h", "-5m", "5M", "30m1h", "5m\n", "٣s", "9999999s", "1h1h"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="1h30m"):
        seconds(text)
