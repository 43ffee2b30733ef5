from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.audit.checkpoints import Signer
from broker.audit.chunks import Chunking, chunks, look, members_of
from broker.audit.evidence import open_database
from broker.audit.leaves import parse
from broker.audit.merkle import leaf_hash
from broker.audit.runs import Requests
from broker.audit.verification import verify_database
from broker.model import Event
from tests.audit.conftest import verified, write_log
from tests.doubles.audit import BusyExecutor, InterruptedExecutor, an_event

LEVEL = 2
"""Chunks of four records."""
OF_A_REQUEST = ("credential.requested", "credential.issued", "credential.failed", "credential.denied")
KINDS = (*OF_A_REQUEST, "audit.read")


@pytest.fixture
def log(pristine: Path, tmp_path: Path) -> Path:
    """Answer a copy of a log of 64 events, sealed at 0, 16, 32, 48 and 64."""
    return Path(shutil.copy(pristine, tmp_path / "audit.db"))


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def unclear(path: Path, level: int = LEVEL) -> list[int]:
    """Answer where the chunks begin of which nothing is said."""
    return [first for first in range(0, 64, 1 << level) if look(path, first, level) is None]


# -- one chunk


def test_a_chunk_in_order_is_known_with_its_root_and_those_of_its_checkpoints(log: Path) -> None:
    whole, half, later = look(log, 0, 6), look(log, 0, 5), look(log, 32, 5)
    assert whole
    assert half
    assert later
    assert set(whole.prefixes) == {16, 32, 48, 64}
    assert (whole.prefixes[64], whole.prefixes[32]) == (whole.root, half.root)
    assert set(later.prefixes) == {48, 64}
    with open_database(log) as database:
        stored = {note.size: note.root for note in database.notes()}
    assert dict(whole.prefixes) == {size: root for size, root in stored.items() if size}


def test_nothing_is_said_of_a_chunk_with_any_byte_of_a_record_changed(log: Path) -> None:
    with closing(sqlite3.connect(log, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        rows = connection.execute("SELECT idx, leaf_hash, leaf FROM events WHERE idx IN (1, 6, 12)").fetchall()
        for index, hashed, leaf in rows:
            for column, content in (("leaf", leaf), ("leaf_hash", hashed)):
                update = f"UPDATE events SET {column} = ? WHERE idx = ?"  # noqa: S608 -- this is tampering
                for at in range(len(content)):
                    changed = content[:at] + bytes([content[at] ^ 1 << (at + index) % 8]) + content[at + 1 :]
                    connection.execute(update, (changed, index))
                    assert look(log, index - index % 4, LEVEL) is None
                connection.execute(update, (content, index))
    assert unclear(log) == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET time = time + 1",
        "UPDATE events SET event = 'x'",
        "UPDATE events SET outcome = 'x'",
        "UPDATE events SET actor = 'x'",
        "UPDATE events SET actor = CAST(x'ff' AS TEXT)",
        "UPDATE events SET instance = 'x'",
        "UPDATE events SET account = ''",
        "UPDATE events SET request_id = ''",
        "UPDATE events SET leaf_hash = zeroblob(32)",
        "UPDATE events SET idx = 99",
        "DELETE FROM events",
    ],
)
def test_nothing_is_said_of_a_chunk_whose_rows_are_not_those_of_its_records(log: Path, statement: str) -> None:
    change(log, f"{statement} WHERE idx = 21")
    assert unclear(log) == [20]


def test_nothing_is_said_of_a_chunk_with_a_wrong_node_of_the_tree(tmp_path: Path, signer: Signer) -> None:
    path = tmp_path / "audit.db"
    write_log(path, signer, [an_event() for _ in range(1024)])
    assert [look(path, first, 9) is None for first in (0, 512)] == [False, False]
    change(path, "UPDATE nodes SET hash = zeroblob(32) WHERE idx = 3")
    assert [look(path, first, 9) is None for first in (0, 512)] == [False, True]
    change(path, "DELETE FROM nodes WHERE idx IN (1, 3)")
    assert [look(path, first, 9) is None for first in (0, 512)] == [True, True]


