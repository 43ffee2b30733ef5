"""Faults of process and disk, made at single system calls of a real process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from broker.audit.checkpoints import VerifierKey
from broker.audit.evidence import open_database
from broker.audit.keyfiles import create_signing_key, load_signer
from broker.audit.leaves import parse
from broker.audit.log import AuditLog, create
from broker.audit.stores.sqlite import SqliteStore
from tests.audit.conftest import ORIGIN, verified

ROOT = Path(__file__).parents[2]
COUNT = 6

pytestmark = pytest.mark.real("strace")

Run = Callable[..., list[str]]


@pytest.fixture
def key(database: Path) -> VerifierKey:
    path = database.with_name("audit.key")
    verifier = create_signing_key(path, ORIGIN)
    create(SqliteStore(database), load_signer(path, ORIGIN))
    return verifier


@pytest.fixture
def run(database: Path, key: VerifierKey, tmp_path: Path) -> Run:
    """Answer what runs the appender under strace and tells what it said; the trace is left in `trace`."""
    assert key.name == ORIGIN

    def run(*options: str, count: int = COUNT, dies_before: int = 0) -> list[str]:
        appender = [sys.executable, str(Path(__file__).with_name("appender.py"))]
        arguments = [str(database), str(database.with_name("audit.key")), ORIGIN, str(count), str(dies_before)]
        trace = ["strace", "-f", "-qq", "-y", "-o", str(tmp_path / "trace"), *options]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [*trace, *appender, *arguments], check=False, capture_output=True, text=True, timeout=60, env=environment
        )
        return done.stdout.splitlines()

    return run


def acknowledged(said: Sequence[str]) -> dict[int, str]:
    return {int(words.split()[1]): words.split()[2] for words in said if words.startswith("ack")}


def stored(database: Path) -> dict[int, str]:
    with open_database(database) as opened:
        return {row.idx: row.leaf_hash.hex() for row in opened.rows()}


async def reopen(database: Path) -> None:
    """Start and stop a broker's log, as a restart does."""
    log = await AuditLog.open(SqliteStore(database), load_signer(database.with_name("audit.key"), ORIGIN))
    await log.close()


@pytest.mark.parametrize(
    ("call", "when", "finished"),
    [("pwrite64", when, when > 150) for when in (9, 50, 68, 120, 170)]
    + [("fdatasync", when, when > 10) for when in (3, 5, 6, 10, 11, 13)],
)
async def test_no_acknowledged_event_is_lost_when_the_process_dies_in_a_system_call(
    run: Run, database: Path, key: VerifierKey, call: str, when: int, *, finished: bool
) -> None:
    said = run("-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={when}")
    assert (len(acknowledged(said)) == COUNT) == finished
    await reopen(database)
    assert acknowledged(said).items() <= stored(database).items()
    assert verified(database, key).exit_code(require_sealed=True) == 0


def test_an_event_is_synced_before_it_is_acknowledged(run: Run, tmp_path: Path) -> None:
    said = run("-e", "trace=fdatasync,write")
    assert len(acknowledged(said)) == COUNT
    synced = 0
    acknowledgements = 0
    waiting: set[str] = set()
    for line in (tmp_path / "trace").read_text().splitlines():
        thread = line.split()[0]
        if re.search(r"fdatasync\(\d+<[^>]*audit\.db-wal>\) += 0", line):
            synced += 1
        elif re.search(r"fdatasync\(\d+<[^>]*audit\.db-wal> <unfinished", line):
            waiting.add(thread)
        elif re.search(r"fdatasync resumed>.* = 0", line) and thread in waiting:
            waiting.discard(thread)
            synced += 1
        elif re.search(r"write\(1<[^>]*>, \"ack ", line):
            acknowledgements += 1
            assert synced > acknowledgements  # one for the start of the service, and one for each event
    assert acknowledgements == COUNT


