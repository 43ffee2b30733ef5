"""Rows of CSV: what comes in comes out again, and a spreadsheet computes nothing."""

from __future__ import annotations

import base64
import csv
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.audit.events import clean, document, encode
from broker.audit.exporting import csv_rows
from broker.audit.merkle import leaf_hash
from broker.audit.stores import StoredRecord
from broker.model import Event
from tests.doubles.audit import an_event

FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")


def record(event: Event, index: int = 7) -> StoredRecord:
    leaf = encode(document(event), index, "2026-01-31T09:30:00.123Z")
    return StoredRecord(index, leaf_hash(leaf), leaf)


def read(*records: StoredRecord) -> list[dict[str, str]]:
    text = (csv_rows.HEADER + b"".join(map(csv_rows.row, records))).decode()
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def test_a_row_has_what_is_asked_for_most() -> None:
    stored = record(an_event("credential.issued", 3, error="", break_glass=True))
    [row] = read(stored)
    assert tuple(row) == csv_rows.COLUMNS
    assert row == {
        "index": "7",
        "leaf_hash": base64.b64encode(stored.leaf_hash).decode(),
        "time": "2026-01-31T09:30:00.123Z",
        "event": "credential.issued",
        "outcome": "success",
        "actor": "corp/alice",
        "instance": "main/eu-west-1/web-1",
        "target": "",
        "protocol": "ssh",
        "reason": "to look at its logs",
        "ticket": "OPS-7",
        "break_glass": "yes",
        "error": "",
        "policies": "ops-ssh",
        "source_ip": "203.0.113.9",
        "user_agent": "broker/1.0",
        "request_id": "request-3",
        "lease_id": "lease-1",
        "expires_at": "2026-01-31T09:30:00.000Z",
        "certificate_serial": str(2**63),
        "key_id": "alice",
        "upstream_request_id": "",
    }


def test_what_is_absent_is_an_empty_cell() -> None:
    [row] = read(record(Event(event="service.started", outcome="success")))
    assert {name for name, cell in row.items() if cell} == {"index", "leaf_hash", "time", "event", "outcome"}


def test_lines_end_as_the_standard_has_it() -> None:
    assert csv_rows.HEADER.endswith(b"\r\n")
    assert csv_rows.row(record(an_event())).endswith(b"\r\n")


@pytest.mark.parametrize("first", FORMULAS)
def test_what_a_spreadsheet_takes_for_a_formula_is_written_as_text(first: str) -> None:
    [row] = read(record(an_event(reason=f"{first}1+1", ticket="1+1")))
    assert row["reason"] == f"'{first}1+1"
    assert row["ticket"] == "1+1"


def test_a_hash_stays_as_it_is_whatever_it_begins_with() -> None:
    leaf = record(an_event()).leaf
    [row] = read(StoredRecord(7, b"\xfb" + bytes(31), leaf))
    assert row["leaf_hash"].startswith("+w")


TEXTS = st.one_of(st.text(max_size=40), st.builds(str.__add__, st.sampled_from((*FORMULAS, ",", '"')), st.text()))


@given(reason=TEXTS, ticket=TEXTS, agent=TEXTS, target=TEXTS)
def test_whatever_was_said_comes_back_and_is_no_formula(reason: str, ticket: str, agent: str, target: str) -> None:
    said: dict[str, Any] = {"reason": reason, "ticket": ticket, "upstream_request_id": agent, "target": target}
    first, second = read(record(an_event(**said)), record(an_event()))
    assert second["reason"] == "to look at its logs"
    for name, text in said.items():
        kept = clean(text, 4096 if name == "reason" else 1024)
        assert first[name] == (f"'{kept}" if kept.startswith(FORMULAS) else kept)
        assert not first[name].startswith(FORMULAS)
