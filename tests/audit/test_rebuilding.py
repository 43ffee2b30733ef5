"""The views of the log: whatever happens, they are what the events give, and they can be made again."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.audit.checkpoints import Signer
from broker.audit.events import document
from broker.audit.ledger import Ledger
from broker.audit.log import create
from broker.audit.projections import VIEWS, changes
from broker.audit.rebuilding import Rebuilt, rebuild
from broker.audit.schema import SCHEMA
from broker.audit.stores import Reader, StoredRecord, StoreError
from broker.audit.stores.sqlite import SqliteStore, apply, read_view
from broker.audit.stores.sqlite_reader import SqliteReader
from broker.errors import AuditUnavailable
from broker.model import Event, rfc3339
from tests.doubles.audit import NOW, ManualClock, an_event

SIGNER = Signer("test.example/audit", Ed25519PrivateKey.generate())
KEYS = [f"ssh-ed25519 {digit * 64}" for digit in "012"]

steps = st.tuples(
    st.sampled_from(["requested", "issued", "failed", "changed", "accepted", "withheld", "begun", "told", "other"]),
    st.integers(0, 7),  # which of the earlier requests, or leases
    st.integers(0, 1),  # at which instance
    st.integers(0, 120),  # seconds of the lease
    st.lists(st.sampled_from(KEYS), max_size=2, unique=True),
)
Step = tuple[str, int, int, int, Sequence[str]]
batches = st.lists(st.tuples(st.lists(steps, min_size=1, max_size=8), st.integers(-30, 90)), max_size=12)


class Story:
    """Events as a broker writes them: what ends a request or a lease is written once its beginning is durable."""

    def __init__(self) -> None:
        self._requests, self._leases = [0], [0]
        self._now = NOW
        self.size = 0

    def batch(self, steps: Sequence[Step], seconds: int) -> list[tuple[int, dict[str, object]]]:
        """Answer the next batch: places and members of its events, which have one time."""
        self._now += timedelta(seconds=seconds)
        durable = len(self._requests), len(self._leases)
        told = [document(self._event(step, *durable)) | {"time": rfc3339(self._now)} for step in steps]
        self.size += len(told)
        return [*enumerate(told, self.size - len(told))]

    def _event(self, step: Step, requests: int, leases: int) -> Event:
        what, which, account, seconds, keys = step
        request, lease = which % requests, which % leases
        if what == "requested":
            request = len(self._requests)
            self._requests.append(request)
        if what == "issued":
            lease = len(self._leases)
            self._leases.append(lease)
        names = {"changed": "credential.failed", "accepted": "host_keys.accepted", "other": "policies.loaded"}
        names |= {"begun": "break_glass.used", "told": "break_glass.reviewed"}
        thread = {"thread": f"thread-{account}"} if what in {"begun", "told"} else {}
        return an_event(
            names.get(what, f"credential.{what}"),
            request,
            f"account-{account}",
            lease_id=f"lease-{lease}",
            expires_at=self._now + timedelta(seconds=seconds) if what == "issued" else None,
            error="host_key_changed" if what == "changed" else "",
            details=({"host_keys": tuple(keys)} if keys else {}) | thread,
        )


class Log:
    """A ledger over a real store, and a reader beside it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "state" / "audit.db"
        self.clock = ManualClock()
        create(SqliteStore(self.path), SIGNER)
        self.ledger = Ledger(SqliteStore(self.path), SIGNER, self.clock)
        self.ledger.open()

    def write(self, *events: Event) -> None:
        self.ledger.write([document(event) for event in events])

    def rebuilt(self) -> Rebuilt:
        with closing(SqliteReader(self.path)) as reader:
            return rebuild(reader)

    def tamper(self, statement: str) -> None:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            assert connection.execute(statement).rowcount == 1

    def close(self) -> None:
        self.ledger.close()


@pytest.fixture
def log(tmp_path: Path) -> object:
    log = Log(tmp_path)
    yield log
    log.close()


def a_lease(log: Log, number: int = 0, account: str = "main", **members: object) -> None:
    """Write a request and its issue, for two minutes."""
    ends = log.clock.now + timedelta(minutes=2)
    log.write(an_event("credential.requested", number, account, lease_id=f"lease-{number}"))
    log.write(an_event("credential.issued", number, account, lease_id=f"lease-{number}", expires_at=ends, **members))


@settings(max_examples=200, deadline=None)
@given(batches)
def test_whatever_happens_in_whatever_batches_the_views_are_what_the_events_give(
    many: Sequence[tuple[Sequence[Step], int]],
) -> None:
    story = Story()
    with closing(views_in_memory()) as stored, closing(views_in_memory()) as replayed:
        for steps, seconds in many:
            batch = story.batch(steps, seconds)
            apply(stored, (change for event in batch for change in changes(*event)))
            for event in batch:
                apply(replayed, changes(*event))
        assert [read_view(stored, name) for name in VIEWS] == [read_view(replayed, name) for name in VIEWS]


