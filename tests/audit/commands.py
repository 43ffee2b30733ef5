"""A folder with settings and a log, and `broker audit` run on it in this process."""

from __future__ import annotations

import sqlite3
from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from broker.audit.events import decode
from broker.audit.keyfiles import create_signing_key, load_signer
from broker.audit.paging import walk
from broker.audit.stores import Filters
from broker.audit.stores.sqlite_reader import SqliteReader
from broker.cli.audit import configure, run
from broker.model import Event
from tests.audit.conftest import ORIGIN, write_log


@dataclass(frozen=True, slots=True)
class Desk:
    """Where the settings are."""

    config: Path

    @property
    def database(self) -> Path:
        """The log."""
        return self.config.parent / "state" / "audit.db"

    def audit(self, verb: str, *words: str | Path) -> int:
        """Run a verb with the settings, unless the words name a database."""
        where = () if "--database" in words else ("--config", self.config)
        parser = ArgumentParser("broker audit")
        configure(parser)
        return run(parser.parse_args([verb, *map(str, (*where, *words))]))

    def forget_the_newest_checkpoint(self) -> None:
        """Leave the log as a death right before its newest checkpoint would have."""
        with closing(sqlite3.connect(self.database, isolation_level=None)) as connection:
            connection.execute("DELETE FROM checkpoints WHERE size = (SELECT max(size) FROM checkpoints)")

    def readings(self) -> list[list[str]]:
        """Answer the filters of every reading that the log knows of, oldest first."""
        reader = SqliteReader(self.database)
        found = [decode(found.record.leaf)["details"] for found in walk(reader, Filters(event="audit.read"))]
        reader.close()
        return [details["filters"] for details in found if isinstance(details, dict)][::-1]


def a_desk(folder: Path, events: Sequence[Event]) -> Desk:
    """Write settings, key and a log of these events."""
    desk = Desk(folder / "broker.toml")
    desk.config.write_text(
        f'audit = {{origin = "{ORIGIN}"}}\n'
        'issuers = [{name = "corp", issuer = "https://id.example.com", audience = "b", jwks_file = "jwks.json"}]\n'
        'accounts = [{name = "main", regions = ["eu-west-1"]}]\n'
    )
    (folder / "jwks.json").write_text('{"keys": []}')
    create_signing_key(folder / "state" / "audit.key", ORIGIN)
    write_log(desk.database, load_signer(folder / "state" / "audit.key", ORIGIN), events)
    return desk
