"""One file of the spool: an operator's event as JSON, read as if an enemy had written it (pure).

Only what an operator's command may say is taken, never an event of the service itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final, Literal, cast

from broker.audit.events import document
from broker.errors import AuditUnavailable
from broker.model import CredentialFacts, Event

MAX_BYTES: Final = 64 * 1024
_VERSION: Final = 1
_TEXTS: Final = {"spool_id", "spooled_at", "event", "outcome", "target", "error", "key_pair"}
_OPERATORS: Final = re.compile(r"(audit|console|keys|policies)\.[a-z_]{1,40}", re.ASCII)
_OUTCOMES: Final = {"success", "failure", "denied"}
_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)


Details = Mapping[str, str | int | bool | tuple[str, ...] | Mapping[str, int]]
"""As an event has them."""


class Malformed(ValueError):
    """It is no event of the spool; the message says why and quotes nothing of it."""


def encode(event: Event, spool_id: str, spooled_at: str) -> bytes:
    """Write an event with its id and its time (RFC 3339).

    Raises:
        AuditUnavailable: It would not come back as it is: no event of an operator's command, or too large.
    """
    members = {
        "version": _VERSION,
        "spool_id": spool_id,
        "spooled_at": spooled_at,
        "event": event.event,
        "outcome": event.outcome,
        "target": event.target,
        "error": event.error,
        "key_pair": event.credential.key_pair if event.credential else "",
        "details": dict(event.details),
    }
    try:
        content = json.dumps(members, allow_nan=False).encode("ascii")
        back = decode(content, spool_id)
    except (TypeError, ValueError) as problem:
        raise AuditUnavailable(f"{event.event} cannot be left to the service to record: {problem}") from problem
    if back != replace(event, details=_marked(event.details, spool_id, spooled_at)):
        raise AuditUnavailable(f"{event.event} holds more than an operator's command may say")
    return content


def decode(content: bytes, spool_id: str) -> Event:
    """Read what `encode` wrote for this id; `details` gain `spool_id` and `spooled_at`.

    Raises:
        Malformed: It is anything else.
    """
    if len(content) > MAX_BYTES:
        raise Malformed("it is too large")
    try:
        members = json.loads(content.decode("utf-8"), object_pairs_hook=_object)
    except (ValueError, RecursionError) as problem:
        raise Malformed("it is not JSON, or holds a member twice") from problem
    if not isinstance(members, dict) or members.pop("version", None) != _VERSION:
        raise Malformed("it is of no version that is known")
    details = members.pop("details", None)
    if members.keys() != _TEXTS or not all(isinstance(text, str) for text in members.values()):
        raise Malformed("it has other members than an event of the spool")
    if members["spool_id"] != spool_id or not _ID.fullmatch(spool_id) or not _is_moment(members["spooled_at"]):
        raise Malformed("its id is not that of its name, or its time is none")
    return _checked(_event(members, details))


def _event(members: Mapping[str, str], details: object) -> Event:
    if not _OPERATORS.fullmatch(members["event"]) or members["outcome"] not in _OUTCOMES:
        raise Malformed("no operator's command leaves such an event")
    if not isinstance(details, dict):
        raise Malformed("its details are no table")
    facts = {name: tuple(value) if isinstance(value, list) else value for name, value in details.items()}
    return Event(
        event=members["event"],
        outcome=cast("Literal['success', 'failure', 'denied']", members["outcome"]),
        target=members["target"],
        error=members["error"],
        credential=CredentialFacts(key_pair=members["key_pair"]) if members["key_pair"] else None,
        details=_marked(cast("Details", facts), members["spool_id"], members["spooled_at"]),
    )


def _checked(event: Event) -> Event:
    """Refuse what the log cannot hold: it would stop everything that waits behind it."""
    for value in event.details.values():
        if isinstance(value, tuple) and not all(isinstance(item, str) for item in value):
            raise Malformed("its details hold a list of something else than texts")
    try:
        document(event)
    except (TypeError, ValueError) as problem:
        raise Malformed("its details are of a kind that the log does not hold") from problem
    return event


def _marked(details: Details, spool_id: str, spooled_at: str) -> Details:
    return {**details, "spool_id": spool_id, "spooled_at": spooled_at}


def _is_moment(text: str) -> bool:
    try:
        return _MOMENT.fullmatch(text) is not None and datetime.fromisoformat(text) is not None
    except ValueError:
        return False


def _object(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member twice")
    return members
