"""Writing the log out in its order: which events, and in which of three formats. Every line keeps index and leaf hash.

- `jsonl`: the exact bytes of each event; what `broker audit verify --export` reads.
- `csv`: one row an event, for spreadsheets (RFC 4180).
- `ocsf`: one object of the Open Cybersecurity Schema Framework a line, for a SIEM.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from broker.audit.evidence import export_line
from broker.audit.exporting import csv_rows, ocsf
from broker.audit.leaves import parse, search_columns
from broker.audit.stores import Filters, Reader, StoredRecord, StoreError
from broker.audit.stores.fitting import fits

AT_ONCE: Final = 500
"""So many events are read at once."""


class Format(NamedTuple):
    """How events are written: what comes before them, how one of them is a line, and what it is as a document."""

    header: bytes
    line: Callable[[StoredRecord], bytes]
    content_type: str


FORMATS: Final = {
    "jsonl": Format(b"", lambda record: export_line(*record), "application/jsonl"),
    "csv": Format(csv_rows.HEADER, csv_rows.row, "text/csv; charset=utf-8"),
    "ocsf": Format(b"", ocsf.line, "application/jsonl"),
}


def chunk(reader: Reader, filters: Filters, first: int, end: int) -> list[StoredRecord]:
    """Answer the events from `first` up to, not including, `end` that fit.

    Raises:
        StoreError: when one of them is not there: its body was pruned meanwhile, and a gap must not look whole.
    """
    records = reader.records(first, end)
    if len(records) != end - first:
        raise StoreError(f"events from {first} up to {end} were pruned meanwhile")
    if filters == Filters():
        return list(records)
    return [record for record in records if _fits(filters, parse(record.leaf))]


def chunks(reader: Reader, filters: Filters) -> Iterator[list[StoredRecord]]:
    """Answer all events that fit, in the order of the log as it is now."""
    end = reader.head().size
    for start in range(reader.oldest(), end, AT_ONCE):
        yield chunk(reader, filters, start, min(start + AT_ONCE, end))


def _fits(filters: Filters, members: Mapping[str, object]) -> bool:
    return fits(filters, search_columns(members), members)
