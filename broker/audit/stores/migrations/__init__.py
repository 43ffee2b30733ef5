"""How the tables of a log came to be, version by version, for both databases. `scripts` makes SQL of it."""

from __future__ import annotations

from typing import Final

from broker.audit.schema import VERSION

HEAD: Final = f"{VERSION:04}"
"""The newest revision. PostgreSQL keeps it in Alembic's own table, SQLite the number as `PRAGMA user_version`."""


def wrong_version(version: int) -> str:
    """Say what to do about tables of another version."""
    advice = "`broker audit migrate` brings it up to date" if version < VERSION else "a newer broker made it"
    return f"the audit log has schema version {version}, this broker knows {VERSION}: {advice}"
