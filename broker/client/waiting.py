"""Waiting for what is not ready yet: exactly as long as the service says, and no longer than the caller wants."""

from __future__ import annotations

import time

from broker.client.errors import BrokerProblem, HostKeysUnknown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")


def patiently(
    ask: Callable[[], T],
    seconds: float,
    notice: Callable[[str], None],
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> T:
    """Ask again after every refusal that carries `Retry-After`, while the next attempt still fits into `seconds`.

    Raises:
        BrokerProblem, HostKeysUnknown: the last refusal, as soon as waiting does not help or does not fit.
    """
    deadline = clock() + seconds
    while True:
        try:
            return ask()
        except (BrokerProblem, HostKeysUnknown) as problem:
            if problem.retry_after is None:
                raise
            pause = max(problem.retry_after, 1)
            if clock() + pause > deadline:
                raise
            notice(f"{problem.detail} (trying again in {pause} s)")
            sleep(pause)