@pytest.mark.parametrize("event", ["service.started", "service.stopped", "audit.pruned"])
def test_nothing_is_said_of_a_chunk_with_an_event_that_a_replay_must_follow(
    tmp_path: Path, signer: Signer, event: str
) -> None:
    events = [an_event(number=number) for number in range(64)]
    events[33] = Event(event=event, outcome="success")
    write_log(tmp_path / "audit.db", signer, events)
    assert unclear(tmp_path / "audit.db") == [32]


@pytest.mark.parametrize("changed", [{"index": True}, {"clock": {"behind": 1}}], ids=repr)
def test_nothing_is_said_of_a_chunk_with_a_member_that_a_replay_must_see(log: Path, changed: dict[str, object]) -> None:
    with open_database(log) as database:
        members = parse(list(database.rows())[1].leaf) | changed
    leaf = json.dumps(members, separators=(",", ":")).encode()
    with closing(sqlite3.connect(log, isolation_level=None)) as connection:
        connection.execute("UPDATE events SET leaf = ?, leaf_hash = ? WHERE idx = 1", (leaf, leaf_hash(leaf)))
    assert unclear(log) == [0]


def test_nothing_is_said_of_what_cannot_be_read(log: Path, tmp_path: Path) -> None:
    assert look(tmp_path / "missing.db", 0, LEVEL) is None
    assert look(log, 64, LEVEL) is None
    log.write_bytes(log.read_bytes()[:4096])
    assert look(log, 0, LEVEL) is None


# -- reading leaves

TEXTS = st.text(max_size=5) | st.sampled_from(['"', "\\", "\x00", "\u2028", "\ud800"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
WRITTEN = st.builds(
    partial(json.dumps),
    st.dictionaries(TEXTS, VALUES, max_size=4),
    ensure_ascii=st.booleans(),
    indent=st.none() | st.just(1),
)
DOUBLED = st.builds(
    lambda name, one, two: f"{{{json.dumps(name)}:{one},{json.dumps(name)}:{two}}}", TEXTS, WRITTEN, WRITTEN
)


@given((WRITTEN | DOUBLED).map(lambda text: text.encode(errors="surrogatepass")) | st.binary(max_size=9))
def test_leaves_are_read_as_the_replay_reads_them(leaf: bytes) -> None:
    assert repr(outcome(members_of(), leaf)) == repr(outcome(parse, leaf))


@pytest.mark.parametrize(
    "leaf", [b'{"a":1,"a":2}', b'{"a":{"b":1,"b":1}}', b'{"a" :1}', b'{"a":NaN}', b"[]", b"1", b"", b"\xef\xbb\xbf{}"]
)
def test_leaves_that_are_no_canonical_object_are_read_as_the_replay_reads_them(leaf: bytes) -> None:
    assert outcome(members_of(), leaf) == outcome(parse, leaf)


def outcome(read: object, leaf: bytes) -> object:
    assert callable(read)
    try:
        return read(leaf)
    except ValueError as problem:
        return str(problem)


def test_without_the_packages_json_library_the_same_is_said(log: Path) -> None:
    script = (
        "import sys; sys.modules['orjson'] = None;"
        "from pathlib import Path; from broker.audit.chunks import look;"
        f"print([look(Path({str(log)!r}), first, 3).root.hex() for first in range(0, 64, 8)])"
    )
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    printed = subprocess.run(
        [sys.executable, "-c", script], check=True, env=environment, capture_output=True, text=True
    )
    known = [look(log, first, 3) for first in range(0, 64, 8)]
    assert printed.stdout.strip() == str([chunk.root.hex() for chunk in known if chunk])


# -- requests across chunks


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from("abc")), max_size=40), st.integers(1, 8))
def test_requests_followed_part_by_part_are_those_followed_at_once(events: list[tuple[str, str]], step: int) -> None:
    whole, parts = Requests(), Requests()
    for first in range(0, len(events), step):
        part = Requests(set())
        for index, (event, request_id) in enumerate(events[first : first + step], first):
            whole.take(event, index, {"request_id": request_id})
            part.take(event, index, {"request_id": request_id})
        parts.add(part)
    assert parts.open() == whole.open()


