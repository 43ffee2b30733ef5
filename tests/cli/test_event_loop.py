"""Names that are not answered: nothing else waits for them, a stop neither."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from broker.cli.event_loop import ServiceLoop

MANY = 100


class Resolver:
    """Answers one name; the others hang until the end of the test."""

    def __init__(self) -> None:
        self.end = threading.Event()
        self.asked = 0

    def __call__(self, host: str, port: int, *_: int) -> list[tuple[Any, ...]]:
        self.asked += 1
        if host == "well":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
        if host == "nowhere":
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        self.end.wait(60)
        return []


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    resolver = Resolver()
    yield resolver
    resolver.end.set()


def test_a_dns_that_hangs_holds_up_neither_other_work_nor_other_names_nor_the_end(resolver: Resolver) -> None:
    async def work() -> list[tuple[Any, ...]]:
        loop = asyncio.get_running_loop()
        hanging = [asyncio.create_task(loop.getaddrinfo(f"region-{number}", 443)) for number in range(MANY)]
        async with asyncio.timeout(20):
            await asyncio.to_thread(lambda: None)
            found = await loop.getaddrinfo("well", 443)
        assert resolver.asked == MANY + 1
        assert not any(each.done() for each in hanging)
        return found

    with asyncio.Runner(loop_factory=lambda: ServiceLoop(resolver)) as runner:
        [(_, _, _, _, address)] = runner.run(work())
    assert address == ("127.0.0.1", 443)
    assert not resolver.end.is_set()


def test_a_name_that_is_not_there_is_an_error_to_whoever_asked_and_an_answer_to_nobody_is_none(
    resolver: Resolver,
) -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(socket.gaierror):
            await loop.getaddrinfo("nowhere", 443)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await loop.getaddrinfo("slow", 443)
        resolver.end.set()
        await asyncio.sleep(0.1)  # the answer comes, to nobody

    with asyncio.Runner(loop_factory=lambda: ServiceLoop(resolver)) as runner:
        runner.run(work())


def test_real_names_are_looked_up() -> None:
    async def work() -> set[str]:
        found = await asyncio.get_running_loop().getaddrinfo("localhost", 443, type=socket.SOCK_STREAM)
        return {str(address[0]) for *_, address in found}

    with asyncio.Runner(loop_factory=ServiceLoop) as runner:
        assert runner.run(work()) & {"127.0.0.1", "::1"}
