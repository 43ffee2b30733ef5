"""Several brokers on one log: who appends, who seals, and who is cut off when he comes back too late."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from broker.audit.checkpoints import Signer
from broker.audit.events import document
from broker.audit.keyfiles import create_signing_key, load_signer
from broker.audit.ledger import Ledger
from broker.audit.log import AuditLog, create
from broker.audit.merkle import CompactRange, leaf_hash
from broker.audit.stores.address import Address
from broker.audit.stores.opening import store
from broker.audit.stores.postgresql import Patience, PostgresqlStore
from broker.errors import AuditUnavailable
from tests.audit.conftest import ORIGIN
from tests.doubles.audit import ManualClock, an_event
from tests.real.postgresql import PostgresqlServer, run

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.real("postgresql")

MakeLedger = Callable[..., Ledger]


@pytest.fixture
def url(postgresql: str, signer: Signer) -> str:
    create(store(postgresql), signer)
    return postgresql


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def ledger(url: str, signer: Signer, clock: ManualClock) -> Iterator[MakeLedger]:
    """Answer what opens the log as one more broker."""
    opened: list[Ledger] = []

    def ledger(patience: Patience | None = None) -> Ledger:
        opened.append(Ledger(PostgresqlStore(Address.parse(url), patience=patience), signer, clock))
        opened[-1].open()
        return opened[-1]

    yield ledger
    for each in opened:
        each.close()


def write(ledger: Ledger, *events: str, request_id: str = "r") -> list[object]:
    """Write events and answer their indices, or why they were refused."""
    _, outcomes = ledger.write([document(an_event(event, request_id=request_id)) for event in events])
    return [getattr(outcome, "idx", outcome) for outcome in outcomes]


def events(url: str) -> list[str]:
    names = run(url, "SELECT coalesce(string_agg(event, ' ' ORDER BY idx), '') FROM events")
    return str(names).split()


def test_brokers_append_by_turns(ledger: MakeLedger, url: str) -> None:
    one, two = ledger(), ledger()
    assert [write(one, "e"), write(two, "e", "e"), write(one, "e"), write(two, "e")] == [[0], [1, 2], [3], [4]]
    assert chain(url) == 5


def chain(url: str) -> int:
    """Hash everything again, compare it with the stored head, and answer how much it is."""
    leaves = run(url, "SELECT coalesce(string_agg(encode(leaf, 'hex'), ' ' ORDER BY idx), '') FROM events").split()
    tree = CompactRange()
    for leaf in leaves:
        tree.append(leaf_hash(bytes.fromhex(leaf)))
    assert run(url, "SELECT string_agg(idx::text, ' ' ORDER BY idx) FROM events").split() == [
        *map(str, range(tree.size))
    ]
    assert (run(url, "SELECT size FROM head"), run(url, "SELECT root FROM head")) == (tree.size, tree.root())
    return tree.size


class TestSealing:
    """Whoever comes first seals for all."""

    def test_one_seals_what_another_wrote(self, ledger: MakeLedger, signer: Signer) -> None:
        one, two = ledger(), ledger()
        write(one, "e", "e")
        note = two.tend(seal=True)
        assert signer.verifier.open(note).size == 2
        assert one.tend(seal=True) == note

    def test_what_is_sealed_is_not_sealed_again(self, ledger: MakeLedger, url: str) -> None:
        one, two = ledger(), ledger()
        for _ in range(3):
            write(one, "e")
            one.tend(seal=True)
            two.tend(seal=True)
        assert run(url, "SELECT count(*) FROM checkpoints") == 4

    def test_it_goes_on_while_others_append(self, ledger: MakeLedger, url: str) -> None:
        one, two = ledger(), ledger()
        for number in range(10):
            write(one, "e")
            write(two, "e")
            (one if number % 2 else two).tend(seal=True)
            write(one, "e")
        assert one.tend(seal=True)
        assert chain(url) == 30

    def test_bodies_that_another_pruned_are_not_missed(self, ledger: MakeLedger) -> None:
        one, two = ledger(), ledger()
        write(one, *["e"] * 20)
        one.tend(seal=True)
        one.prune(document(an_event("audit.pruned")), 15)
        assert write(two, "e") == [21]
        two.tend(seal=True)
        assert not two.poison
        three = ledger()
        assert write(three, "e") == [22]

    def test_an_event_that_was_changed_is_not_signed(self, ledger: MakeLedger, url: str) -> None:
        one, two = ledger(), ledger()
        write(one, "e", "e")
        run(url, "UPDATE events SET leaf = leaf || ' ' WHERE idx = 1")
        with pytest.raises(AuditUnavailable, match="event 1 is not what was written"):
            two.tend(seal=True)

    def test_a_checkpoint_of_another_history_stops_everybody(
        self, ledger: MakeLedger, url: str, signer: Signer
    ) -> None:
        one = ledger()
        write(one, "e", "e")
        forged = PostgresqlStore(Address.parse(url))
        forged.open()
        root = bytes(32)
        run(url, f"INSERT INTO checkpoints VALUES(2, decode('{root.hex()}', 'hex'), 0, '{signer.sign(2, root)}')")
        forged.close()
        with pytest.raises(AuditUnavailable, match="forked"):
            one.tend(seal=True)


class TestHeadThatMovesBack:
    """What one has acknowledged, no other server can take back unnoticed."""

    def test_a_standby_that_missed_events_is_not_continued(self, ledger: MakeLedger, url: str) -> None:
        one = ledger()
        write(one, "e", "e", "e")
        older = root(url)
        write(one, "e", "e")
        run(url, "DELETE FROM events WHERE idx >= 3", back_to(3, older))
        with pytest.raises(AuditUnavailable, match="somebody else has written"):
            write(one, "e")
        with pytest.raises(AuditUnavailable, match="closed until"):
            write(one, "e")

    def test_an_idle_broker_notices_it_too(self, ledger: MakeLedger, url: str) -> None:
        one = ledger()
        write(one, "e", "e", "e")
        run(url, "UPDATE head SET size = 2")
        with pytest.raises(AuditUnavailable, match="somebody else has written"):
            one.tend()

    def test_a_log_that_grew_differently_is_a_fork(self, ledger: MakeLedger, url: str) -> None:
        one, two = ledger(), ledger()
        write(one, "e")
        write(two, "e")
        run(url, "UPDATE events SET leaf_hash = sha256('other') WHERE idx = 1")
        with pytest.raises(AuditUnavailable, match="forked"):
            write(one, "e")

    def test_below_its_own_checkpoint_nobody_starts(self, ledger: MakeLedger, url: str) -> None:
        one = ledger()
        write(one, "e")
        older = root(url)
        write(one, "e")
        one.tend(seal=True)
        run(url, "DELETE FROM events WHERE idx = 1", back_to(1, older))
        with pytest.raises(AuditUnavailable, match="was cut"):
            ledger()


def root(url: str) -> str:
    return str(run(url, "SELECT encode(root, 'hex') FROM head"))


def back_to(size: int, root: str) -> str:
    """Write what takes the head back."""
    return f"UPDATE head SET size = {size}, root = decode('{root}', 'hex')"  # noqa: S608 -- a number and hex digits


class TestRequestsWithoutAnAnswer:
    """A request is closed by its age, once, by anybody; its own process comes too late then."""

    def test_a_recent_one_is_left_to_its_process(self, ledger: MakeLedger, url: str, clock: ManualClock) -> None:
        one = ledger()
        write(one, "credential.requested")
        clock.now += timedelta(minutes=4)
        ledger().tend()
        assert write(one, "credential.issued") == [1]
        assert events(url) == ["credential.requested", "credential.issued"]

    def test_an_old_one_is_closed_once_and_cannot_be_issued(
        self, ledger: MakeLedger, url: str, clock: ManualClock
    ) -> None:
        one, two, three = ledger(), ledger(), ledger()
        write(one, "credential.requested")
        clock.now += timedelta(minutes=6)
        two.tend()
        three.tend()
        one.tend()
        [refusal] = write(one, "credential.issued")
        assert isinstance(refusal, AuditUnavailable)
        assert "took the request for dead" in refusal.cause
        assert events(url) == ["credential.requested", "credential.failed"]
        assert write(one, "e") == [2]  # the broker itself is well

    def test_two_that_find_it_at_once_close_it_once(self, ledger: MakeLedger, url: str, clock: ManualClock) -> None:
        one, two = ledger(), ledger()
        write(one, "credential.requested")
        clock.now += timedelta(minutes=6)
        closing = two._store.records(0, 1)  # noqa: SLF001 -- what both have read before either writes
        assert list(closing)
        one.tend()
        failed = an_event("credential.failed", request_id="r", error="outcome_unknown", outcome="unknown")
        _, [outcome] = two.write([document(failed)])
        assert isinstance(outcome, AuditUnavailable)
        assert events(url) == ["credential.requested", "credential.failed"]

    def test_one_issue_that_comes_too_late_does_not_stop_the_others(
        self, ledger: MakeLedger, clock: ManualClock
    ) -> None:
        one = ledger()
        write(one, "credential.requested", request_id="late")
        clock.now += timedelta(minutes=6)
        one.tend()
        write(one, "credential.requested", request_id="good")
        batch = [an_event("credential.issued", request_id=which) for which in ("late", "good")]
        _, outcomes = one.write([document(event) for event in batch])
        assert [type(outcome).__name__ for outcome in outcomes] == ["AuditUnavailable", "Place"]


@pytest.mark.parametrize("nasty", ["\x00", "\ud800", "x" * 100_000, "\u20ac" * 100_000, "'; DROP TABLE events; --"])
async def test_nothing_that_a_caller_sends_makes_an_append_fail(url: str, signer: Signer, nasty: str) -> None:
    log = await AuditLog.open(store(url), signer)
    for kind in ("requested", "issued"):
        await log.append(
            an_event(f"credential.{kind}", reason=nasty, ticket=nasty, target=nasty, request_id=nasty, lease_id="l")
        )
    assert log.health().ready
    await log.close()
    assert events(url) == ["service.started", "credential.requested", "credential.issued", "service.stopped"]


async def test_a_server_that_was_away_heals_the_log(
    url: str, signer: Signer, postgresql_server: PostgresqlServer
) -> None:
    log = await AuditLog.open(store(url), signer)
    await asyncio.to_thread(postgresql_server.stop, signal.SIGQUIT)
    try:
        with pytest.raises(AuditUnavailable, match="cannot be used"):
            await log.append(an_event())
        assert "refused" in log.health().detail
    finally:
        await asyncio.to_thread(postgresql_server.start)
    await log.append(an_event())
    assert log.health().ready
    await log.close()
    assert await asyncio.to_thread(chain, url) == 3


class Replica:
    """One broker's log in a process of its own."""

    def __init__(self, url: str, key: Path, count: int, at_once: int) -> None:
        script = str(Path(__file__).with_name("replica.py"))
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = subprocess.Popen(
            [sys.executable, script, url, str(key), ORIGIN, str(count), str(at_once)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    def read_until(self, word: str) -> list[str]:
        """Answer what it says up to a line that begins so."""
        said = []
        for line in self.stdout:
            said.append(line.strip())
            if line.startswith(word):
                break
        return said

    def go(self) -> None:
        """Let it begin, or end."""
        self.stdin.write("\n")
        self.stdin.flush()

    def end(self) -> None:
        """Let it close its log, if it still lives."""
        with self.process:
            if self.process.poll() is None:
                self.stdin.close()


@pytest.fixture
def key(url: str, tmp_path: Path) -> Path:
    """Answer a key file, of a log that is made anew with it."""
    path = tmp_path / "audit.key"
    create_signing_key(path, ORIGIN)
    run(url, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    create(store(url), load_signer(path, ORIGIN))
    return path


@pytest.fixture
def replicas(url: str, key: Path) -> Iterator[Callable[..., Sequence[Replica]]]:
    started: list[Replica] = []

    def replicas(number: int, count: int, at_once: int) -> Sequence[Replica]:
        started.extend(Replica(url, key, count, at_once) for _ in range(number))
        for each in started:
            assert each.read_until("open") == ["open"]
        return started

    yield replicas
    for each in started:
        each.process.kill()
        with each.process:
            pass


def acknowledged(said: Sequence[str]) -> dict[int, str]:
    return {int(line.split()[1]): line.split()[2] for line in said if line.startswith("ack")}


def stored(url: str) -> dict[int, str]:
    pairs = run(url, "SELECT string_agg(idx || ' ' || encode(leaf_hash, 'hex'), ',') FROM events").split(",")
    return {int(pair.split()[0]): pair.split()[1] for pair in pairs}


def test_eight_processes_make_one_chain(replicas: Callable[..., Sequence[Replica]], url: str) -> None:
    started = replicas(8, 500, 10)
    for each in started:
        each.go()
    said = [each.read_until("done") for each in started]
    acks = [acknowledged(lines) for lines in said]
    assert [len(each) for each in acks] == [500] * 8
    together = {index: hashed for each in acks for index, hashed in each.items()}
    assert len(together) == 4000
    for each in started:
        each.end()
    kept = stored(url)
    assert together.items() <= kept.items()
    assert len(kept) == chain(url) == 4000 + 2 * 8


def test_a_process_that_is_killed_loses_nothing_and_stops_nobody(
    replicas: Callable[..., Sequence[Replica]], url: str
) -> None:
    victim, other = replicas(2, 2000, 4)
    for each in (victim, other):
        each.go()
    first = victim.read_until("ack")
    victim.process.send_signal(signal.SIGKILL)
    acks = acknowledged([*first, *victim.read_until("never")]) | acknowledged(other.read_until("done"))
    other.end()
    assert acks.items() <= stored(url).items()
    assert chain(url) >= 2000


def test_a_server_that_is_killed_loses_nothing_that_was_acknowledged(
    replicas: Callable[..., Sequence[Replica]], url: str, postgresql_server: PostgresqlServer
) -> None:
    started = replicas(2, 3000, 4)
    for each in started:
        each.go()
    acks = acknowledged([line for each in started for line in each.read_until("ack")])
    postgresql_server.stop(signal.SIGQUIT)
    postgresql_server.start()
    for each in started:
        acks |= acknowledged(each.read_until("done"))
        each.end()
    assert acks.items() <= stored(url).items()
    assert chain(url) >= len(acks) > 0


async def test_a_standby_that_is_promoted_has_all_that_was_acknowledged(
    url: str, signer: Signer, postgresql_server: PostgresqlServer
) -> None:
    standby = await asyncio.to_thread(PostgresqlServer, postgresql_server)
    name = url.rpartition("/")[2]
    both = f"127.0.0.1:{postgresql_server.port},127.0.0.1:{standby.port}/{name}?target_session_attrs=read-write"
    acks: dict[int, str] = {}
    try:
        await asyncio.to_thread(standby.start)
        await asyncio.to_thread(be_synchronous, postgresql_server)
        log = await AuditLog.open(store(f"postgresql://app@{both}"), signer)
        appending = asyncio.create_task(append_on_and_on(log, acks))
        await until_more_than(50, acks, log)
        await asyncio.to_thread(postgresql_server.stop, signal.SIGQUIT)
        before = len(acks)
        await asyncio.to_thread(run, standby.url(name), "SELECT pg_promote()")
        await until_more_than(before + 50, acks, log)
        appending.cancel()
        assert not log.health().detail
        await log.close()
        assert acks.items() <= (await asyncio.to_thread(stored, standby.url(name))).items()
        assert await asyncio.to_thread(chain, standby.url(name)) >= len(acks)
    finally:
        await asyncio.to_thread(standby.remove)
        postgresql_server.configure()
        await asyncio.to_thread(postgresql_server.start)


def be_synchronous(server: PostgresqlServer) -> None:
    """Acknowledge from now on only what the standby has too."""
    server.configure(synchronous_standby_names="*")
    server.reload()
    while server.value("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") != 1:
        pass


async def append_on_and_on(log: AuditLog, acks: dict[int, str]) -> None:
    while True:
        try:
            receipt = await log.append(an_event())
        except AuditUnavailable:
            await asyncio.sleep(0.02)
        else:
            acks[receipt.index] = receipt.leaf_hash.hex()


async def until_more_than(number: int, acks: dict[int, str], log: AuditLog) -> None:
    async with asyncio.timeout(40):
        while len(acks) <= number:
            assert "until" not in log.health().detail, log._ledger.poison  # noqa: SLF001 -- the reason is for the log
            await asyncio.sleep(0.01)


def test_a_process_that_stood_still_goes_on_where_the_others_are(
    replicas: Callable[..., Sequence[Replica]], url: str
) -> None:
    sleeper, awake = replicas(2, 400, 4)
    sleeper.go()
    acks = acknowledged(sleeper.read_until("ack"))
    sleeper.process.send_signal(signal.SIGSTOP)
    awake.go()
    acks |= acknowledged(awake.read_until("done"))
    sleeper.process.send_signal(signal.SIGCONT)
    acks |= acknowledged(sleeper.read_until("done"))
    for each in (sleeper, awake):
        each.end()
    assert acks.items() <= stored(url).items()
    assert chain(url) == 800 + 4
