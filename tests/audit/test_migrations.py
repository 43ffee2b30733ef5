"""Tables of an older version become today's, or stay as they are; PostgreSQL and SQLite keep the same."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from broker.audit.checkpoints import Signer
from broker.audit.evidence import CannotVerify
from broker.audit.projections import VIEWS
from broker.audit.schema import SCHEMA, VERSION, difference
from broker.audit.stores import InUse, StoreError, opening
from broker.audit.stores.migrations.scripts import script
from broker.audit.stores.sqlite import SqliteStore
from broker.audit.verification import verify_database
from broker.model import InstanceRef
from tests.audit.conftest import write_log
from tests.doubles.audit import NOW, an_event
from tests.real.postgresql import run

WEB = InstanceRef("main", "eu-west-1", "web-1")
KEYS = {"host_keys": ("ssh-ed25519 " + "ab" * 32,)}


@pytest.fixture
def older(database: Path, signer: Signer) -> Path:
    """Answer a log with the tables of version 1: as if nothing had ever kept leases and host keys."""
    later = NOW.replace(year=2027)
    events = [
        an_event("credential.requested", request_id="a"),
        an_event("credential.issued", request_id="a", instance=WEB, expires_at=later, details=KEYS),
        an_event("credential.requested", request_id="b"),
    ]
    write_log(database, signer, events)
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        for table in ("leases", "host_keys", "followers", "threads"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("PRAGMA user_version=1")
    return database


def test_the_revisions_make_the_tables_that_are_checked_everywhere() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(script("sqlite", 0))
        assert difference(connection) == ""


def test_the_older_tables_are_those_of_version_1(older: Path) -> None:
    with closing(sqlite3.connect(":memory:")) as first, closing(sqlite3.connect(older)) as found:
        first.executescript(script("sqlite", 0, 1))
        tables = "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name"
        assert {name for name, _ in first.execute(tables)} == {name for name, _ in found.execute(tables)}


def test_an_older_log_is_refused_until_it_is_migrated(older: Path, signer: Signer) -> None:
    with pytest.raises(StoreError, match="broker audit migrate"):
        SqliteStore(older).open()
    with pytest.raises(CannotVerify, match="broker audit migrate"):
        verify_database(older, signer.verifier)
    assert opening.migrate(f"sqlite:///{older}") == 1
    assert verify_database(older, signer.verifier).findings == ()
    store = SqliteStore(older)
    store.open()
    assert store.open_requests() == [2]
    store.close()
    assert opening.migrate(f"sqlite:///{older}") == VERSION


def test_new_views_are_filled_from_the_events(older: Path) -> None:
    opening.migrate(f"sqlite:///{older}")
    with closing(opening.reader(older)) as reader:
        [lease] = reader.leases(0, accounts=None, actor=None, instance=None)
        keys = reader.host_keys("main/eu-west-1/web-1")
    assert (lease.lease_id, lease.idx, lease.instance) == ("lease-1", 1, "main/eu-west-1/web-1")
    assert keys is not None
    assert (keys.idx, keys.pinned) == (1, KEYS["host_keys"])


def test_a_log_in_use_is_not_migrated(older: Path, tmp_path: Path, signer: Signer) -> None:
    store = SqliteStore(tmp_path / "other" / "audit.db")
    write_log(tmp_path / "other" / "audit.db", signer, [])
    store.open()
    with pytest.raises(InUse):
        opening.migrate(f"sqlite:///{tmp_path / 'other' / 'audit.db'}")
    store.close()
    assert older.exists()


@pytest.mark.parametrize(
    "spoil",
    [
        "CREATE TRIGGER odd AFTER INSERT ON events BEGIN DELETE FROM head; END",
        "CREATE TABLE leases(half INTEGER)",  # as a migration by hand leaves it
        "DROP INDEX events_by_actor",
        "UPDATE events SET leaf = x'00' WHERE idx = 1",
    ],
)
def test_what_cannot_be_migrated_stays_as_it_is(older: Path, spoil: str) -> None:
    with closing(sqlite3.connect(older, isolation_level=None)) as connection:
        connection.execute(spoil)
    before = dump(older)
    with pytest.raises(StoreError):
        opening.migrate(f"sqlite:///{older}")
    assert dump(older) == before


def dump(database: Path) -> str:
    with closing(sqlite3.connect(database)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        return f"{version} {json.dumps(list(connection.iterdump()))}"


@pytest.mark.parametrize(("version", "why"), [(99, "run a newer one"), (0, "there is no audit log")])
def test_what_is_no_older_log_is_refused(older: Path, version: int, why: str) -> None:
    with closing(sqlite3.connect(older)) as connection:
        connection.execute(f"PRAGMA user_version={version}")
    with pytest.raises(StoreError, match=why):
        opening.migrate(f"sqlite:///{older}")


@pytest.mark.real("postgresql")
class TestPostgresql:
    """The same, over there."""

    def test_the_revisions_make_the_same_columns(self, postgresql: str) -> None:
        run(postgresql, script("postgresql", 0), "SELECT 1")
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.executescript(SCHEMA)
            tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
            wanted = {t: [row[1] for row in connection.execute(f"PRAGMA table_info({t})")] for t in tables}
        text = run(
            postgresql,
            "SELECT json_object_agg(t, c) FROM (SELECT table_name t, json_agg(column_name::text ORDER BY"
            " ordinal_position) c FROM information_schema.columns WHERE table_schema = 'public' GROUP BY 1) x",
        )
        found = json.loads(text)
        assert found.pop("alembic_version") == ["version_num"]
        assert found.pop("head") == [*wanted.pop("head"), "epoch"]
        assert found.pop("events") == [*wanted.pop("events"), "words"]
        assert found == wanted

    def test_an_older_log_becomes_todays(self, postgresql: str, older: Path, signer: Signer) -> None:
        move(older, postgresql, 1)
        with pytest.raises(StoreError, match="broker audit migrate"):
            opening.store(postgresql).open()
        assert opening.migrate(postgresql) == 1
        with closing(opening.reader(postgresql)) as reader:
            assert [len(reader.view(name)) for name in VIEWS] == [1, 1, 1, 0]
        store = opening.store(postgresql)
        store.open()
        assert store.open_requests() == [2]
        store.close()
        assert opening.migrate(postgresql) == VERSION
        opening.snapshot(postgresql, older.with_name("copy.db"))
        assert verify_database(older.with_name("copy.db"), signer.verifier, shared=True).findings == ()

    def test_what_cannot_be_migrated_stays_as_it_is(self, postgresql: str, older: Path) -> None:
        move(older, postgresql, 1)
        run(postgresql, "CREATE TABLE host_keys(half INTEGER)")
        with pytest.raises(StoreError, match="host_keys"):
            opening.migrate(postgresql)
        assert run(postgresql, "SELECT version_num FROM alembic_version") == "0001"
        assert run(postgresql, "SELECT to_regclass('leases') IS NULL")


def move(database: Path, url: str, version: int) -> None:
    """Put the rows of a SQLite log into the tables of a version in PostgreSQL."""
    statements = [script("postgresql", 0, version)]
    with closing(sqlite3.connect(database)) as connection:
        for table in ("events", "nodes", "head", "checkpoints", "open_requests"):
            for row in connection.execute(f"SELECT * FROM {table}"):  # noqa: S608 -- our own name
                more = {"events": ["''"], "head": ["'epoch'"]}.get(table, [])
                statements.append(f"INSERT INTO {table} VALUES({', '.join([*map(literal, row), *more])})")
    run(url, *statements, "SELECT 1")


def literal(value: object) -> str:
    if isinstance(value, bytes):
        return f"'\\x{value.hex()}'::bytea"
    return str(value) if isinstance(value, int) else "'{}'".format(str(value).replace("'", "''"))
