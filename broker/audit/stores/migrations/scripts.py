"""SQL that makes or changes the tables, by Alembic's revisions. Text, so that it runs in a transaction of our own."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Literal

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from broker.audit.stores.migrations import HEAD

Dialect = Literal["sqlite", "postgresql"]
_FOLDER = str(Path(__file__).parent)


def script(dialect: Dialect, version: int, to: int = int(HEAD)) -> str:
    """Answer what takes the tables from a version (0: none) to another. PostgreSQL's notes the new one itself."""
    buffer = StringIO()
    scripts = ScriptDirectory(_FOLDER)
    context = MigrationContext.configure(
        dialect_name=dialect,
        opts={"as_sql": True, "output_buffer": buffer, "starting_rev": _revision(version)},
    )
    steps = list(scripts.iterate_revisions(_revision(to), _revision(version)))
    with Operations.context(context):
        for step in reversed(steps):
            step.module.upgrade()
    if dialect == "postgresql":
        buffer.write(_note(version, to))
    return buffer.getvalue()


def _revision(version: int) -> str | None:
    return f"{version:04}" if version else None


def _note(version: int, to: int) -> str:
    """Note the new version in the table that Alembic keeps it in."""
    if version:
        return f"UPDATE alembic_version SET version_num = '{to:04}';\n"  # noqa: S608 -- numbers
    made = "CREATE TABLE alembic_version(version_num VARCHAR(32) NOT NULL CONSTRAINT alembic_version_pkc PRIMARY KEY)"
    return f"{made};\nINSERT INTO alembic_version VALUES('{to:04}');\n"
