"""Retention: bodies of old events go to an archive and out of the log; their hashes stay, and so do all proofs.

Checkpoints over pruned events alone go too: later ones cover the same, and which key signed the old ones may stand in a
body that is gone.

An archive is an export in JSON Lines of neighbouring events. The event `audit.pruned` names its hash, so that the
auditor knows which file gives the bodies back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path

from broker.audit.evidence import export_line, export_rows
from broker.audit.leaves import parse, search_columns
from broker.audit.merkle import leaf_hash
from broker.audit.stores import Filters, Reader, StoredRecord
from broker.errors import AuditUnavailable
from broker.model import Event

_AT_ONCE = 1024
_STARTED = "service.started"


@dataclass(frozen=True, slots=True)
class Archive:
    """A file that holds the events from `first` up to, not including, `end`; `sha256` is that of the file, in hex."""

    first: int
    end: int
    sha256: str

    def event(self) -> Event:
        """Answer what the log says when these bodies leave it."""
        return Event(
            event="audit.pruned",
            outcome="success",
            details={"first": self.first, "end": self.end, "archive_sha256": self.sha256},
        )


def write_archive(reader: Reader, before: int, write: Callable[[bytes], object], *, shared: bool) -> int:
    """Write the oldest events with a body as lines of an export, up to the first one that must stay; answer how many.

    Args:
        reader: Of the log.
        before: Milliseconds since 1970; an event of this time or later stays, and all after it.
        write: Takes the lines.
        shared: Whether other processes append to the log; else the newest run of the service stays.
    """
    count = 0
    for record in _records(reader, reader.oldest(), _bound(reader, shared=shared)):
        if search_columns(parse(record.leaf)).time >= before:
            break
        write(export_line(record.idx, record.leaf_hash, record.leaf))
        count += 1
    return count


def _bound(reader: Reader, *, shared: bool) -> int:
    """Answer the index below which nothing is needed: sealed, before the newest run, and of no lease that is out."""
    checkpoint = reader.newest_checkpoint()
    bounds = [checkpoint.size if checkpoint else 0]
    bounds += [lease.idx for lease in reader.leases(0, accounts=None, actor=None, instance=None)]
    if not shared:
        bounds += [found.record.idx for found in reader.search(Filters(event=_STARTED), 1, None)]
    return min(bounds)


def _records(reader: Reader, first: int, end: int) -> Iterator[StoredRecord]:
    for start in range(first, end, _AT_ONCE):
        yield from reader.records(start, min(start + _AT_ONCE, end))


def read_archive(path: Path, reader: Reader) -> Archive:
    """Hold an archive against the log: it must have every body from the oldest one on, byte for byte.

    Raises:
        AuditUnavailable: when it has not, or cannot be read.
    """
    first = at = reader.oldest()
    try:
        with path.open("rb") as file:
            for row in export_rows(file):
                stored = reader.hashes(0, row.idx, 1)[0] if row.idx == at and not row.flaw else b""
                if leaf_hash(row.leaf) != stored:
                    raise AuditUnavailable(f"{path} is no archive of event {at}, the next that has its body here")
                at += 1
            file.seek(0)
            digest = file_digest(file, "sha256").hexdigest()
    except OSError as problem:
        raise AuditUnavailable(f"{path} cannot be read: {problem.strerror}") from problem
    if at == first:
        raise AuditUnavailable(f"{path} holds no event")
    return Archive(first, at, digest)
