"""What the system calls themselves say: the sync of the event comes first, then the answer that carries the secret."""

from __future__ import annotations

import asyncio
import re

import pytest

from tests.crash.ground import Ground
from tests.crash.ordering import Order, order_of, wrongs_of_order

pytestmark = [pytest.mark.real("strace"), pytest.mark.asyncio(loop_scope="module")]

INSTANCES = ("web-1", "web-2", "web-3", "web-4", "web-5", "win-1")
WATCHED = "trace=pwrite64,fdatasync,sendto,sendmsg,writev,write"


async def traced(ground: Ground, *options: str) -> list[str]:
    """Let six people ask at once, without TLS so that the answers can be seen; answer the trace."""
    folder = ground.copy()
    settings = folder / "broker.toml"
    settings.write_text(re.sub(r"^tls_.*\n", "", settings.read_text(), flags=re.MULTILINE))
    async with ground.serving(folder) as service:
        async with service.attached("-y", "-ttt", "-s", "9000", "-e", WATCHED, *options):
            replies = await service.ask([INSTANCES])
        assert {reply.status for reply in replies} == {201}
        assert await service.stop() == 0
    return await asyncio.to_thread(lambda: (folder / "trace").read_text().splitlines())


async def test_every_secret_is_sent_after_the_sync_of_its_event(ground: Ground) -> None:
    order = order_of(await traced(ground))
    assert len(order.sends) == len(INSTANCES)
    assert wrongs_of_order(order) == []


async def test_a_sync_that_did_not_happen_would_be_noticed(ground: Ground) -> None:
    lied_to = order_of(await traced(ground, "-e", "inject=fdatasync:retval=0"))
    assert len(wrongs_of_order(lied_to)) == len(INSTANCES)


async def test_an_answer_that_came_too_early_would_be_noticed(ground: Ground) -> None:
    order = order_of(await traced(ground))
    request_id, sent = min(order.sends.items(), key=lambda send: send[1])
    early = Order(order.durable, {**order.sends, request_id: order.durable[request_id] - 1})
    assert sent > order.durable[request_id]
    assert wrongs_of_order(early) == [f"{request_id}: sent before its event was synced"]