# -- whole logs

EVENTS = st.lists(
    st.builds(
        an_event,
        st.sampled_from(KINDS),
        st.integers(0, 3),
        reason=st.sampled_from(["", "plain", 'with "quotes"', "Zürich", "a\nb"]),
    )
    | st.sampled_from([Event(event=event, outcome="success") for event in ("service.started", "service.stopped")]),
    min_size=1,
    max_size=40,
)
DAMAGE = st.lists(
    st.sampled_from(
        [
            "DELETE FROM events WHERE idx = {}",
            "DELETE FROM events WHERE idx >= {}",
            "UPDATE events SET idx = idx + 100 WHERE idx = {}",
            "UPDATE events SET idx = -1 - idx WHERE idx = {}",
            "UPDATE events SET leaf = leaf || x'20' WHERE idx = {}",
            "UPDATE events SET leaf = replace(leaf, 'alice', 'malice') WHERE idx = {}",
            "UPDATE events SET leaf = CAST(replace(leaf, 'alice', 'mallo') AS BLOB) WHERE idx = {}",
            "UPDATE events SET leaf_hash = zeroblob(32) WHERE idx = {}",
            "UPDATE events SET actor = 'x' WHERE idx = {}",
            "UPDATE events SET time = time - 1 WHERE idx = {}",
            "UPDATE events SET event = 'credential.requested' WHERE idx = {}",
            "UPDATE head SET size = {}",
            "UPDATE head SET root = zeroblob(32)",
            "DELETE FROM checkpoints WHERE size >= {}",
            "DELETE FROM checkpoints WHERE size = {}",
            "UPDATE checkpoints SET size = size + 1 WHERE size = {}",
            "UPDATE checkpoints SET note = replace(note, 'A', 'B') WHERE size >= {}",
            "UPDATE checkpoints SET root = zeroblob(32) WHERE size >= {}",
            "INSERT INTO nodes SELECT 0, idx, leaf_hash FROM events WHERE idx <= {}",
            "INSERT INTO nodes VALUES(0, {}, zeroblob(32))",
            "INSERT INTO nodes VALUES(8, {}, zeroblob(32))",
            "DELETE FROM open_requests WHERE idx <= {}",
            "INSERT OR IGNORE INTO open_requests VALUES({}, 'request-1')",
        ]
    ).flatmap(lambda statement: st.integers(0, 40).map(statement.format)),
    max_size=2,
)


@settings(max_examples=100, deadline=None)
@given(events=EVENTS, seal_every=st.integers(1, 20), damage=DAMAGE)
def test_a_log_in_chunks_is_reported_as_record_by_record(
    signer: Signer, events: list[Event], seal_every: int, damage: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state" / "audit.db"
        notes = write_log(path, signer, events, seal_every)
        if damage:
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                for statement in damage:
                    with suppress(sqlite3.IntegrityError):  # then nothing was changed
                        connection.execute(statement)
        verified(path, signer.verifier, notes[1:2])


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("INSERT INTO nodes VALUES(0, 5, zeroblob(32))", "reorder"),
        ("INSERT INTO nodes SELECT 0, idx, leaf_hash FROM events WHERE idx <= 5", "duplicate"),
        ("DELETE FROM open_requests", "projection"),
        ("INSERT INTO open_requests VALUES(21, 'request-21')", "projection"),
    ],
)
def test_what_lies_beside_the_records_of_chunks_is_held_against_them(
    tmp_path: Path, signer: Signer, statement: str, kind: str
) -> None:
    path = tmp_path / "audit.db"
    others = {10: an_event("credential.requested", 10), 21: an_event("credential.requested", 21)}
    others[42] = an_event("credential.issued", 21)
    start = Event(event="service.started", outcome="success")
    write_log(path, signer, [start, *(others.get(number, an_event(number=number)) for number in range(1, 64))], 16)
    assert verified(path, signer.verifier).findings == ()
    change(path, statement)
    assert kind in {finding.kind for finding in verified(path, signer.verifier).findings}


