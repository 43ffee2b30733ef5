"""Judging each record by itself: its hash, what it says of itself, and whether searches see the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from broker.audit.evidence import Row, sentence
from broker.audit.leaves import parse, search_columns
from broker.audit.merkle import leaf_hash

PRUNED: Final = "audit.pruned"
_FOLLOWED: Final = ("event", "request_id", "error", "clock")


class Reading(NamedTuple):
    """What one record says. `hashed` is the hash of its bytes, `leaf_hash` the one stored beside them.

    `flaw` is the class of what is wrong with the row itself, `message` says it. `malformed` is what is wrong with the
    record's own text. `inner` is the index that the text names, `members` the few that the replay follows.
    """

    idx: int
    leaf_hash: bytes
    hashed: bytes
    bodiless: bool = False
    flaw: str = ""
    message: str = ""
    inner: int | None = None
    members: Mapping[str, object] = {}
    pruned_end: int = 0
    malformed: str = ""
    copy_differs: bool = False


def read(row: Row) -> Reading:
    """Judge one record."""
    if row.bodiless or row.flaw not in {"", "copy"}:
        return Reading(row.idx, row.leaf_hash, row.leaf_hash, row.bodiless, row.flaw, row.message)
    hashed = leaf_hash(row.leaf)
    try:
        members = parse(row.leaf)
        differs = row.copy is not None and row.copy != search_columns(members)
    except ValueError as problem:
        text = f"the record cannot be read: {sentence(problem)}"
        return Reading(row.idx, row.leaf_hash, hashed, flaw=row.flaw, message=row.message, malformed=text)
    inner = members.get("index")
    return Reading(
        row.idx,
        row.leaf_hash,
        hashed,
        flaw=row.flaw,
        message=row.message,
        inner=inner if type(inner) is int else None,
        members={name: members[name] for name in _FOLLOWED if name in members},
        pruned_end=_pruned_end(members),
        malformed="" if type(inner) is int else "the record does not tell its index",
        copy_differs=differs,
    )


def _pruned_end(members: Mapping[str, object]) -> int:
    details = members.get("details") if members.get("event") == PRUNED else None
    end = details.get("end") if isinstance(details, Mapping) else None
    return end if type(end) is int else 0
