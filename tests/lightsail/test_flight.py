from __future__ import annotations

import asyncio

import pytest

from broker.errors import UpstreamError
from broker.lightsail.flight import both


class Job:
    """Waits for ever; knows whether it was ended."""

    def __init__(self) -> None:
        self.ended = False

    async def run(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.ended = True


async def answer(value: int) -> int:
    await asyncio.sleep(0)
    return value


async def fail() -> None:
    await asyncio.sleep(0)
    raise UpstreamError("no")


async def test_two_jobs_answer_together() -> None:
    assert await both(answer(1), answer(2)) == (1, 2)


async def test_a_failure_ends_the_other_job_before_it_goes_on() -> None:
    job = Job()
    with pytest.raises(UpstreamError):
        await both(job.run(), fail())
    assert job.ended


async def test_two_failures_are_one_error() -> None:
    with pytest.raises(UpstreamError):
        await both(fail(), fail())


async def test_who_gives_up_waiting_ends_both_jobs() -> None:
    jobs = Job(), Job()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await both(jobs[0].run(), jobs[1].run())
    assert all(job.ended for job in jobs)