def views_in_memory() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(SCHEMA)
    return connection


def test_what_one_batch_does_to_host_keys_comes_in_order(log: Log) -> None:
    pinned, offered, again = ({"host_keys": (key,)} for key in KEYS)
    changed = "host_key_changed"
    log.write(
        an_event("credential.issued", details=pinned),
        an_event("credential.failed", error=changed, details=offered),
        an_event("host_keys.accepted", details=offered),
        an_event("credential.failed", error=changed, details=again),
    )
    with closing(SqliteReader(log.path)) as reader:
        kept = reader.host_keys("main/eu-west-1/web-1")
    assert kept is not None
    assert (kept.idx, kept.pinned, kept.offered_idx, kept.offered) == (2, (KEYS[1],), 3, (KEYS[2],))
    assert log.rebuilt().differences == []


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE leases SET actor = 'corp/mallory'", "leases: lease-0: actor is 'corp/mallory', not 'corp/alice'"),
        ("DELETE FROM leases", "leases: lease-0 is missing"),
        (
            "INSERT INTO leases VALUES('x', 1, 9999999999999, 'a', 'b', 'c')",
            "leases: x is there, and by the events it is not",
        ),
        ("DELETE FROM host_keys", "host_keys: main/eu-west-1/web-1 is missing"),
    ],
)
def test_a_row_that_differs_is_named(log: Log, statement: str, said: str) -> None:
    a_lease(log, details={"host_keys": (KEYS[0],)})
    log.tamper(statement)
    assert log.rebuilt().differences == [said]


def test_rebuilt_views_are_written_with_an_event_that_says_so(log: Log) -> None:
    a_lease(log, details={"host_keys": (KEYS[0],)})
    log.tamper("DELETE FROM leases")
    rebuilt = log.rebuilt()
    event = document(an_event("audit.rebuilt", details={"size": rebuilt.size}))
    assert not log.ledger.rebuild(event, rebuilt.size - 1, rebuilt.views)
    assert log.ledger.size == rebuilt.size
    assert log.ledger.rebuild(event, rebuilt.size, rebuilt.views)
    assert log.ledger.size == rebuilt.size + 1
    after = log.rebuilt()
    assert after.differences == []
    assert after.views == rebuilt.views


def test_what_rests_on_pruned_events_is_kept_and_counted(log: Log) -> None:
    a_lease(log, 0, details={"host_keys": (KEYS[0],)})
    log.write(an_event("service.started"))
    log.write(an_event("credential.failed", error="host_key_changed", details={"host_keys": (KEYS[1],)}))
    log.ledger.tend(seal=True)
    log.ledger.prune(document(an_event("audit.pruned", details={"end": 2})), 2)
    rebuilt = log.rebuilt()
    assert rebuilt.differences == []
    assert rebuilt.kept == {"open_requests": 0, "leases": 1, "host_keys": 1, "threads": 0}
    assert [row[-1] for row in rebuilt.views["host_keys"]] == [f'["{KEYS[1]}"]']
    log.tamper("UPDATE host_keys SET offered = '[]'")
    assert log.rebuilt().differences == [
        f"host_keys: main/eu-west-1/web-1: offered is '[]', not '[\"{KEYS[1]}\"]'",
    ]


class GrowingReader(SqliteReader):
    """A reader of a log to which others write while it is read, so many times."""

    def __init__(self, log: Log, times: int) -> None:
        super().__init__(log.path)
        self._log = log
        self._times = times

    def view(self, name: str) -> Sequence[tuple[object, ...]]:
        rows = super().view(name)
        if self._times and name == "leases":
            self._times -= 1
            a_lease(self._log, self._log.ledger.size)
        return rows


def test_a_log_that_grows_meanwhile_is_compared_all_the_same(log: Log) -> None:
    a_lease(log)
    with closing(GrowingReader(log, 3)) as reader:
        rebuilt = rebuild(reader)
    assert rebuilt.differences == []
    assert rebuilt.size == log.ledger.size == 8


def test_a_log_that_never_stands_still_is_given_up(log: Log) -> None:
    with closing(GrowingReader(log, 10_000)) as reader, pytest.raises(AuditUnavailable, match="faster"):
        rebuild(reader)


class LosingReader(SqliteReader):
    """A reader that does not get every event."""

    def records(self, first: int, end: int) -> Sequence[StoredRecord]:
        return super().records(first, end)[1:]


def test_a_missing_event_is_no_reason_to_rebuild(log: Log) -> None:
    a_lease(log)
    reader: Reader = LosingReader(log.path)
    with closing(reader), pytest.raises(StoreError, match="verify"):
        rebuild(reader)


def test_time_is_that_of_the_events(log: Log) -> None:
    a_lease(log, 0)
    log.clock.now = NOW + timedelta(hours=1)
    assert len(log.rebuilt().views["leases"]) == 1
    a_lease(log, 1)
    assert [row[0] for row in log.rebuilt().views["leases"]] == ["lease-1"]
