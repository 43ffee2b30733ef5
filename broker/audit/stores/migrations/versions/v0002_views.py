"""Two views more, leases and host keys, and how far the followers of the log have come.

The views are filled by `upgrading`, which replays the events.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

_SQLITE = """
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
CREATE TABLE followers(
    name TEXT PRIMARY KEY,
    position INTEGER NOT NULL,
    owner TEXT NOT NULL,
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""

_POSTGRESQL = """
CREATE TABLE leases(
    lease_id TEXT PRIMARY KEY,
    idx BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    instance TEXT NOT NULL,
    account TEXT NOT NULL
);
CREATE INDEX leases_by_end ON leases(expires_at);
CREATE TABLE host_keys(
    instance TEXT PRIMARY KEY,
    idx BIGINT NOT NULL,
    pinned TEXT NOT NULL,
    offered_idx BIGINT,
    offered TEXT
);
CREATE TABLE followers(
    name TEXT PRIMARY KEY,
    position BIGINT NOT NULL,
    owner TEXT NOT NULL,
    until BIGINT NOT NULL
)
"""


def upgrade() -> None:
    """Make the tables."""
    op.execute(_SQLITE if op.get_context().dialect.name == "sqlite" else _POSTGRESQL)
