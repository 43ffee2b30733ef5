"""Long audit logs, made fast: the bytes, hashes, tree, views and checkpoints that a service writes, without its syncs.

The rows go into the real tables while these have no indexes and no journal. A log is made once and kept in a cache
below the system's folder for temporary files; `BENCH_CACHE` names another.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from pathlib import Path
from time import perf_counter
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.progress import say
from broker.audit.checkpoints import Signer
from broker.audit.events import Document, document, encode
from broker.audit.leaves import SearchColumns, search_columns
from broker.audit.ledger import Ledger
from broker.audit.merkle import CompactRange, leaf_hash, nodes_from_rows
from broker.audit.projections import ISSUED, REQUESTED
from broker.audit.schema import VERSION
from broker.audit.stores.sqlite import SqliteStore, read_hashes
from broker.audit.stores.sqlite_texts import TextIndex
from broker.model import Caller, CredentialFacts, Decision, Event, InstanceRef, Protocol, Source, rfc3339

ORIGIN: Final = "bench.example/audit"
PEOPLE: Final = 10
INSTANCES: Final = 10
SUBJECTS: Final = [f"person-{number}" for number in range(PEOPLE)]
PLACES: Final = [
    InstanceRef(("main", "other")[number % 2], "eu-west-1", f"web-{number}") for number in range(INSTANCES)
]
REASONS: Final = ("to look at its logs", "disk is full again", "kernel update after the advisory", "customer ticket")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_BEGIN: Final = datetime(2026, 1, 1, tzinfo=UTC)
_STEP: Final = timedelta(milliseconds=731)
_LEASE: Final = timedelta(minutes=10)
_SEALED_EVERY: Final = 16_384
_AT_ONCE: Final = 10_000
_DENIED_EVERY: Final = 7
_RDP_EVERY: Final = 3
"""Both share no factor with the numbers above, so that every combination comes."""


@dataclass(frozen=True, slots=True)
class BulkLog:
    """A log, and the key that verifies it."""

    database: Path
    verifier: str


def bulk_log(events: int, *, words: bool = False) -> BulkLog:
    """Answer a log of so many events, sealed to its end; with `words`, its index of words is complete too."""
    folder = Path(os.environ.get("BENCH_CACHE", Path(tempfile.gettempdir()) / "broker-benchmarks"))
    folder.mkdir(mode=0o700, exist_ok=True)
    log = folder / f"audit-{VERSION}-{events}.db"
    verifier = log.with_suffix(".vkey")
    if not verifier.exists():
        started = perf_counter()
        made = log.with_suffix(".new")
        made.unlink(missing_ok=True)
        signer = Signer(ORIGIN, Ed25519PrivateKey.generate())
        make(made, signer, events)
        made.replace(log)
        verifier.write_text(str(signer.verifier))
        say(f"made a log of {events:,} events in {perf_counter() - started:.0f} s: {log}")
    if words:
        _index_words(log)
    return BulkLog(log, verifier.read_text())


def make(path: Path, signer: Signer, events: int) -> None:
    """Make a log of so many events."""
    ledger = Ledger(SqliteStore(path), signer, lambda: _BEGIN)
    ledger.create()
    ledger.open()
    ledger.write([document(Event(event="service.started", outcome="success"))])
    ledger.tend(seal=True)
    ledger.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA locking_mode=EXCLUSIVE;")
        indexes = database.execute(
            "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'events' AND sql IS NOT NULL"
        ).fetchall()
        for name, _ in indexes:
            database.execute(f"DROP INDEX {name}")
        database.execute("BEGIN")
        _fill(database, signer, events)
        for _, sql in indexes:
            database.execute(sql)
        database.execute("COMMIT")
        database.execute("PRAGMA journal_mode=WAL")


def _fill(database: sqlite3.Connection, signer: Signer, events: int) -> None:
    tree = CompactRange.load(1, nodes_from_rows(lambda *which: read_hashes(database, *which)))
    leases: dict[str, tuple[object, ...]] = {}
    index, columns, newest = 0, SearchColumns(0, "", "", "", "", "", ""), 0
    nodes: list[tuple[int, int, bytes]] = []
    coming = enumerate(islice(_events(), events - 1), start=1)
    while part := list(islice(coming, _AT_ONCE)):
        rows = []
        for index, (time, members, columns) in part:
            leaf = encode(members, index, time)
            hashed = leaf_hash(leaf)
            rows.append((index, hashed, leaf, *columns))
            tree.append(hashed, nodes)
            if lease := members.get("lease_id"):
                end = columns.time + _LEASE // _MILLISECOND
                leases[str(lease)] = (lease, index, end, columns.actor, columns.instance, columns.account)
                newest = columns.time
            if tree.size % _SEALED_EVERY == 0 or tree.size == events:
                seal = (tree.size, tree.root(), columns.time, signer.sign(tree.size, tree.root()))
                database.execute("INSERT INTO checkpoints VALUES(?, ?, ?, ?)", seal)
        database.executemany("INSERT INTO events VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        database.executemany("INSERT INTO nodes VALUES(?, ?, ?)", nodes)
        nodes.clear()
        leases = {key: row for key, row in leases.items() if int(str(row[2])) > newest}
    database.executemany("INSERT INTO leases VALUES(?, ?, ?, ?, ?, ?)", leases.values())
    if columns.event == REQUESTED:
        database.execute("INSERT INTO open_requests VALUES(?, ?)", (index, columns.request_id))
    database.execute("UPDATE head SET size = ?, root = ?", (tree.size, tree.root()))


def _events() -> Iterator[tuple[str, Document, SearchColumns]]:
    """Answer requests of all people for all instances in turn, each with what became of it: time, members, columns."""
    requested, issued, denied = (_made(f"credential.{name}") for name in ("requested", "issued", "denied"))
    for number in count():
        which = number % len(requested)
        moment = _BEGIN + number * _STEP
        time, request_id = rfc3339(moment), f"{number:032x}"
        for members, columns in (denied[which],) if number % _DENIED_EVERY == 0 else (requested[which], issued[which]):
            told = members | {"request_id": request_id}
            if columns.event == ISSUED:
                told |= {"lease_id": f"lease-{number:x}", "expires_at": rfc3339(moment + _LEASE)}
            yield time, told, columns._replace(time=(moment - _EPOCH) // _MILLISECOND, request_id=request_id)


def _made(name: str) -> list[tuple[Document, SearchColumns]]:
    """Answer an event of a name in every combination of person, instance and reason, without what is new each time."""
    combinations = [(subject, place, reason) for reason in REASONS for place in PLACES for subject in SUBJECTS]
    documents = [_document(name, *each, rdp=n % _RDP_EVERY == 0) for n, each in enumerate(combinations)]
    return [(members, search_columns(members | {"time": rfc3339(_BEGIN)})) for members in documents]


def _document(name: str, subject: str, place: InstanceRef, reason: str, *, rdp: bool) -> Document:
    caller = Caller(
        issuer="corp", subject=subject, kind="user", groups=("ops",), token_id="0f" * 16, token_expires_at=_BEGIN
    )
    event = Event(
        event=name,
        outcome="denied" if name.endswith("denied") else "success",
        actor=caller,
        source=Source("203.0.113.9", "broker/1.0"),
        instance=place,
        tags={"env": "prod", "team": "shop"},
        protocol=Protocol.RDP if rdp else Protocol.SSH,
        reason=reason,
        decision=Decision(allowed=not name.endswith("denied"), policies=("ops",), digest="0" * 64),
    )
    if name.endswith("issued"):
        event = replace(event, credential=CredentialFacts(public_key_sha256="0f" * 32, key_id="person"))
    return document(event)


def _index_words(log: Path) -> None:
    started = perf_counter()
    index = TextIndex(log)
    while index.update():
        pass
    index.close()
    if (took := perf_counter() - started) > 1:
        say(f"indexed its words in {took:.0f} s")
