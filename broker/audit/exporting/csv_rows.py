"""Events as rows of CSV (RFC 4180). What a spreadsheet would take for a formula is written as text."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterable, Mapping
from typing import Final

from broker.audit.leaves import parse, search_columns
from broker.audit.stores import StoredRecord

COLUMNS: Final = (
    "index",
    "leaf_hash",
    "time",
    "event",
    "outcome",
    "actor",
    "instance",
    "target",
    "protocol",
    "reason",
    "ticket",
    "break_glass",
    "error",
    "policies",
    "source_ip",
    "user_agent",
    "request_id",
    "lease_id",
    "expires_at",
    "certificate_serial",
    "key_id",
    "upstream_request_id",
)
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def row(record: StoredRecord) -> bytes:
    """Write one event."""
    members = parse(record.leaf)
    found = search_columns(members)
    source, decision, credential = (_object(members, name) for name in ("source", "decision", "credential"))
    policies = decision.get("policies")
    cells = {
        **{name: members.get(name) for name in COLUMNS},
        "index": record.idx,
        "leaf_hash": base64.b64encode(record.leaf_hash).decode(),
        "actor": found.actor,
        "instance": found.instance,
        "break_glass": "yes" if members.get("break_glass") else "",
        "policies": " ".join(map(str, policies)) if isinstance(policies, list) else "",
        "source_ip": source.get("ip"),
        "user_agent": source.get("user_agent"),
        "certificate_serial": credential.get("certificate_serial"),
        "key_id": credential.get("key_id"),
    }
    return _line(_safe(name, cells[name]) for name in COLUMNS)


def _safe(name: str, cell: object) -> str:
    """Put an apostrophe before what begins as a formula does; a hash in base64 may begin so, and is none."""
    text = "" if cell is None else str(cell)
    return f"'{text}" if text.startswith(_FORMULA) and name != "leaf_hash" else text


def _line(cells: Iterable[str]) -> bytes:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue().encode("utf-8", "replace")


def _object(members: Mapping[str, object], name: str) -> Mapping[str, object]:
    member = members.get(name)
    return member if isinstance(member, Mapping) else {}


HEADER: Final = _line(COLUMNS)
