"""Events, the tree over them, its checkpoints, and the first view: requests that are open.

In PostgreSQL a text may be longer than an index takes, so indexes hold its beginning.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

_SQLITE = """
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
CREATE INDEX open_requests_by_id ON open_requests(request_id)
"""

_POSTGRESQL = """
CREATE TABLE events(
    idx BIGINT PRIMARY KEY,
    leaf_hash BYTEA NOT NULL,
    leaf BYTEA NOT NULL,
    time BIGINT NOT NULL,
    event TEXT NOT NULL,
    outcome TEXT NOT NULL,
    actor TEXT NOT NULL,
    instance TEXT NOT NULL,
    account TEXT NOT NULL,
    request_id TEXT NOT NULL,
    words TSVECTOR NOT NULL
);
CREATE INDEX events_by_time ON events(time, idx);
CREATE INDEX events_by_event ON events(event, time, idx);
CREATE INDEX events_by_outcome ON events(outcome, time, idx);
CREATE INDEX events_by_actor ON events(left(actor, 200), time, idx);
CREATE INDEX events_by_instance ON events(left(instance, 200), time, idx);
CREATE INDEX events_by_account ON events(left(account, 200), time, idx);
CREATE INDEX events_by_request ON events(left(request_id, 200), time, idx);
CREATE INDEX events_by_words ON events USING GIN(words);
CREATE TABLE nodes(
    level INTEGER NOT NULL,
    idx BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    PRIMARY KEY(level, idx)
);
CREATE TABLE head(
    one INTEGER PRIMARY KEY CHECK(one = 1),
    size BIGINT NOT NULL,
    root BYTEA NOT NULL,
    epoch TEXT NOT NULL
);
CREATE TABLE checkpoints(
    size BIGINT PRIMARY KEY,
    root BYTEA NOT NULL,
    time BIGINT NOT NULL,
    note TEXT NOT NULL
);
CREATE TABLE open_requests(
    idx BIGINT PRIMARY KEY,
    request_id TEXT NOT NULL
);
CREATE INDEX open_requests_by_id ON open_requests(left(request_id, 200))
"""


def upgrade() -> None:
    """Make the tables."""
    op.execute(_SQLITE if op.get_context().dialect.name == "sqlite" else _POSTGRESQL)