async def test_a_failed_sync_closes_the_log_until_a_restart(run: Run, database: Path, key: VerifierKey) -> None:
    said = run("-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=6")
    first_refusal = said.index("refused")
    assert 0 < first_refusal < COUNT
    assert set(said[first_refusal:]) == {"refused", "ready False"}
    await reopen(database)
    assert acknowledged(said).items() <= stored(database).items()
    assert verified(database, key).exit_code(require_sealed=True) == 0


def newest(database: Path) -> object:
    with open_database(database) as opened:
        return [parse(row.leaf)["event"] for row in opened.rows()][-1]


@pytest.mark.parametrize(
    "deaths",
    [
        pytest.param([(1, "service.started")], id="after the start"),
        pytest.param([(2, "service.stopped")], id="after the stop"),
        pytest.param([(1, "service.started"), (2, "service.started"), (2, "service.started")], id="three starts"),
        pytest.param([(1, "service.started"), (1, "service.started")], id="before it sealed what was left"),
        pytest.param([(2, "service.stopped"), (3, "service.stopped"), (2, "service.started")], id="stops and a start"),
    ],
)
async def test_a_broker_that_died_before_a_checkpoint_starts_again(
    run: Run, database: Path, key: VerifierKey, deaths: list[tuple[int, str]]
) -> None:
    for checkpoint, last in deaths:
        run("-e", "trace=none", count=3, dies_before=checkpoint)
        assert newest(database) == last
        report = verified(database, key)
        assert (report.findings, report.unsealed > 0) == ((), True)
    await reopen(database)
    assert verified(database, key).exit_code(require_sealed=True) == 0


async def test_a_broker_that_died_again_and_again_at_its_start_starts_again(
    run: Run, database: Path, key: VerifierKey
) -> None:
    sizes = []
    for when in (6, 2, 3, 4, 5, 6, 7):
        run("-e", "trace=fdatasync", "-e", f"inject=fdatasync:signal=KILL:when={when}", count=3)
        report = verified(database, key)
        assert report.findings == ()
        sizes.append((report.size, report.unsealed))
    assert len(set(sizes)) > 3
    await reopen(database)
    assert verified(database, key).exit_code(require_sealed=True) == 0


@pytest.mark.parametrize("error", ["EIO", "EROFS"])
async def test_a_failed_write_is_never_acknowledged(run: Run, database: Path, key: VerifierKey, error: str) -> None:
    said = run("-e", "trace=pwrite64", "-e", f"inject=pwrite64:error={error}:when=70")
    assert "refused" in said
    await reopen(database)
    assert acknowledged(said).items() <= stored(database).items()
    assert verified(database, key).exit_code(require_sealed=True) == 0


@pytest.mark.parametrize("error", ["ENOSPC", "EDQUOT"])
async def test_a_full_disk_refuses_and_heals_by_itself_when_there_is_room_again(
    run: Run, database: Path, key: VerifierKey, error: str
) -> None:
    said = run("-e", "trace=pwrite64", "-e", f"inject=pwrite64:error={error}:when=70..72")
    assert "refused" in said
    if error == "ENOSPC":  # to SQLite a quota is an I/O error like any other: that closes the log
        assert said[-2].startswith("ack")
        assert said[-1] == "ready True"
    await reopen(database)
    assert acknowledged(said).items() <= stored(database).items()
    assert verified(database, key).exit_code(require_sealed=True) == 0


def test_a_folder_that_cannot_be_synced_stops_the_creation(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path; from broker.audit.stores.sqlite import SqliteStore;"
        "from broker.audit.stores import StoredCheckpoint, StoreError\n"
        f"try: SqliteStore(Path({str(tmp_path / 'state' / 'audit.db')!r})).create(StoredCheckpoint(0, b'', 0, ''))\n"
        "except StoreError as refusal: print('refused', refusal)"
    )
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "-e", "inject=fsync:error=EIO"]
    done = subprocess.run(
        [*command, sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.startswith("refused")
