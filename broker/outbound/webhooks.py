"""Signed webhooks as Standard Webhooks has them (https://www.standardwebhooks.com): sign one notice, send it once."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from aiohttp.abc import AbstractResolver

from broker.model import Clock, Secret
from broker.outbound.http import TOTAL_SECONDS, Answer, SendingFailed, open_session, post
from broker.outbound.notices import Notice, Selection

_PREFIX: Final = "whsec_"
_KEY_BYTES: Final = range(24, 65)
_SHARED: Final = 0o077
_MAX_RETRY_AFTER: Final = 600


class BadSecret(Exception):
    """There is no signing secret where it should be. The message says where, and never what is there instead."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """Who is told: the address, the secret that signs, what is wanted, and whether it may be in a private network."""

    name: str
    url: str
    secret: Secret
    selection: Selection
    allow_private: bool = False


class Fate(Enum):
    """What became of an attempt."""

    TAKEN = "taken"
    FAILED = "failed"
    GONE = "gone"
    """The receiver does not want notices any more."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an attempt, in a word and in words, and how many seconds the receiver asked to be left alone."""

    fate: Fate
    detail: str
    retry_after: int = 0


def load_secret(source: str, environment: MutableMapping[str, str] = os.environ) -> Secret:
    """Read a signing secret from `file:PATH` or `env:NAME`: `whsec_` and 24 to 64 bytes in base64.

    It is removed from the environment once read.

    Raises:
        BadSecret: it is missing, its file is open to others, or it is none.
    """
    kind, _, where = source.partition(":")
    text = environment.pop(where, "") if kind == "env" else _private_text(Path(where))
    if not text:
        raise BadSecret(f"{where} holds no secret")
    secret = Secret(text.strip())
    try:
        length = len(_key(secret))
    except ValueError:
        length = 0
    if length not in _KEY_BYTES:
        raise BadSecret(f"{where} holds no signing secret: whsec_ and 24 to 64 random bytes in base64 are expected")
    return secret


def _private_text(path: Path) -> str:
    try:
        if path.stat().st_mode & _SHARED:
            raise BadSecret(f"{path} is open to others: chmod 600 it")
        return path.read_text("ascii")
    except UnicodeDecodeError:
        return ""
    except OSError as problem:
        raise BadSecret(f"{path}: {problem.strerror}") from None


def _key(secret: Secret) -> bytes:
    """Answer the bytes of a secret; raises ValueError when it is none."""
    text = secret.reveal()
    if not text.startswith(_PREFIX):
        raise ValueError("no whsec_")
    try:
        return base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("no base64") from None


def headers(secret: Secret, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Answer what goes with a body: its id, the time of this attempt in seconds since 1970, and its signature."""
    signed = hmac.digest(_key(secret), f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
    }


Send = Callable[[Notice], Awaitable[Outcome]]
"""Tries once to deliver a notice. Whatever happens is an outcome, not an error."""


@asynccontextmanager
async def connected(
    receiver: Receiver, clock: Clock, *, seconds: float = TOTAL_SECONDS, resolver: AbstractResolver | None = None
) -> AsyncIterator[Send]:
    """Answer how a receiver is sent something, each attempt within so many seconds, over connections of its own."""
    async with open_session(allow_private=receiver.allow_private, seconds=seconds, resolver=resolver) as session:

        async def send(notice: Notice) -> Outcome:
            body = notice.body()
            signed = headers(receiver.secret, notice.id, int(clock().timestamp()), body)
            try:
                return _judge(await post(session, receiver.url, body, signed))
            except SendingFailed as problem:
                return Outcome(Fate.FAILED, str(problem))

        yield send


def _judge(answer: Answer) -> Outcome:
    """2xx is taken, 410 is goodbye; anything else, redirects too, is tried again."""
    status = f"status {answer.status}"
    if answer.status // 100 == 2:  # noqa: PLR2004 - the class of success
        return Outcome(Fate.TAKEN, status)
    if answer.status == 410:  # noqa: PLR2004 - Gone
        return Outcome(Fate.GONE, status)
    asked = next((value for name, value in answer.headers.items() if name.lower() == "retry-after"), "")
    seconds = int(asked[:6]) if asked.isascii() and asked.isdecimal() else 0
    return Outcome(Fate.FAILED, status, min(seconds, _MAX_RETRY_AFTER))
