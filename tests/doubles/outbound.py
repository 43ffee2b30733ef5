"""Doubles of the world outside: a receiver of webhooks on a real socket, and resolvers that say what they are told."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from socket import AddressFamily
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.test_utils import TestServer
from standardwebhooks.webhooks import Webhook

from broker.model import Secret
from broker.outbound.notices import Selection
from broker.outbound.webhooks import Receiver

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


@dataclass
class Inbox:
    """A receiver that checks every signature with the reference library, and answers what the test tells it to.

    `answers` are the statuses of the next requests; when they are used up it is 200. While `open` is clear it hangs.
    """

    url: str = ""
    answers: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    received: list[dict[str, Any]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    taken: list[dict[str, Any]] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.open.set()

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        Webhook(SECRET).verify(body, dict(request.headers))
        self.received.append(json.loads(body))
        self.ids.append(request.headers["webhook-id"])
        await self.open.wait()
        status = self.answers.pop(0) if self.answers else 200
        if status // 100 == 2:
            self.taken.append(json.loads(body))
        return web.Response(status=status, headers=self.headers)

    def receiver(self, *patterns: str, name: str = "siem", **tags: str) -> Receiver:
        """Answer the settings by which it is told."""
        return Receiver(name, self.url, Secret(SECRET), Selection(patterns, tags), allow_private=True)

    @property
    def indices(self) -> list[int]:
        """The events that it took notice of, in the order in which they came."""
        return [body["data"]["index"] for body in self.taken]


@asynccontextmanager
async def inbox() -> AsyncIterator[Inbox]:
    """Open a receiver on a loopback address."""
    opened = Inbox()
    app = web.Application()
    app.router.add_post("/{path:.*}", opened.handle)
    async with TestServer(app, host="127.0.0.1") as server:
        opened.url = f"http://127.0.0.1:{server.port}/notices"
        try:
            yield opened
        finally:
            opened.open.set()


class Resolver(AbstractResolver):
    """Answers these addresses for every name: one list for each time that it is asked, the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: AddressFamily = AddressFamily.AF_INET
    ) -> list[ResolveResult]:
        del family
        found = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=AddressFamily.AF_INET6 if ":" in address else AddressFamily.AF_INET,
                proto=0,
                flags=0,
            )
            for address in found
        ]

    async def close(self) -> None:
        pass


async def until(condition: Callable[[], object]) -> None:
    """Wait for what happens elsewhere."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is awaited happens in another task or process
            await asyncio.sleep(0.005)
