"""Reading leaves back, strictly, and the few members by which events are found. Standard library only.

The offline verifier uses this too: it must not depend on what the service writes with.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple, cast


class SearchColumns(NamedTuple):
    """The copy of an event's members that a store indexes. The leaf is the truth, these are for finding it."""

    time: int
    """Milliseconds since 1970, UTC."""
    event: str
    outcome: str
    actor: str
    """`issuer/subject`, or empty."""
    instance: str
    """`account/region/name`, or empty."""
    account: str
    request_id: str


def parse(leaf: bytes) -> dict[str, object]:
    """Read a leaf. Two members of one name are refused: readers would disagree about them.

    Raises:
        ValueError: when it is not one JSON object in UTF-8 with unique members.
    """
    try:
        members = _DECODER.decode(leaf.decode())
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(members, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 -- the one kind of error that this function has
    return cast("dict[str, object]", members)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member occurs twice")
    return members


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_SECONDS: Final = {f"{second:02}.": second * 1000 for second in range(60)}
_MILLISECONDS: Final = {f"{millisecond:03}Z": millisecond for millisecond in range(1000)}
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def search_columns(members: Mapping[str, object]) -> SearchColumns:
    """Answer by what an event is found. Members that are absent give empty text.

    Raises:
        ValueError: when there is no proper time.
    """
    get: Callable[..., Any] = members.get
    event, outcome, request_id = get("event", ""), get("outcome", ""), get("request_id", "")
    actor, instance = get("actor"), get("instance")
    who = place = account = ""
    if not (isinstance(event, str) and isinstance(outcome, str) and isinstance(request_id, str)):
        return _of_any_shape(members)
    try:  # sums fail unless all are texts
        if actor is not None:
            who = actor["issuer"] + "/" + actor["subject"]
        if instance is not None:
            account = instance["account"]
            place = account + "/" + instance["region"] + "/" + instance["name"]
    except (KeyError, TypeError):
        return _of_any_shape(members)
    return SearchColumns._make((milliseconds(_text(get("time"))), event, outcome, who, place, account, request_id))


def _of_any_shape(members: Mapping[str, object]) -> SearchColumns:
    get = members.get
    actor, instance = get("actor"), get("instance")
    who = place = account = ""
    if isinstance(actor, dict):
        who = f"{_text(actor.get('issuer'))}/{_text(actor.get('subject'))}"
    if isinstance(instance, dict):
        account = _text(instance.get("account"))
        place = f"{account}/{_text(instance.get('region'))}/{_text(instance.get('name'))}"
    return SearchColumns(
        milliseconds(_text(get("time"))),
        _text(get("event")),
        _text(get("outcome")),
        who,
        place,
        account,
        _text(get("request_id")),
    )


def milliseconds(time: str) -> int:
    """Answer an RFC 3339 UTC time as milliseconds since 1970.

    Raises:
        ValueError: when it is not such a time.
    """
    try:  # as this project writes them: most times share their minute with others
        return _minute(time[:17]) + _SECONDS[time[17:20]] + _MILLISECONDS[time[20:]]
    except (KeyError, ValueError):
        return _milliseconds(time)


@lru_cache(1024)
def _minute(begin: str) -> int:
    return _milliseconds(f"{begin}00.000Z")


def _milliseconds(time: str) -> int:
    moment = datetime.fromisoformat(time)
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    return (moment - _EPOCH) // _MILLISECOND


def _text(member: object) -> str:
    return member if isinstance(member, str) else ""
