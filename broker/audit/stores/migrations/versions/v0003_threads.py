"""One view more: the threads of events about one access request, one person's breaking of the glass, or one lock.

No earlier broker wrote such events, so there is nothing to fill it with.
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

_SQLITE = """
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
"""

_POSTGRESQL = """
CREATE TABLE threads(
    thread TEXT PRIMARY KEY,
    idx BIGINT NOT NULL,
    last_idx BIGINT NOT NULL,
    kind TEXT NOT NULL,
    event TEXT NOT NULL,
    actor TEXT NOT NULL,
    instance TEXT NOT NULL,
    account TEXT NOT NULL,
    facts TEXT NOT NULL
);
CREATE INDEX threads_by_event ON threads(kind, event);
CREATE INDEX threads_by_actor ON threads(kind, left(actor, 200))
"""


def upgrade() -> None:
    """Make the table."""
    op.execute(_SQLITE if op.get_context().dialect.name == "sqlite" else _POSTGRESQL)
