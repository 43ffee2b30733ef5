"""The one call that mints: every attempt is counted, and none follows one that AWS may have served.

Works through the SDK's own events of GetInstanceAccessDetails (`before-send`, `before-parse`, `needs-retry`).
Throttling, 5xx answers and connections that were never made are left to the SDK's standard retries; what was sent and
not answered is not sent again, since AWS may have minted. Lists are not concerned.
"""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from broker.errors import BrokerError
from broker.lightsail.faults import never_sent
from broker.lightsail.responses import sound_request_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from types_aiobotocore_lightsail import LightsailClient

OPERATION = "GetInstanceAccessDetails"
_EVENT = f"lightsail.{OPERATION}"


@dataclass(slots=True)
class Tally:
    """What is known of one call. `attempts`: how often AWS may have received it; `request_id`: the last it told."""

    attempts: int = 0
    request_id: str = ""


_TALLY: ContextVar[Tally] = ContextVar("tally")


@contextlib.contextmanager
def tallied() -> Iterator[Tally]:
    """Tally the minting call that is made inside; a BrokerError carries the tally out."""
    token = _TALLY.set(Tally())
    try:
        yield _TALLY.get()
    except BrokerError as failure:
        failure.attempts = _TALLY.get().attempts
        failure.upstream_request_id = _TALLY.get().request_id
        raise
    finally:
        _TALLY.reset(token)


def watch(client: LightsailClient) -> None:
    """Tally the minting calls of this client, and keep the SDK from sending one again that may have been served."""
    client.meta.events.register_first(f"before-send.{_EVENT}", _count)
    client.meta.events.register_first(f"needs-retry.{_EVENT}", _give_up_if_served)


def _count(**_: object) -> None:
    _TALLY.get().attempts += 1


def note_request_id(target: str, headers: Mapping[str, str]) -> None:
    """Keep `x-amzn-RequestId` of a minting call, also when the body is cut off or unreadable: it may be a credential.

    Args:
        target: X-Amz-Target of the request.
        headers: of the answer, whatever their case.
    """
    tally = _TALLY.get(None)
    if tally is not None and target.endswith(f".{OPERATION}"):
        tally.request_id = sound_request_id(headers.get("x-amzn-requestid")) or tally.request_id


def _give_up_if_served(caught_exception: Exception | None, **_: object) -> None:
    """Raise what ended an attempt without an answer, before the SDK's own handler decides to send another.

    A handler cannot veto a retry by what it returns; raising is how botocore's own handlers do it.
    """
    if caught_exception is None:
        return
    if not never_sent(caught_exception):
        raise caught_exception
    _TALLY.get().attempts -= 1