def test_hashes_of_pruned_records_that_were_not_pruned_are_found_beside_chunks(log: Path, signer: Signer) -> None:
    change(log, "INSERT INTO nodes VALUES(0, 5, zeroblob(32))")
    assert verified(log, signer.verifier).findings


def test_chunks_are_passed_over_and_the_rest_is_replayed(log: Path) -> None:
    change(log, "UPDATE events SET actor = 'x' WHERE idx = 21")
    with ThreadPoolExecutor(1) as pool:
        answers = list(chunks(pool, log, range(3, 62), LEVEL))
    assert answers[0] == 4
    assert [answer if isinstance(answer, int) else range(answer.first, answer.end) for answer in answers[1:]] == [
        24 if first == 20 else range(first, first + 4) for first in range(4, 60, 4)
    ]


def test_processes_look_at_a_log(log: Path, signer: Signer) -> None:
    report = verify_database(log, signer.verifier)
    assert verify_database(log, signer.verifier, chunking=Chunking(0, LEVEL)) == report
    change(log, "UPDATE events SET actor = 'x' WHERE idx = 21")
    tampered = verify_database(log, signer.verifier, chunking=Chunking(0, LEVEL))
    assert [(finding.kind, finding.index) for finding in tampered.findings] == [("copy", 21)]


def test_an_index_that_hides_a_record_is_found_by_a_process_too(log: Path, signer: Signer) -> None:
    with closing(sqlite3.connect(log)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'events_by_actor'").fetchone()
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    content = bytearray(log.read_bytes())
    inside = slice((page - 1) * page_size, page * page_size)
    content[inside] = content[inside].replace(b"corp/alice", b"corp/malic", 1)
    log.write_bytes(content)
    report = verify_database(log, signer.verifier, chunking=Chunking(0, LEVEL))
    assert [finding.kind for finding in report.findings] == ["store_damaged"]


@pytest.mark.parametrize("survived", range(6))
def test_processes_that_die_leave_the_rest_to_the_replay(log: Path, signer: Signer, survived: int) -> None:
    @contextmanager
    def dying() -> Iterator[Executor]:
        with InterruptedExecutor(survived) as executor:
            yield executor

    report = verify_database(log, signer.verifier)
    assert verify_database(log, signer.verifier, chunking=Chunking(0, LEVEL, dying)) == report


def test_a_log_that_is_pruned_meanwhile_is_reported_as_it_was(log: Path, signer: Signer) -> None:
    def prune() -> None:
        change(
            log,
            "INSERT INTO nodes SELECT 0, idx, leaf_hash FROM events WHERE idx < 40",
            "DELETE FROM events WHERE idx < 40",
            "DELETE FROM checkpoints WHERE size < 40",
        )

    report = verify_database(log, signer.verifier)
    chunking = Chunking(0, LEVEL, lambda: BusyExecutor(3, prune))
    assert verify_database(log, signer.verifier, chunking=chunking) == report
    assert report.findings == ()
    assert [kind.kind for kind in verify_database(log, signer.verifier).findings] == ["pruned_unannounced"]


def test_processes_end_with_whoever_started_them() -> None:
    script = (
        "import os, time; from broker.audit.chunks import workers\n"
        "with workers() as pool:\n"
        "    print(pool.submit(os.getpid).result(), flush=True); time.sleep(60)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    with subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        worker = int(parent.stdout.readline())
        assert worker != parent.pid
        parent.send_signal(signal.SIGKILL)
    assert ended(worker)


def ended(process: int) -> bool:
    """Wait until a process is gone, or is a zombie that nobody has buried yet."""
    for _ in range(1000):
        try:
            status = Path(f"/proc/{process}/stat").read_text()
        except FileNotFoundError:
            return True
        if status.rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.01)
    return False
