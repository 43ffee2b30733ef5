"""Where a log's files are, for the verbs of `broker audit`: what `--database` names, else what the settings do."""

from __future__ import annotations

from contextlib import closing, contextmanager
from pathlib import Path

from broker.cli.configuration import settings_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Generator

    from broker.audit.stores.sqlite_reader import SqliteReader


@contextmanager
def reader(arguments: Namespace) -> Generator[SqliteReader]:
    """Open the log for searches; raises AuditUnavailable when that cannot be."""
    from broker.audit.stores import StoreError
    from broker.audit.stores.sqlite_reader import SqliteReader
    from broker.errors import AuditUnavailable

    path = database_path(arguments)
    try:
        with closing(SqliteReader(path, patience=60)) as opened:
            yield opened
    except StoreError as problem:
        raise AuditUnavailable(f"{path}: {problem}") from problem


def database_path(arguments: Namespace) -> Path:
    """Answer the file of the log; raises CannotVerify when it is none."""
    if arguments.database:
        return Path(arguments.database)
    from broker.audit.evidence import CannotVerify

    database = settings_of(arguments).audit.database
    if not database.startswith("sqlite:///"):
        raise CannotVerify("this log is not a file here: verify an export of it")
    return Path(database.removeprefix("sqlite:///"))


def public_key_path(arguments: Namespace) -> Path:
    """Answer the file of the verifier key that the settings lead to."""
    from broker.audit.keyfiles import public_path

    return public_path(Path(settings_of(arguments).audit.signing_key.removeprefix("file:")))


def checkpoint_file(export: Path) -> Path:
    """Answer where the checkpoint of an export lies."""
    return export.with_name(export.name + ".checkpoint")
