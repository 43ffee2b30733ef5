"""What operators do while the service has the log: left in the spool, recorded once, and nothing foreign among it."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from broker.audit import spool as spooling
from broker.audit.spool import Spool
from broker.errors import AuditUnavailable
from broker.model import CredentialFacts, Event, InstanceRef
from tests.doubles.audit import ManualClock, an_event

ADDED = Event(
    event="keys.added",
    outcome="success",
    target="main/eu-west-1/team-key",
    credential=CredentialFacts(key_pair="team-key"),
    details={"fingerprint": "ab:cd", "times": 2, "forced": True, "files": ("a", "b"), "counts": {"x": 1}},
)


class Log:
    """Keeps what is recorded; while it is broken, nothing is."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.broken = False

    async def append(self, event: Event) -> None:
        if self.broken:
            raise AuditUnavailable("the disk is full")
        self.events.append(event)

    @property
    def names(self) -> list[str]:
        return [event.event for event in self.events]


@pytest.fixture
def spool(database: Path) -> Spool:
    database.parent.mkdir(mode=0o700)
    return Spool(database, ManualClock())


@pytest.fixture
def log() -> Log:
    return Log()


def files(spool: Spool) -> list[Path]:
    return sorted(spool.folder.iterdir())


async def test_an_event_comes_back_as_it_was_with_its_id_and_time(spool: Spool, log: Log) -> None:
    await spool.append(ADDED)
    assert await spool.collect(log.append) == 1
    [event] = log.events
    marks = {name: event.details[name] for name in ("spooled_at", "spool_id")}
    assert replace(event, details={k: v for k, v in event.details.items() if k not in marks}) == ADDED
    assert marks["spooled_at"] == "2026-01-31T09:30:00.000Z"
    assert len(str(marks["spool_id"])) == 32
    assert files(spool) == []


async def test_events_are_recorded_in_the_order_in_which_they_were_left_and_only_once(spool: Spool, log: Log) -> None:
    for number in range(12):
        await spool.append(replace(ADDED, target=f"main/eu-west-1/key-{number}"))
    await spool.collect(log.append)
    await spool.collect(log.append)
    assert [event.target for event in log.events] == [f"main/eu-west-1/key-{number}" for number in range(12)]


async def test_no_spool_means_nothing_to_record(spool: Spool, log: Log) -> None:
    assert await spool.collect(log.append) == 0
    assert not spool.folder.exists()


async def test_the_spool_is_for_us_alone(spool: Spool, log: Log) -> None:
    await spool.append(ADDED)
    assert stat.S_IMODE(spool.folder.stat().st_mode) == 0o700
    [path] = files(spool)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    spool.folder.chmod(0o777)
    await spool.collect(log.append)
    assert stat.S_IMODE(spool.folder.stat().st_mode) == 0o700


async def test_what_the_log_does_not_take_goes_on_waiting(spool: Spool, log: Log) -> None:
    await spool.append(ADDED)
    log.broken = True
    with pytest.raises(AuditUnavailable, match="full"):
        await spool.collect(log.append)
    log.broken = False
    await spool.collect(log.append)
    assert log.names == ["keys.added"]


async def test_a_crash_between_record_and_removal_shows_by_the_same_id(spool: Spool, log: Log, database: Path) -> None:
    await spool.append(ADDED)
    [path] = files(spool)
    content = path.read_bytes()
    await spool.collect(log.append)
    path.write_bytes(content)  # as it is when the machine stopped before the removal was durable
    path.chmod(0o600)
    await Spool(database).collect(log.append)
    first, again = log.events
    assert first == again


async def test_what_cannot_be_removed_is_not_recorded_again_by_the_same_process(
    spool: Spool, log: Log, database: Path
) -> None:
    await spool.append(ADDED)
    [path] = files(spool)
    elsewhere = database.parent / "kept"

    async def append(event: Event) -> None:
        await log.append(event)
        path.rename(elsewhere)
        path.mkdir()  # which cannot be unlinked

    with pytest.raises(AuditUnavailable):
        await spool.collect(append)
    path.rmdir()
    elsewhere.rename(path)
    await spool.collect(log.append)
    assert log.names == ["keys.added"]
    assert files(spool) == []


async def test_one_file_that_cannot_be_cleared_away_does_not_hold_up_the_others(spool: Spool, log: Log) -> None:
    await spool.append(ADDED)
    [bad] = files(spool)
    bad.write_bytes(b"{")
    (spool.folder / f"{bad.name}.rejected").mkdir()  # so that it cannot be set aside
    await spool.append(replace(ADDED, event="keys.removed"))
    for _ in range(3):
        with pytest.raises(AuditUnavailable, match="spool"):
            await spool.collect(log.append)
    assert log.names == ["spool.rejected", "keys.removed"]


@pytest.mark.parametrize(
    "event",
    [
        an_event("keys.added"),
        replace(ADDED, event="credential.issued"),
        replace(ADDED, event="service.stopped"),
        replace(ADDED, event="keys."),
        replace(ADDED, event="keys.added\n"),
        replace(ADDED, outcome="unknown"),
        replace(ADDED, instance=InstanceRef("main", "eu-west-1", "web-1")),
        replace(ADDED, credential=CredentialFacts(key_pair="team-key", certificate_serial=1)),
        replace(ADDED, details={"number": 2**60}),
        replace(ADDED, details={"ünicode": "x"}),
        replace(ADDED, details={"text": "x" * 70_000}),
    ],
)
async def test_what_is_no_event_of_an_operator_s_command_is_refused(spool: Spool, event: Event) -> None:
    with pytest.raises(AuditUnavailable):
        await spool.append(event)
    assert not spool.folder.exists()


