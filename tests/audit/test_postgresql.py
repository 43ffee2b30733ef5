"""What is special about PostgreSQL's store: whether a commit will last, and what became of one without an answer."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.audit.merkle import EMPTY_ROOT, CompactRange
from broker.audit.stores import HeadMoved, NotWritten, StoredCheckpoint, StoreError, opening
from broker.audit.stores.address import Address
from broker.audit.stores.postgresql import Patience, PostgresqlStore
from tests.audit.test_stores import FIRST, a_batch, put
from tests.real.cutting_proxy import CuttingProxy
from tests.real.postgresql import PostgresqlServer, run

pytestmark = pytest.mark.real("postgresql")

SHORT = Patience(connect=2, statement=2, lock=1, idle=0.6, commit=0.5, settle=1)

Opened = Callable[..., PostgresqlStore]


@pytest.fixture
def url(postgresql: str) -> str:
    PostgresqlStore(Address.parse(postgresql)).create(FIRST)
    return postgresql


@pytest.fixture
def opened(url: str) -> Iterator[Opened]:
    """Answer what opens another handle on the log, by default with little patience."""
    stores: list[PostgresqlStore] = []

    def opened(where: str = url, patience: Patience = SHORT) -> PostgresqlStore:
        stores.append(PostgresqlStore(Address.parse(where), patience=patience))
        stores[-1].open()
        return stores[-1]

    yield opened
    for store in stores:
        store.close()


@contextmanager
def configured(server: PostgresqlServer, settings: Mapping[str, str]) -> Iterator[None]:
    server.configure(**settings)
    server.reload()
    try:
        yield
    finally:
        server.configure()
        server.reload()


@pytest.fixture
def proxy(postgresql_server: PostgresqlServer) -> Iterator[CuttingProxy]:
    with CuttingProxy(postgresql_server.port) as proxy:
        yield proxy


def behind(proxy: CuttingProxy, url: str) -> str:
    return url.replace(url.split("@")[1].split("/", maxsplit=1)[0], f"127.0.0.1:{proxy.port}")


class TestDurability:
    """Nothing counts as written that may not last."""

    @pytest.mark.parametrize("whose", ["ROLE app", "DATABASE {name}"])
    def test_commits_are_synchronous_whatever_role_and_database_say(self, url: str, whose: str, opened: Opened) -> None:
        owner = whose.format(name=url.rpartition("/")[2])
        run(url, f"ALTER {owner} SET synchronous_commit = off")
        try:
            store = opened()
            seen: list[str] = []

            def write(_: object) -> object:
                seen.append(store._setting("synchronous_commit"))  # noqa: SLF001 -- what the transaction itself sees
                return a_batch(CompactRange(), "e")

            store.append(write)  # type: ignore[arg-type]  # a batch, as it should be
            assert seen == ["on"]
            assert run(url, "SHOW synchronous_commit") == "off"
        finally:
            run(url, f"ALTER {owner} RESET synchronous_commit")

    def test_a_stricter_setting_of_the_server_stays(self, postgresql_server: PostgresqlServer, opened: Opened) -> None:
        with configured(postgresql_server, {"synchronous_commit": "remote_apply"}):
            store = opened()
            store._begin()  # noqa: SLF001 -- as every transaction begins
            assert store._setting("synchronous_commit") == "remote_apply"  # noqa: SLF001 -- within it

    @pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
    def test_a_server_that_may_lose_commits_is_refused_at_the_start_and_later(
        self, postgresql_server: PostgresqlServer, opened: Opened, setting: str
    ) -> None:
        running = opened()
        with configured(postgresql_server, {setting: "off"}):
            with pytest.raises(StoreError, match=f"{setting} is off"):
                opened()
            with pytest.raises(NotWritten, match=f"{setting} is off"):
                put(running, a_batch(CompactRange(), "e"))
        put(running, a_batch(CompactRange(), "e"))
        assert running.head().size == 1

    def test_a_commit_that_no_standby_confirms_is_not_acknowledged(
        self, postgresql_server: PostgresqlServer, opened: Opened
    ) -> None:
        store, tree = opened(), CompactRange()
        put(store, a_batch(tree, "e"))
        with configured(postgresql_server, {"synchronous_standby_names": "never"}):
            with pytest.raises(StoreError, match="nobody knows") as caught:
                put(store, a_batch(tree.copy(), "e"))
            assert not isinstance(caught.value, NotWritten)
            with pytest.raises(NotWritten):
                put(opened(), a_batch(tree.copy(), "e"))  # the commit in doubt still has the head
        again = opened()
        assert again.head().size == 2

    def test_a_commit_with_a_warning_is_not_acknowledged(
        self, postgresql_server: PostgresqlServer, opened: Opened, url: str
    ) -> None:
        store = opened(patience=Patience())
        with configured(postgresql_server, {"synchronous_standby_names": "never"}):
            canceller = threading.Thread(target=cancel_what_waits_for_a_standby, args=(url,))
            canceller.start()
            with pytest.raises(StoreError, match=r"warned of a commit.*synchronous replication") as caught:
                put(store, a_batch(CompactRange(), "e"))
            canceller.join()
        assert not isinstance(caught.value, NotWritten)
        assert run(url, "SELECT count(*) FROM events") == 1  # committed here, and yet not to be relied on


def cancel_what_waits_for_a_standby(url: str) -> None:
    query = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    while not run(url, query):
        time.sleep(0.01)


class TestCommitWithoutAnAnswer:
    """The store finds out itself."""

    def test_one_that_was_written_counts(self, proxy: CuttingProxy, url: str, opened: Opened) -> None:
        store, tree = opened(behind(proxy, url)), CompactRange()
        for cut in ("after", "", "after"):
            proxy.cut = cut
            put(store, a_batch(tree, "e"))
        assert proxy.cuts == 2
        assert store.head() == (3, tree.root())
        assert run(url, "SELECT count(*) FROM events") == 3

    def test_one_that_never_arrived_was_not_written(self, proxy: CuttingProxy, url: str, opened: Opened) -> None:
        store = opened(behind(proxy, url))
        proxy.cut = "before"
        with pytest.raises(NotWritten, match="it was not written"):
            put(store, a_batch(CompactRange(), "e"))
        put(store, a_batch(CompactRange(), "e"))
        assert store.head().size == 1

    def test_one_of_which_nothing_is_heard_is_looked_up_too(
        self, proxy: CuttingProxy, url: str, opened: Opened
    ) -> None:
        store, tree = opened(behind(proxy, url)), CompactRange()
        proxy.cut = "silence"
        put(store, a_batch(tree, "e"))
        assert store.head() == (1, tree.root())

    def test_a_checkpoint_counts_when_it_is_there(self, proxy: CuttingProxy, url: str, opened: Opened) -> None:
        store = opened(behind(proxy, url))
        proxy.cut = "after"
        store.add_checkpoint(StoredCheckpoint(5, EMPTY_ROOT, 1, "five"))
        proxy.cut = "before"
        with pytest.raises(NotWritten):
            store.add_checkpoint(StoredCheckpoint(6, EMPTY_ROOT, 1, "six"))
        newest = store.newest_checkpoint()
        assert newest is not None
        assert newest.note == "five"

    def test_when_the_server_stays_away_nobody_knows(
        self, proxy: CuttingProxy, postgresql_server: PostgresqlServer, url: str, opened: Opened
    ) -> None:
        store = opened(behind(proxy, url))
        proxy.cut = "after"
        run(url, "ALTER ROLE app NOLOGIN")
        try:
            with pytest.raises(StoreError, match="nobody knows") as caught:
                put(store, a_batch(CompactRange(), "e"))
        finally:
            login_again(postgresql_server)
        assert not isinstance(caught.value, NotWritten)


def login_again(server: PostgresqlServer) -> None:
    """Let the only role log in again: in single-user mode nobody has to."""
    server.stop()
    server.alone("ALTER ROLE app LOGIN")
    server.start()


class TestCleanFailures:
    """Nothing was written, and later it works again."""

    def test_a_lost_connection_is_made_anew(self, url: str, opened: Opened) -> None:
        store, tree = opened(), CompactRange()
        put(store, a_batch(tree, "e"))
        hang_up(url)
        put(store, a_batch(tree, "e"))
        hang_up(url)
        assert store.head() == (2, tree.root())

    def test_a_connection_lost_within_a_transaction_takes_it_along(self, url: str, opened: Opened) -> None:
        store = opened()
        asked: list[object] = []

        def write(head: object) -> object:
            asked.append(head)
            if len(asked) == 1:
                hang_up(url)
            return a_batch(CompactRange(), "e")

        store.append(write)  # type: ignore[arg-type]  # a batch, as it should be
        assert asked == [(0, EMPTY_ROOT)] * 2
        assert store.head().size == 1

    def test_a_server_that_is_away(self, postgresql_server: PostgresqlServer, opened: Opened) -> None:
        store = opened()
        postgresql_server.stop()
        try:
            with pytest.raises(NotWritten, match="cannot be used"):
                put(store, a_batch(CompactRange(), "e"))
            with pytest.raises(NotWritten):
                store.head()
        finally:
            postgresql_server.start()
        put(store, a_batch(CompactRange(), "e"))
        assert store.head().size == 1

    def test_a_server_that_dies_at_once_and_comes_back(
        self, postgresql_server: PostgresqlServer, opened: Opened
    ) -> None:
        store, tree = opened(), CompactRange()
        put(store, a_batch(tree, "e"))
        postgresql_server.stop(signal.SIGQUIT)
        postgresql_server.start()
        put(store, a_batch(tree, "e"))
        assert store.head() == (2, tree.root())

    def test_a_database_that_only_reads(self, url: str, opened: Opened) -> None:
        store = opened()
        run(url, f"ALTER DATABASE {url.rpartition('/')[2]} SET default_transaction_read_only = on")
        hang_up(url)
        with pytest.raises(NotWritten, match="25006"):
            put(store, a_batch(CompactRange(), "e"))

    def test_a_wrong_password_says_so(self, postgresql_server: PostgresqlServer, url: str) -> None:
        where = postgresql_server.url(url.rpartition("/")[2], "locked")
        with pytest.raises(NotWritten, match=r"refuses the login|no password") as caught:
            PostgresqlStore(Address.parse(where)).open()
        assert "right" not in str(caught.value)

    @pytest.mark.parametrize("state", ["53100", "53200", "57P03", "25006", "42501"])
    def test_a_server_that_refuses_for_now(self, url: str, opened: Opened, state: str) -> None:
        store = opened()
        refuse_events(url, state)
        with pytest.raises(NotWritten, match=state):
            put(store, a_batch(CompactRange(), "e"))
        run(url, "DROP TRIGGER odd ON events")
        put(store, a_batch(CompactRange(), "e"))
        assert store.head().size == 1

    @pytest.mark.parametrize("state", ["23505", "42P01", "XX001"])
    def test_tables_that_are_not_as_they_were_are_no_clean_failure(self, url: str, opened: Opened, state: str) -> None:
        store = opened()
        refuse_events(url, state)
        with pytest.raises(StoreError, match=state) as caught:
            put(store, a_batch(CompactRange(), "e"))
        assert not isinstance(caught.value, NotWritten)

    @pytest.mark.parametrize(
        ("host", "why"),
        [("nowhere.invalid", "cannot be used"), ("127.0.0.1", "SSL|TLS"), ("/nowhere", "cannot be used")],
    )
    def test_a_server_that_cannot_be_reached_as_it_should(
        self, postgresql_server: PostgresqlServer, host: str, why: str
    ) -> None:
        place = f"app@{host}:{postgresql_server.port}/x" if host[0] != "/" else f"app@/x?host={host}"
        store = PostgresqlStore(Address.parse(f"postgresql://{place}{'&' if '?' in place else '?'}sslmode=require"))
        with pytest.raises(NotWritten, match=why):
            store.open()

    def test_a_head_that_somebody_else_holds(self, opened: Opened) -> None:
        store, other = opened(), opened(patience=Patience())

        def write(_: object) -> object:
            with pytest.raises(NotWritten, match="55P03"):
                put(store, a_batch(CompactRange(), "e"))
            raise NotWritten("enough")

        with pytest.raises(NotWritten, match="enough"):
            other.append(write)  # type: ignore[arg-type]  # never gets so far

    def test_whoever_stands_still_with_the_head_loses_it(self, opened: Opened) -> None:
        sleeper = opened()
        awake = opened()

        def write(_: object) -> object:
            put(awake, a_batch(CompactRange(), "other"))  # waits until the server has hung up on the sleeper
            return a_batch(CompactRange(), "e")

        with pytest.raises(StoreError):
            sleeper.append(write)  # type: ignore[arg-type]  # made for another head
        assert awake.head().size == 1

    def test_a_deadlock_is_tried_again(self, url: str, opened: Opened) -> None:
        store, tries = opened(), []
        run(
            url,
            "CREATE FUNCTION deadlock() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF (SELECT count(*) FROM nodes"
            " WHERE level = 99) = 0 THEN RAISE EXCEPTION 'deadlock' USING ERRCODE = '40P01'; END IF;"
            " RETURN NEW; END $$",
            "CREATE TRIGGER odd BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION deadlock()",
        )

        def write(head: object) -> object:
            tries.append(head)
            if len(tries) == 3:
                run(url, "INSERT INTO nodes VALUES(99, 0, '')")
            return a_batch(CompactRange(), "e")

        store.append(write)  # type: ignore[arg-type]  # a batch, as it should be
        assert len(tries) == 3
        assert run(url, "SELECT count(*) FROM events") == 1


def refuse_events(url: str, state: str) -> None:
    """Let PostgreSQL refuse every event for a reason of this code."""
    run(
        url,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '{state}'; END $$",
        "CREATE TRIGGER odd BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION refuse()",
        "SELECT 1",
    )


def hang_up(url: str) -> None:
    """End every other connection to the database, from the server's side."""
    query = "SELECT count(pg_terminate_backend(pid, 2000)) FROM pg_stat_activity"
    run(url, f"{query} WHERE datname = current_database() AND pid <> pg_backend_pid()")


