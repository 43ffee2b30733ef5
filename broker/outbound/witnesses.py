"""Asking a witness for its cosignature (https://c2sp.org/tlog-witness): one request, and what the answer says."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from broker.errors import UpstreamUnavailable
from broker.outbound.http import TOTAL_SECONDS, Answer, SendingFailed, open_session, post

_SIZE: Final = re.compile(r"(0|[1-9][0-9]{0,17})\n", re.ASCII)
_LINE: Final = re.compile("^\u2014 [^\\s\x00-\x1f]{1,300} [A-Za-z0-9+/]{1,300}={0,2}\n", re.MULTILINE)
_MAX_LINES: Final = 16
_SIZE_TYPE: Final = "text/x.tlog.size"
_OK: Final = 200
_CONFLICT: Final = 409


@dataclass(frozen=True, slots=True)
class Reply:
    """The HTTP status, the size that a 409 names, and the signature lines of a 200."""

    status: int
    size: int | None = None
    lines: str = ""


Ask = Callable[[int, Sequence[str], str], Awaitable[Reply]]
"""Sends old size, consistency proof (hashes in base64) and signed note.

Raises:
    UpstreamUnavailable: no whole answer came; the cause names the class of the fault.
"""


@asynccontextmanager
async def connected(url: str, *, allow_private: bool, seconds: float = TOTAL_SECONDS) -> AsyncIterator[Ask]:
    """Answer how to ask the witness with the submission prefix `url`, as long as the context."""
    async with open_session(allow_private=allow_private, seconds=seconds) as session:

        async def ask(old: int, proof: Sequence[str], note: str) -> Reply:
            try:
                answer = await post(
                    session,
                    f"{url.rstrip('/')}/add-checkpoint",
                    request(old, proof, note),
                    {"Content-Type": "text/plain"},
                )
            except SendingFailed as problem:
                raise UpstreamUnavailable(str(problem)) from problem
            return reply(answer)

        yield ask


def request(old: int, proof: Sequence[str], note: str) -> bytes:
    """Write the body of an `add-checkpoint` request."""
    return "".join([f"old {old}\n", *(f"{line}\n" for line in proof), "\n", note]).encode()


def reply(answer: Answer) -> Reply:
    """Read the answer to an `add-checkpoint` request; what is not as it should be is left out."""
    text = answer.body.decode(errors="replace")
    kind = {name.lower(): value for name, value in answer.headers.items()}.get("content-type", "")
    if answer.status == _CONFLICT and kind.partition(";")[0].strip() == _SIZE_TYPE and (size := _SIZE.fullmatch(text)):
        return Reply(answer.status, size=int(size[1]))
    lines = _LINE.findall(text)[:_MAX_LINES] if answer.status == _OK else ()
    return Reply(answer.status, lines="".join(lines))
