import contextlib

import pytest

from broker.errors import BrokerError, Denied, InstanceNotRunning, UpstreamError, UpstreamUnavailable
from broker.lightsail.breaker import FAILURES, OPEN_SECONDS, Breaker


class Stopwatch:
    """Monotonic seconds that stand until they are moved."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def fail(breaker: Breaker, error: BrokerError) -> None:
    with contextlib.suppress(type(error)), breaker.call():
        raise error


def is_open(breaker: Breaker) -> bool:
    try:
        with breaker.call():
            return False
    except UpstreamUnavailable as refusal:
        return refusal.retry_after is not None


def opened(now: Stopwatch) -> Breaker:
    breaker = Breaker(10, now)
    for _ in range(FAILURES):
        fail(breaker, UpstreamUnavailable("down"))
    return breaker


def test_outages_in_a_row_open_it() -> None:
    assert is_open(opened(Stopwatch()))


@pytest.mark.parametrize(
    "error",
    [
        UpstreamUnavailable("slow down", upstream_code="ThrottlingException"),
        UpstreamUnavailable("old keys", upstream_code="ExpiredTokenException"),
        UpstreamError("refused", upstream_code="AccessDeniedException"),
        InstanceNotRunning("stopped"),
        Denied("gone"),
    ],
)
def test_what_is_no_outage_never_opens_it(error: BrokerError) -> None:
    breaker = Breaker(10, Stopwatch())
    for _ in range(3 * FAILURES):
        fail(breaker, error)
    assert not is_open(breaker)


def test_an_answer_in_between_starts_the_count_anew() -> None:
    breaker = Breaker(10, Stopwatch())
    for _ in range(FAILURES):
        for _ in range(FAILURES - 1):
            fail(breaker, UpstreamUnavailable("down", upstream_code="503"))
        assert not is_open(breaker)


def test_after_a_while_one_call_finds_out_and_the_others_wait() -> None:
    now = Stopwatch()
    breaker = opened(now)
    now.seconds += OPEN_SECONDS + 0.1
    with breaker.call():
        assert is_open(breaker)
    assert not is_open(breaker)


def test_a_trial_that_fails_opens_it_again() -> None:
    now = Stopwatch()
    breaker = opened(now)
    now.seconds += OPEN_SECONDS + 0.1
    fail(breaker, UpstreamUnavailable("down"))
    assert is_open(breaker)


def test_a_trial_that_is_given_up_is_followed_by_another() -> None:
    now = Stopwatch()
    breaker = opened(now)
    now.seconds += OPEN_SECONDS + 0.1
    with contextlib.suppress(KeyboardInterrupt), breaker.call():
        raise KeyboardInterrupt
    assert is_open(breaker)
    now.seconds += OPEN_SECONDS + 0.1
    assert not is_open(breaker)


def test_only_so_many_calls_are_let_in_at_once() -> None:
    breaker = Breaker(2, Stopwatch())
    with breaker.call(), breaker.call():
        assert is_open(breaker)
    assert not is_open(breaker)
