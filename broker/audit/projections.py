"""The views of the log: what is open, what is out, which host keys are pinned. Each follows from the events alone.

`changes` says what one event changes in them; a store applies that in the transaction that appends the event, and a
rebuild by replay must give the same tables. Pure, standard library only.

- `open_requests`: `credential.requested` without its `issued` or `failed`.
- `leases`: credentials that were issued and had not ended when the newest one was issued.
- `host_keys`: the keys that each instance is held to, as JSON; `offered` is what AWS named when it named others.
- `threads`: what is told by several events that name one thread: an access request, a person's breaking of the glass, a
  lock, a session of the console, a sign-off. `event` is the newest of them, and `facts` holds what each said, as lines
  of JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from broker.audit.leaves import milliseconds, search_columns

VIEWS: Final[Mapping[str, Sequence[str]]] = {
    "open_requests": ("idx", "request_id"),
    "leases": ("lease_id", "idx", "expires_at", "actor", "instance", "account"),
    "host_keys": ("instance", "idx", "pinned", "offered_idx", "offered"),
    "threads": ("thread", "idx", "last_idx", "kind", "event", "actor", "instance", "account", "facts"),
}
"""Every view and its columns, the key first."""

REQUESTED: Final = "credential.requested"
ISSUED: Final = "credential.issued"
FAILED: Final = "credential.failed"
WITHHELD: Final = "credential.withheld"
ACCEPTED: Final = "host_keys.accepted"
CLOSING: Final = frozenset({ISSUED, FAILED})
HOST_KEY_CHANGED: Final = "host_key_changed"

_CLOSE = "DELETE FROM open_requests WHERE request_id = ? AND idx < ?"
_EXPIRE = "DELETE FROM leases WHERE expires_at <= ?"
_END = "DELETE FROM leases WHERE lease_id = ?"
_OFFER = "UPDATE host_keys SET offered_idx = ?, offered = ? WHERE instance = ?"
_ACCEPT = (
    "INSERT INTO host_keys VALUES(?, ?, ?, NULL, NULL) ON CONFLICT(instance) DO UPDATE SET"
    " idx = excluded.idx, pinned = excluded.pinned, offered_idx = NULL, offered = NULL"
)
_BEGIN = (
    "INSERT INTO threads VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(thread) DO UPDATE SET idx = excluded.idx,"
    " last_idx = excluded.last_idx, event = excluded.event, instance = excluded.instance,"
    " account = excluded.account, facts = excluded.facts"
)
_CONTINUE = "UPDATE threads SET last_idx = ?, event = ?, facts = facts || CAST(? AS TEXT) WHERE thread = ?"
_LINES = {
    **dict.fromkeys(("host_keys", _OFFER, _ACCEPT), "host_keys"),
    **dict.fromkeys((_BEGIN, _CONTINUE), "threads"),
}
"""Where many requests change one row: only neighbours are put together."""
BEGINNING: Final = frozenset(
    {"request.created", "break_glass.used", "lock.created", "console.link_made", "console.signed_in", "audit.reviewed"}
)
"""By which a thread begins, or begins anew."""
_FACTS: Final = (
    *("time", "event", "outcome", "request_id", "actor", "instance", "target", "protocol", "reason", "ticket"),
    *("lease_id", "expires_at", "error", "details"),
)


class Insert(NamedTuple):
    """A new row of a view; a row of the same key stays as it is."""

    view: str
    row: tuple[object, ...]


class Apply(NamedTuple):
    """A statement, with `?` for each value."""

    statement: str
    values: tuple[object, ...]


Change = Insert | Apply


def changes(index: int, members: Mapping[str, object]) -> Iterator[Change]:
    """Answer what the event at `index` changes in the views, in order."""
    event = members.get("event")
    if event == REQUESTED:
        yield Insert("open_requests", (index, _text(members, "request_id")))
    elif event in CLOSING:
        yield Apply(_CLOSE, (_text(members, "request_id"), index))
    if event == ISSUED:
        yield from _issued(index, members)
    elif event == WITHHELD:
        yield Apply(_END, (_text(members, "lease_id"),))
    elif event == FAILED and members.get("error") == HOST_KEY_CHANGED:
        yield Apply(_OFFER, (index, _host_keys(members), search_columns(members).instance))
    elif event == ACCEPTED:
        yield Apply(_ACCEPT, (search_columns(members).instance, index, _host_keys(members)))
    if thread := thread_of(members):
        yield _told(index, members, thread)


def thread_of(members: Mapping[str, object]) -> str:
    """Answer to which thread an event belongs; empty when to none."""
    details = members.get("details")
    return _text(details, "thread") if isinstance(details, dict) else ""


def _told(index: int, members: Mapping[str, object], thread: str) -> Change:
    event = _text(members, "event")
    fact = {"index": index} | {name: members[name] for name in _FACTS if name in members}
    line = json.dumps(fact, separators=(",", ":"), sort_keys=True) + "\n"
    if event not in BEGINNING:
        return Apply(_CONTINUE, (index, event, line, thread))
    columns = search_columns(members)
    kind = event.partition(".")[0]
    places = columns.actor, columns.instance, columns.account
    return Apply(_BEGIN, (thread, index, index, kind, event, *places, line))


def _issued(index: int, members: Mapping[str, object]) -> Iterator[Change]:
    columns = search_columns(members)
    yield Apply(_EXPIRE, (columns.time,))
    lease_id, end = _text(members, "lease_id"), _text(members, "expires_at")
    if lease_id and end and (expires_at := milliseconds(end)) > columns.time:
        yield Insert("leases", (lease_id, index, expires_at, columns.actor, columns.instance, columns.account))
    if pinned := _host_keys(members):
        yield Insert("host_keys", (columns.instance, index, pinned, None, None))


def together(many: Iterable[Change]) -> Iterator[tuple[str, Sequence[Change]]]:
    """Group the changes of a batch by view or statement, each group at the place of its first.

    What one request changes comes in the order of its events, and no statement undoes what another request did, so
    the order between groups holds for each of them. Host keys and threads are changed by many requests: there only
    neighbours are put together.
    """
    groups: list[tuple[str, list[Change]]] = []
    newest: dict[str, tuple[str, list[Change]]] = {}
    for change in many:
        line = _LINES.get(change[0], change[0])
        if newest.get(line, ("",))[0] != change[0]:
            newest[line] = change[0], []
            groups.append(newest[line])
        group = newest[line][1]
        if change not in group[-1:]:  # one time, one statement
            group.append(change)
    yield from groups


def _host_keys(members: Mapping[str, object]) -> str:
    """Answer the host keys that an event names, as JSON; empty when it names none."""
    details = members.get("details")
    named = details.get("host_keys") if isinstance(details, dict) else None
    return json.dumps(sorted(map(str, named))) if isinstance(named, list | tuple) and named else ""


def _text(members: Mapping[str, object], name: str) -> str:
    member = members.get(name)
    return member if isinstance(member, str) else ""