async def test_a_spool_that_nobody_collects_fills_up(spool: Spool) -> None:
    await spool.append(ADDED)
    for number in range(spooling.MAX_WAITING - 1):
        (spool.folder / f"{number:020d}.json").touch()
    with pytest.raises(AuditUnavailable, match="does the service run"):
        await spool.append(ADDED)


def changed(**members: object) -> Callable[[dict[str, Any]], object]:
    return lambda document: {**document, **members}


SPOILT: dict[str, Callable[[dict[str, Any]], object]] = {
    "not a table": lambda document: [document],
    "another version": changed(version=2),
    "a member more": changed(actor="corp/alice"),
    "a member less": lambda document: {name: value for name, value in document.items() if name != "target"},
    "a number for a text": changed(target=7),
    "another id": changed(spool_id="0" * 32),
    "no time": changed(spooled_at="yesterday"),
    "no day": changed(spooled_at="2026-02-31T09:30:00.000Z"),
    "the service's event": changed(event="credential.issued"),
    "its own kind": changed(event="spool.rejected"),
    "an unknown outcome": changed(outcome="unknown"),
    "details that are none": changed(details="x"),
    "a fraction": changed(details={"a": 1.5}),
    "a number too large": changed(details={"a": 2**53}),
    "nothing": changed(details={"a": None}),
    "lists of lists": changed(details={"a": [["b"]]}),
    "numbers in a list": changed(details={"a": [1]}),
    "texts in a table": changed(details={"a": {"b": "c"}}),
    "an odd name": changed(details={"a b": "c"}),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT.keys())
async def test_a_spoilt_event_is_set_aside_and_recorded_as_that(
    spool: Spool, log: Log, spoil: Callable[[dict[str, Any]], object]
) -> None:
    await spool.append(ADDED)
    [path] = files(spool)
    path.write_text(json.dumps(spoil(json.loads(path.read_text()))))
    await rejected_once(spool, log, path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 60_000,
        b'{"version": 1, "version": 1}',
        b"9" * 5_000,
        b"NaN",
        b" " * 70_000,
        b'{"details": {"a": {"a": {}}}}',
    ],
    ids=range(9),
)
async def test_what_is_no_event_is_set_aside_and_recorded_as_that(spool: Spool, log: Log, content: bytes) -> None:
    await spool.append(ADDED)
    [path] = files(spool)
    path.write_bytes(content)
    await rejected_once(spool, log, path)


async def rejected_once(spool: Spool, log: Log, path: Path) -> None:
    """Collect three times; what stands behind the bad file is recorded all the same."""
    await spool.append(replace(ADDED, event="keys.removed"))
    for _ in range(3):
        await spool.collect(log.append)
    assert log.names == ["spool.rejected", "keys.removed"]
    assert (log.events[0].outcome, log.events[0].details["file"]) == ("failure", path.name)
    assert [left.name for left in files(spool)] == [f"{path.name}.rejected"]


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "open to others", "odd name"])
async def test_what_is_no_plain_file_of_ours_is_set_aside_unread(spool: Spool, log: Log, kind: str) -> None:
    await spool.append(ADDED)
    [path] = files(spool)
    content = path.read_bytes()
    if kind == "open to others":
        path.chmod(0o660)
    else:
        path.unlink()
    secret = spool.folder.parent / "secret"
    match kind:
        case "link":
            secret.write_bytes(content)
            secret.chmod(0o600)
            path.symlink_to(secret)
        case "pipe":
            os.mkfifo(path, 0o600)
        case "folder":
            path.mkdir()
        case "odd name":
            path = Path(os.fsdecode(os.fsencode(spool.folder) + b"/" + b"\xff\n" + b"x" * 240))
            path.write_bytes(content)
            path.chmod(0o600)
    await spool.collect(log.append)
    await spool.collect(log.append)
    assert log.names == ["spool.rejected"]
    assert all(left.name.endswith(".rejected") for left in files(spool))
    assert secret.exists() == (kind == "link")


async def test_a_spool_that_is_a_link_is_neither_written_nor_read(spool: Spool, log: Log, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    spool.folder.symlink_to(elsewhere)
    for call in (spool.append(ADDED), spool.collect(log.append)):
        with pytest.raises(AuditUnavailable, match="no folder of this user"):
            await call
    assert list(elsewhere.iterdir()) == []


async def test_a_file_that_is_still_being_written_is_left_alone(spool: Spool, log: Log) -> None:
    await spool.append(ADDED)
    [path] = files(spool)
    path.rename(path.with_name(f".{path.name}.tmp"))
    assert await spool.collect(log.append) == 0


@pytest.mark.real("strace")
def test_an_event_is_on_disk_before_its_command_goes_on(database: Path, tmp_path: Path) -> None:
    """The file is synced before it gets its name, and the folder after."""
    database.parent.mkdir(mode=0o700)
    program = (
        "import asyncio, sys, pathlib\n"
        "from broker.audit.spool import Spool\nfrom broker.model import Event\n"
        "asyncio.run(Spool(pathlib.Path(sys.argv[1])).append(Event(event='keys.added', outcome='success')))\n"
    )
    trace = tmp_path / "trace"
    wanted = "trace=fsync,rename,renameat,renameat2"
    command = ["strace", "-f", "-y", "-e", wanted, "-o", str(trace), sys.executable, "-c", program, str(database)]
    subprocess.run(command, check=True, timeout=60)
    steps = [line for line in trace.read_text().splitlines() if "audit.db.spool" in line]
    kinds = ["fsync" if "fsync(" in line else "rename" for line in steps]
    assert kinds == ["fsync", "rename", "fsync"], steps
    assert ".tmp>" in steps[0]
    assert steps[2].partition("<")[2].startswith(str(database) + ".spool>")
