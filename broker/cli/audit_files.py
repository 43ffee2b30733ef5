"""Where a log's files are, for the verbs of `broker audit`: what `--database` names, else what the settings do."""

from __future__ import annotations

from contextlib import closing, contextmanager
from pathlib import Path

from broker.cli.configuration import settings_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Generator

    from broker.audit.stores import Reader


@contextmanager
def reader(arguments: Namespace) -> Generator[Reader]:
    """Open the log for searches; raises AuditUnavailable when that cannot be."""
    from broker.audit.stores import StoreError, opening
    from broker.errors import AuditUnavailable

    database = database_of(arguments)
    try:
        with closing(opening.reader(database, patience=60)) as opened:
            yield opened
    except StoreError as problem:
        raise AuditUnavailable(f"{opening.name_of(database)}: {problem}") from problem


def database_of(arguments: Namespace) -> str:
    """Answer where the log is kept, as the settings have it."""
    return f"sqlite:///{arguments.database}" if arguments.database else settings_of(arguments).audit.database


def database_path(arguments: Namespace) -> Path:
    """Answer the file of the log; of one in PostgreSQL, a copy of this moment, which goes when the command ends.

    Raises:
        CannotVerify: it cannot be copied.
    """
    from broker.audit.stores.address import sqlite_path

    return sqlite_path(database_of(arguments)) or _copy(database_of(arguments))


def is_shared(arguments: Namespace) -> bool:
    """Tell whether several processes write the log at the same time."""
    from broker.audit.stores.address import sqlite_path

    return sqlite_path(database_of(arguments)) is None


def _copy(database: str) -> Path:
    import atexit
    from shutil import rmtree
    from tempfile import mkdtemp

    from broker.audit.evidence import CannotVerify
    from broker.audit.stores import StoreError, opening

    folder = Path(mkdtemp(prefix="broker-audit-"))
    atexit.register(rmtree, folder, ignore_errors=True)
    try:
        opening.snapshot(database, folder / "audit.db")
    except StoreError as problem:
        raise CannotVerify(str(problem)) from problem
    return folder / "audit.db"


def public_key_path(arguments: Namespace) -> Path:
    """Answer the file of the verifier key that the settings lead to."""
    from broker.audit.keyfiles import public_path

    return public_path(Path(settings_of(arguments).audit.signing_key.removeprefix("file:")))


def checkpoint_file(export: Path) -> Path:
    """Answer where the checkpoint of an export lies."""
    return export.with_name(export.name + ".checkpoint")
