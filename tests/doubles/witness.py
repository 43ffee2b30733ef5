"""A small witness that keeps to C2SP tlog-witness: it cosigns a checkpoint only after it has checked the proof."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.audit.anchors.cosignatures import WitnessKey, statement
from broker.audit.checkpoints import BadSignature, Checkpoint, VerifierKey, unverified
from broker.audit.merkle import EMPTY_ROOT, verify_consistency
from broker.model import utc_now

NAME = "witness.example/w1"


def cosign(name: str, key: Ed25519PrivateKey, text: str, time: int) -> str:
    """Answer a signature line as tlog-cosignature has it."""
    public = WitnessKey(name, key.public_key().public_bytes_raw())
    blob = public.key_id + time.to_bytes(8) + key.sign(statement(time, text))
    return f"\u2014 {name} {base64.b64encode(blob).decode()}\n"


@dataclass
class Witness:
    """Knows one log. `latest` is what it has cosigned; `requests` are the old sizes that it was told.

    `refuse` is a status that it answers whatever it is asked; while `open` is clear it hangs.
    """

    log: VerifierKey
    clock: Callable[[], datetime] = utc_now
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    latest: Checkpoint | None = None
    requests: list[tuple[int, int]] = field(default_factory=list)
    refuse: int = 0
    forge: Ed25519PrivateKey | None = None
    url: str = ""
    open: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.open.set()

    @property
    def verifier(self) -> WitnessKey:
        """What clients pin."""
        return WitnessKey(NAME, self.key.public_key().public_bytes_raw())

    async def handle(self, request: web.Request) -> web.Response:
        """Answer `add-checkpoint`."""
        body = (await request.read()).decode()
        await self.open.wait()
        if self.refuse:
            return web.Response(status=self.refuse)
        head, _, note = body.partition("\n\n")
        first, *proof = head.split("\n")
        assert first.startswith("old ")
        return self._judge(int(first.removeprefix("old ")), [base64.b64decode(line) for line in proof], note)

    def _judge(self, old: int, proof: list[bytes], note: str) -> web.Response:
        claimed = unverified(note)
        self.requests.append((old, claimed.size))
        if claimed.origin != self.log.name:
            return web.Response(status=404)
        try:
            self.log.open(note)
        except BadSignature:
            return web.Response(status=403)
        if old > claimed.size:
            return web.Response(status=400)
        known = self.latest or Checkpoint(claimed.origin, 0, EMPTY_ROOT)
        if old != known.size or (old == claimed.size and claimed.root != known.root):
            return web.Response(status=409, text=f"{known.size}\n", content_type="text/x.tlog.size")
        if not (verify_consistency(old, claimed.size, known.root, claimed.root, proof) if old else not proof):
            return web.Response(status=422)
        self.latest = claimed
        lines = cosign(NAME, self.forge or self.key, claimed.text(), int(self.clock().timestamp()))
        return web.Response(text=cosign("other.example/w2", self.key, claimed.text(), 1) + lines)


@asynccontextmanager
async def serving(witness: Witness) -> AsyncIterator[Witness]:
    """Let it listen on a loopback address."""
    app = web.Application()
    app.router.add_post("/prefix/add-checkpoint", witness.handle)
    async with TestServer(app, host="127.0.0.1") as server:
        witness.url = f"http://127.0.0.1:{server.port}/prefix"
        try:
            yield witness
        finally:
            witness.open.set()
