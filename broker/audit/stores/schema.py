"""The tables of a SQLite log. `leaf` holds the exact bytes that are hashed; the columns after it are for searching."""

VERSION = 1
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
"""
