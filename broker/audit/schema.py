"""The tables of a SQLite log. `leaf` holds the exact bytes that are hashed; the columns after it are for searching.

`nodes` keeps the tree at its kept levels; at level 0 it keeps the leaf hashes of events that were pruned. The views
(`projections` says what is in them) follow from the events. `followers` is how far each anchor and each receiver of
notices has come: bookkeeping, no evidence.

Standard library only: the offline verifier holds a database against the same tables that the broker makes.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing

VERSION = 3
"""`PRAGMA user_version`. A newer one is refused: this program would not know what else must hold."""

SCHEMA = """
CREATE TABLE events(
    idx INTEGER PRIMARY KEY,
    leaf_hash BLOB NOT NULL,
    leaf BLOB NOT NULL,
    time INTEGER NOT NULL,
    event TEXT NOT NULL,
    outcome TEXT NOT NULL,
    actor TEXT NOT NULL,
    instance TEXT NOT NULL,
    account TEXT NOT NULL,
    request_id TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_time ON events(time);
CREATE INDEX events_by_event ON events(event, time);
CREATE INDEX events_by_outcome ON events(outcome, time);
CREATE INDEX events_by_actor ON events(actor, time);
CREATE INDEX events_by_instance ON events(instance, time);
CREATE INDEX events_by_account ON events(account, time);
CREATE INDEX events_by_request ON events(request_id, time);
CREATE TABLE nodes(
    level INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY(level, idx)
) STRICT, WITHOUT ROWID;
CREATE TABLE head(
    one INTEGER PRIMARY KEY CHECK(one = 1),
    size INTEGER NOT NULL,
    root BLOB NOT NULL
) STRICT;
CREATE TABLE checkpoints(
    size INTEGER PRIMARY KEY,
    root BLOB NOT NULL,
    time INTEGER NOT NULL,
    note TEXT NOT NULL
) STRICT;
CREATE TABLE open_requests(
    idx INTEGER PRIMARY KEY,
    request_id TEXT NOT NULL
) STRICT;
CREATE INDEX open_requests_by_id ON open_requests(request_id);
CREATE TABLE leases(
    lease_id TEXT PRIMARY KEY,
    idx INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    instance TEXT NOT NULL,
    account TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX leases_by_end ON leases(expires_at);
CREATE TABLE host_keys(
    instance TEXT PRIMARY KEY,
    idx INTEGER NOT NULL,
    pinned TEXT NOT NULL,
    offered_idx INTEGER,
    offered TEXT
) STRICT, WITHOUT ROWID;
CREATE TABLE threads(
    thread TEXT PRIMARY KEY,
    idx INTEGER NOT NULL,
    last_idx INTEGER NOT NULL,
    kind TEXT NOT NULL,
    event TEXT NOT NULL,
    actor TEXT NOT NULL,
    instance TEXT NOT NULL,
    account TEXT NOT NULL,
    facts TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX threads_by_event ON threads(kind, event);
CREATE INDEX threads_by_actor ON threads(kind, actor);
CREATE TABLE followers(
    name TEXT PRIMARY KEY,
    position INTEGER NOT NULL,
    owner TEXT NOT NULL,
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""


def difference(connection: sqlite3.Connection) -> str:
    """Say how the tables of a database differ from those above, by the first of them; empty when they do not.

    A trigger changes what is written, a view what is read, a collation or an index what is found.
    """
    with closing(sqlite3.connect(":memory:")) as model:
        model.executescript(SCHEMA)
        wanted = _definitions(model)
    found = _definitions(connection)
    names = sorted({definition[:2] for definition in wanted ^ found}, key=lambda name: (name[0] != "table", name))
    if not names:
        return ""
    kind, name = names[0]
    known, there = ((kind, name) in {definition[:2] for definition in side} for side in (wanted, found))
    what = "is not defined as it was made" if known and there else "is missing" if known else "does not belong there"
    return f"the {kind} {name!r} {what}"


def _definitions(connection: sqlite3.Connection) -> set[tuple[str, ...]]:
    """Answer kind, name, table and SQL of everything in a database, however the SQL is laid out."""
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema")
    return {tuple(" ".join(str(column).split()) for column in row) for row in rows}