class TestWhatTheDatabaseHolds:
    """A log is continued only where it is the one that it was."""

    def test_a_database_without_a_log_is_not_made_one(self, postgresql: str) -> None:
        with pytest.raises(StoreError, match="broker init"):
            PostgresqlStore(Address.parse(postgresql)).open()

    @pytest.mark.parametrize(("version", "advice"), [("0001", "audit migrate"), ("0099", "a newer broker")])
    def test_tables_of_another_version_are_refused(self, url: str, opened: Opened, version: str, advice: str) -> None:
        running = opened()
        run(url, f"UPDATE alembic_version SET version_num = '{version}'")  # noqa: S608 -- digits
        with pytest.raises(StoreError, match=advice):
            opened()
        with pytest.raises(StoreError, match=advice) as caught:
            put(running, a_batch(CompactRange(), "e"))
        assert not isinstance(caught.value, NotWritten)

    @pytest.mark.parametrize(
        ("spoil", "what"),
        [
            ("CREATE TRIGGER odd BEFORE INSERT ON nodes EXECUTE FUNCTION unique_key_recheck()", "trigger odd"),
            ("CREATE RULE odd AS ON DELETE TO events DO INSTEAD NOTHING", "rule odd"),
            ("ALTER TABLE checkpoints ENABLE ROW LEVEL SECURITY", "row security of checkpoints"),
        ],
    )
    def test_what_changes_what_is_written_or_read_is_refused(
        self, url: str, opened: Opened, tmp_path: Path, spoil: str, what: str
    ) -> None:
        run(url, spoil, "SELECT 1")
        with pytest.raises(StoreError, match=what):
            opened()
        with pytest.raises(StoreError, match=what):
            opening.snapshot(url, tmp_path / "copy.db")

    def test_another_log_in_the_same_place_is_noticed(self, url: str, opened: Opened) -> None:
        store = opened()
        run(url, "UPDATE head SET epoch = 'another'")
        with pytest.raises(HeadMoved, match="another audit log"):
            store.head()
        with pytest.raises(HeadMoved, match="another audit log"):
            put(store, a_batch(CompactRange(), "e"))

    def test_two_heads_of_one_size_are_a_fork(self, opened: Opened) -> None:
        store, other = opened(), opened()
        store.add_checkpoint(StoredCheckpoint(5, EMPTY_ROOT, 1, "five"))
        other.add_checkpoint(StoredCheckpoint(5, EMPTY_ROOT, 2, "five too"))
        with pytest.raises(StoreError, match="forked"):
            other.add_checkpoint(StoredCheckpoint(5, bytes(32), 2, "another five"))

    def test_a_follower_stays_with_its_owner_until_the_claim_ends(self, opened: Opened) -> None:
        one, two = opened(), opened()
        assert one.claim("anchor", "one", 0, 1000) == 0
        assert two.claim("anchor", "two", 999, 2000) is None
        one.advance("anchor", "one", 5)
        assert two.claim("anchor", "two", 1000, 2000) == 5
        with pytest.raises(NotWritten, match="another process"):
            one.advance("anchor", "one", 6)
        assert one.claim("anchor", "one", 1500, 2500) is None
        two.advance("anchor", "two", 7)
        assert one.claim("anchor", "one", 2000, 3000) == 7

    def test_it_works_behind_a_pooler_that_keeps_no_statements(self, url: str, opened: Opened) -> None:
        store, tree = opened(f"{url}?statement_cache_size=0"), CompactRange()
        for _ in range(3):
            put(store, a_batch(tree, "credential.requested", "credential.issued"))
        assert store.head() == (6, tree.root())
        assert store.open_requests() == []


def test_nothing_tells_a_password() -> None:
    for url in ("postgresql://me:s3cret@h/d", "postgresql://me@h/d?password=s3cret"):
        with pytest.raises(ValueError, match="keep the password out") as caught:
            Address.parse(url)
        assert "s3cret" not in str(caught.value)
