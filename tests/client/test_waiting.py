from collections.abc import Callable

import pytest

from broker.client import BrokerProblem
from broker.client.waiting import patiently


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def clock(self) -> float:
        return self.now


def answers(*told: int | str | None) -> Callable[[], str]:
    """Refuse with each `Retry-After` in turn; a text is the answer."""
    remaining = list(told)

    def ask() -> str:
        following = remaining.pop(0)
        if isinstance(following, str):
            return following
        raise BrokerProblem(409, {"code": "password_not_ready", "detail": "Not yet."}, following)

    return ask


def wait(ask: Callable[[], str], seconds: float, time: Time, said: list[str] | None = None) -> str:
    notice = said.append if said is not None else lambda _: None
    return patiently(ask, seconds, notice, sleep=time.sleep, clock=time.clock)


def test_it_sleeps_as_it_was_told_and_says_so() -> None:
    time, said = Time(), list[str]()

    assert wait(answers(10, 15, "ready"), 60, time, said) == "ready"
    assert time.slept == [10, 15]
    assert said == ["Not yet. (trying again in 10 s)", "Not yet. (trying again in 15 s)"]


def test_it_does_not_wait_for_what_would_come_too_late() -> None:
    time = Time()
    with pytest.raises(BrokerProblem):
        wait(answers(10, 10, 10, "late"), 25, time)

    assert time.slept == [10, 10]


def test_a_pause_that_just_fits_is_taken() -> None:
    assert wait(answers(10, 15, "ready"), 25, Time()) == "ready"


def test_it_does_not_wait_where_waiting_does_not_help() -> None:
    time = Time()
    with pytest.raises(BrokerProblem):
        wait(answers(None, "never"), 60, time)

    assert not time.slept


def test_without_patience_it_asks_once() -> None:
    time = Time()
    with pytest.raises(BrokerProblem):
        wait(answers(1, "later"), 0, time)

    assert not time.slept


def test_a_pause_of_nothing_is_a_second() -> None:
    time = Time()
    with pytest.raises(BrokerProblem):
        wait(answers(*[0] * 9), 3, time)

    assert time.slept == [1, 1, 1]
