from __future__ import annotations

import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.audit.checkpoints import Signer, VerifierKey
from broker.audit.events import document, encode
from broker.audit.evidence import CannotVerify, Row, export_line, export_rows, open_database
from broker.audit.leaves import search_columns
from broker.audit.merkle import CompactRange, leaf_hash
from broker.audit.replay import Replay
from broker.audit.schema import VERSION
from broker.audit.stores import StoreError
from broker.audit.stores.sqlite import SqliteStore
from broker.audit.verification import Report, verify_export
from broker.model import Event
from tests.audit.conftest import ORIGIN, verified, write_log
from tests.doubles.audit import an_event


@pytest.fixture
def log(pristine: Path, tmp_path: Path) -> Path:
    """Answer a copy of a log of 64 events, sealed at 0, 16, 32, 48 and 64."""
    return Path(shutil.copy(pristine, tmp_path / "audit.db"))


def tamper(path: Path, *statements: str) -> None:
    """Do what somebody with the file and SQLite can do."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.create_function("sha_leaf", 1, leaf_hash)
        connection.create_function("renumbered", 2, renumber)
        for statement in statements:
            connection.execute(statement)


def put_leaf(path: Path, index: int, leaf: bytes) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE events SET leaf = ? WHERE idx = ?", (leaf, index))


def renumber(leaf: bytes, index: int) -> bytes:
    members = json.loads(leaf) | {"index": index}
    return json.dumps(members, sort_keys=True, separators=(",", ":")).encode()


def rebuild_tree(path: Path) -> None:
    """Make head and nodes agree with the leaf hashes, as whoever lacks only the signing key would."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        tree = CompactRange()
        for (hashed,) in connection.execute("SELECT leaf_hash FROM events ORDER BY idx"):
            tree.append(hashed)
        connection.execute("UPDATE head SET size = ?, root = ?", (tree.size, tree.root()))


def classes(report: Report) -> list[tuple[str, int]]:
    return [(finding.kind, finding.index) for finding in report.findings]


def read_rows(path: Path) -> list[Row]:
    with open_database(path) as database:
        return list(database.rows())


def test_an_untouched_log_is_clean(log: Path, signer: Signer) -> None:
    report = verified(log, signer.verifier)
    assert report.findings == ()
    assert (report.origin, report.size, report.sealed, report.unsealed) == (ORIGIN, 64, 64, 0)
    assert report.exit_code(require_sealed=True) == 0


@pytest.mark.parametrize("size", [0, 1, 2, 3, 255, 256, 257, 511, 512, 513])
def test_clean_logs_of_every_awkward_size_raise_no_alarm(tmp_path: Path, signer: Signer, size: int) -> None:
    notes = write_log(tmp_path / "audit.db", signer, [an_event(number=number) for number in range(size)], 100)
    report = verified(tmp_path / "audit.db", signer.verifier, notes)
    assert report.findings == ()
    assert report.size == size


def test_every_byte_of_a_record_counts(signer: Signer) -> None:
    """Flips bits of 64 records; over the records every byte and every bit of it has its turn."""
    leaves = [
        encode(document(Event(event=f"e{index}", outcome="success")), index, "2026-01-31T09:30:00.000Z")
        for index in range(64)
    ]
    rows = [Row(index, leaf_hash(leaf), leaf) for index, leaf in enumerate(leaves)]
    tree = CompactRange()
    for row in rows:
        tree.append(row.leaf_hash)
    note = signer.sign(64, tree.root())
    for row in rows:
        for at in range(row.idx % 4, len(row.leaf), 4):
            changed = row._replace(leaf=flip(row.leaf, at, (at + row.idx // 4) % 8))
            replay = Replay(signer.verifier, [note])
            replay.check([*rows[: row.idx], changed, *rows[row.idx + 1 :]])
            assert classes(replay.report()) == [("edit", row.idx)]


def flip(leaf: bytes, at: int, bit: int) -> bytes:
    return leaf[:at] + bytes([leaf[at] ^ 1 << bit]) + leaf[at + 1 :]


@pytest.mark.parametrize("index", range(64))
def test_a_flipped_bit_in_the_file_is_an_edit_of_that_record(log: Path, signer: Signer, index: int) -> None:
    row = read_rows(log)[index]
    at = random.Random(index).randrange(len(row.leaf))  # noqa: S311 -- a place to flip, no secret
    put_leaf(log, index, flip(row.leaf, at, 0))
    report = verified(log, signer.verifier)
    assert classes(report) == [("edit", index)]
    assert report.exit_code() == 1


@pytest.mark.parametrize("index", [0, 15, 16, 40, 63])
def test_a_changed_leaf_hash_is_told_from_a_changed_record(log: Path, signer: Signer, index: int) -> None:
    tamper(log, f"UPDATE events SET leaf_hash = zeroblob(32) WHERE idx = {index}")  # noqa: S608 -- this is tampering
    report = verified(log, signer.verifier)
    assert classes(report) == [("hash_mismatch", index)]
    assert report.findings[0].recoverable


def test_a_changed_node_of_the_tree_is_found_and_its_records_hold(tmp_path: Path, signer: Signer) -> None:
    write_log(tmp_path / "audit.db", signer, [an_event() for _ in range(600)], 200)
    tamper(tmp_path / "audit.db", "UPDATE nodes SET hash = zeroblob(32) WHERE idx = 1")
    report = verified(tmp_path / "audit.db", signer.verifier)
    assert classes(report) == [("hash_mismatch", 256)]
    assert report.findings[0].recoverable
    tamper(tmp_path / "audit.db", "DELETE FROM nodes")
    assert verified(tmp_path / "audit.db", signer.verifier).exit_code() == 1


RENUMBER = "UPDATE events SET idx = -(idx - 1) WHERE idx > 20"
POSITIVE = "UPDATE events SET idx = -idx WHERE idx < 0"
SWAP = [
    "UPDATE events SET idx = -1 WHERE idx = 20",
    "UPDATE events SET idx = 20 WHERE idx = 21",
    "UPDATE events SET idx = 21 WHERE idx = -1",
]
SWAP_CONTENT = [
    "CREATE TEMP TABLE old AS SELECT * FROM events WHERE idx IN (20, 21)",
    "UPDATE events SET leaf = (SELECT leaf FROM old WHERE old.idx = 41 - events.idx) WHERE idx IN (20, 21)",
    "UPDATE events SET leaf_hash = sha_leaf(leaf) WHERE idx IN (20, 21)",
]
SWAP_LEAVES = SWAP_CONTENT[:2]
SHIFT_UP = "UPDATE events SET idx = -(idx + 1) WHERE idx > 20"
COPY = "INSERT INTO events SELECT 21, leaf_hash, leaf, time, event, outcome, actor, instance, account, request_id FROM"
REWRITE = ["UPDATE events SET leaf = renumbered(leaf, idx)", "UPDATE events SET leaf_hash = sha_leaf(leaf)"]
FORGE = "UPDATE events SET leaf = CAST(replace(CAST(leaf AS TEXT), 'alice', 'mallo') AS BLOB) WHERE idx = 20"
LATER = "UPDATE events SET leaf = CAST(replace(CAST(leaf AS TEXT), ':30:0', ':30:1') AS BLOB) WHERE idx = 20"


@pytest.mark.parametrize(
    ("statements", "found"),
    [
        pytest.param(["DELETE FROM events WHERE idx = 20"], ("gap", 20), id="a record is deleted"),
        pytest.param(["DELETE FROM events WHERE idx < 3"], ("gap", 0), id="the first records are deleted"),
        pytest.param(
            ["DELETE FROM events WHERE idx = 20", RENUMBER, POSITIVE], ("gap", 20), id="and the rest renumbered"
        ),
        pytest.param(SWAP, ("reorder", 20), id="two neighbours swap places"),
        pytest.param(SWAP_CONTENT, ("reorder", 20), id="two neighbours swap contents"),
        pytest.param(SWAP_LEAVES, ("reorder", 20), id="two neighbours swap leaves, not hashes"),
        pytest.param(
            [SHIFT_UP, POSITIVE, f"{COPY} events WHERE idx = 20"], ("duplicate", 21), id="a record is doubled"
        ),
        pytest.param(["DELETE FROM events WHERE idx >= 60"], ("truncation", 60), id="the tail is cut"),
        pytest.param([FORGE], ("edit", 20), id="a name is changed"),
        pytest.param([LATER], ("edit", 20), id="a time is changed"),
        pytest.param([FORGE, REWRITE[1]], ("rewritten", 16), id="a name is changed, with its hash"),
        pytest.param(["UPDATE head SET root = zeroblob(32)"], ("head", 64), id="the head's root is changed"),
        pytest.param(["UPDATE head SET size = 65"], ("truncation", 64), id="the head's size is larger"),
        pytest.param(["UPDATE head SET size = 60"], ("head", 64), id="the head's size is smaller"),
        pytest.param(["DELETE FROM head"], ("head", 64), id="the head is removed"),
        pytest.param(["DELETE FROM checkpoints"], ("no_checkpoint", 0), id="every checkpoint is removed"),
        pytest.param(["UPDATE events SET actor = 'x' WHERE idx = 9"], ("copy", 9), id="a search column lies"),
        pytest.param(["UPDATE events SET time = 0 WHERE idx = 9"], ("copy", 9), id="a search time lies"),
        pytest.param(
            ["UPDATE checkpoints SET note = replace(note, char(10) || '32', char(10) || '33') WHERE size = 32"],
            ("bad_signature", 32),
            id="a checkpoint is changed",
        ),
        pytest.param(
            ["UPDATE checkpoints SET root = zeroblob(32) WHERE size = 32"],
            ("bad_checkpoint", 32),
            id="a root beside it",
        ),
        pytest.param(
            ["CREATE TRIGGER t AFTER INSERT ON events BEGIN SELECT 1; END"], ("schema", 0), id="a trigger is added"
        ),
        pytest.param(
            ["ALTER TABLE events RENAME TO real_events", "CREATE VIEW events AS SELECT * FROM real_events"],
            ("schema", 0),
            id="a view stands in for the table",
        ),
        pytest.param(
            ["ALTER TABLE events ADD COLUMN shadow TEXT AS (event)"], ("schema", 0), id="a computed column is added"
        ),
    ],
)
def test_tampering_is_found_with_class_and_first_index(
    log: Path, signer: Signer, statements: list[str], found: tuple[str, int]
) -> None:
    tamper(log, *statements)
    report = verified(log, signer.verifier)
    assert classes(report)[0] == found
    assert report.exit_code() == 1


def test_a_record_deleted_with_everything_recomputed_but_the_signatures_is_found(log: Path, signer: Signer) -> None:
    tamper(log, "DELETE FROM events WHERE idx = 20", RENUMBER, POSITIVE, *REWRITE)
    rebuild_tree(log)
    assert classes(verified(log, signer.verifier))[0] == ("rewritten", 16)


def test_a_record_inserted_with_everything_recomputed_but_the_signatures_is_found(log: Path, signer: Signer) -> None:
    tamper(log, SHIFT_UP, POSITIVE, f"{COPY} events WHERE idx = 20", *REWRITE)
    rebuild_tree(log)
    assert classes(verified(log, signer.verifier))[0] == ("rewritten", 16)


def test_an_edit_in_the_unsealed_tail_is_found_by_the_head(tmp_path: Path, signer: Signer) -> None:
    path = tmp_path / "audit.db"
    write_log(path, signer, [an_event(number=number) for number in range(10)])
    tamper(path, "DELETE FROM checkpoints WHERE size > 0")
    assert verified(path, signer.verifier).unsealed == 10
    tamper(path, FORGE.replace("20", "5"))
    assert classes(verified(path, signer.verifier))[0] == ("edit", 5)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: json.dumps(json.loads(text)), id="spacing"),
        pytest.param(lambda text: json.dumps(json.loads(text), separators=(",", ":"))[::1], id="escapes"),
        pytest.param(lambda text: unicodedata.normalize("NFD", text), id="normal form"),
        pytest.param(lambda text: text.replace('"index":0', '"index":0.0'), id="number"),
        pytest.param(lambda text: text + "\n", id="line end"),
        pytest.param(lambda text: "\ufeff" + text, id="byte order mark"),
    ],
)
def test_bytes_are_the_truth_not_what_they_mean(tmp_path: Path, signer: Signer, change: Callable[[str], str]) -> None:
    path = tmp_path / "audit.db"
    write_log(path, signer, [an_event(reason="Zürich: \u00e9")])
    leaf = change(read_rows(path)[0].leaf.decode()).encode()
    assert leaf != read_rows(path)[0].leaf
    put_leaf(path, 0, leaf)
    assert classes(verified(path, signer.verifier))[0] == ("edit", 0)


def test_a_record_with_a_doubled_member_is_refused_even_when_it_was_signed(signer: Signer) -> None:
    leaf = b'{"actor":{},"actor":{},"index":0}'
    replay = Replay(signer.verifier, [signer.sign(1, leaf_hash(leaf))])
    replay.check([Row(0, leaf_hash(leaf), leaf)])
    assert classes(replay.report()) == [("malformed", 0)]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        pytest.param("DROP INDEX events_by_actor", "'events_by_actor' is missing", id="an index is dropped"),
        pytest.param("CREATE TABLE x(a)", "'x' does not belong there", id="a table is added"),
        pytest.param("CREATE VIEW v AS SELECT 1", "'v' does not belong there", id="a view is added"),
        pytest.param("DROP TABLE open_requests", "missing", id="a table is dropped"),
        pytest.param("ALTER TABLE events ADD COLUMN z TEXT DEFAULT 'x'", "not defined as", id="a column is added"),
        pytest.param("PRAGMA user_version=0", "version 0", id="the version is older"),
        pytest.param("PRAGMA user_version=-7", "version -7", id="the version is negative"),
        pytest.param(
            "UPDATE sqlite_schema SET sql = replace(sql, 'actor TEXT', 'actor TEXT COLLATE NOCASE')",
            "the table 'events' is not defined as it was made",
            id="a collation is changed",
        ),
        pytest.param(
            "UPDATE sqlite_schema SET sql = sql || ' WHERE actor = 1' WHERE name = 'events_by_actor'",
            "the index 'events_by_actor' is not defined as it was made",
            id="an index is made partial",
        ),
        pytest.param(
            "UPDATE sqlite_schema SET sql = replace(sql, ' CHECK(one = 1)', '') WHERE name = 'head'",
            "the table 'head' is not defined as it was made",
            id="a constraint is removed",
        ),
    ],
)
def test_tables_that_are_not_those_of_the_broker_are_found_and_not_opened(
    log: Path, signer: Signer, statement: str, message: str
) -> None:
    log.chmod(0o600)
    tamper(log, "PRAGMA writable_schema=ON", statement)
    report = verified(log, signer.verifier)
    assert classes(report) == [("schema", 0)]
    assert message in report.findings[0].message
    assert report.exit_code() == 1
    with pytest.raises(StoreError, match=re.escape(message)):
        SqliteStore(log).open()


def test_the_layout_of_the_schema_in_the_file_does_not_matter(log: Path, signer: Signer) -> None:
    tamper(log, "PRAGMA writable_schema=ON", "UPDATE sqlite_schema SET sql = replace(sql, ' ', char(10) || ' ')")
    assert verified(log, signer.verifier).findings == ()


def test_the_log_of_a_newer_broker_cannot_be_verified(log: Path, signer: Signer) -> None:
    tamper(log, f"PRAGMA user_version={VERSION + 1}")
    with pytest.raises(CannotVerify, match=f"version {VERSION + 1}"):
        verified(log, signer.verifier)


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        pytest.param("INSERT INTO open_requests VALUES(2, 'request-1')", 2, id="one that was issued"),
        pytest.param("INSERT INTO open_requests VALUES(77, 'x')", 77, id="one that never was"),
        pytest.param("UPDATE open_requests SET request_id = 'x'", 1, id="another id"),
        pytest.param("UPDATE open_requests SET idx = 2", 1, id="another place"),
        pytest.param("DELETE FROM open_requests", 1, id="none left"),
    ],
)
def test_a_list_of_open_requests_that_is_not_that_of_the_records_is_found(
    tmp_path: Path, signer: Signer, statement: str, index: int
) -> None:
    path = tmp_path / "audit.db"
    kinds = [("service.started", 9), ("credential.requested", 0), ("credential.requested", 1), ("credential.issued", 1)]
    write_log(path, signer, [an_event(kind, number) for kind, number in kinds])
    assert verified(path, signer.verifier).exit_code(require_sealed=True) == 0
    tamper(path, statement)
    report = verified(path, signer.verifier)
    assert classes(report) == [("projection", index)]
    assert report.findings[0].recoverable
    assert report.exit_code() == 1


def test_bytes_after_the_database_are_found(log: Path, signer: Signer) -> None:
    with log.open("ab") as file:
        file.write(b"one more thing")
    assert classes(verified(log, signer.verifier)) == [("trailing_bytes", 0)]


def test_an_index_that_hides_a_record_from_searches_is_found(log: Path, signer: Signer) -> None:
    with closing(sqlite3.connect(log)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'events_by_actor'").fetchone()
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    content = bytearray(log.read_bytes())
    page_bytes = content[(page - 1) * page_size : page * page_size]
    content[(page - 1) * page_size : page * page_size] = page_bytes.replace(b"corp/alice", b"corp/malic")
    log.write_bytes(content)
    assert classes(verified(log, signer.verifier))[0][0] == "store_damaged"


# -- against what was kept elsewhere


def test_a_log_that_was_cut_with_its_own_checkpoints_is_found_by_one_kept_elsewhere(
    tmp_path: Path, signer: Signer
) -> None:
    events = [an_event(number=number) for number in range(40)]
    notes = write_log(tmp_path / "audit.db", signer, events, 20)
    path = tmp_path / "older" / "audit.db"
    write_log(path, signer, events[:20], 20)
    assert verified(path, signer.verifier).exit_code() == 0
    report = verified(path, signer.verifier, notes[-1:])
    assert classes(report) == [("rollback", 20)]


def test_a_log_that_went_on_differently_after_a_restore_is_a_fork(tmp_path: Path, signer: Signer) -> None:
    common = [an_event(number=number) for number in range(20)]
    notes = write_log(tmp_path / "a" / "audit.db", signer, [*common, *[an_event(reason="a")] * 20], 20)
    write_log(tmp_path / "b" / "audit.db", signer, [*common, *[an_event(reason="b")] * 30], 20)
    report = verified(tmp_path / "b" / "audit.db", signer.verifier, notes)
    assert classes(report) == [("fork", 20)]


def test_the_log_of_another_broker_is_refused(tmp_path: Path, signer: Signer) -> None:
    other = Signer("other.example.com/audit", Ed25519PrivateKey.generate())
    write_log(tmp_path / "audit.db", other, [an_event()])
    assert {kind for kind, _ in classes(verified(tmp_path / "audit.db", signer.verifier))} == {"bad_signature"}


def test_the_wrong_pinned_key_is_never_a_clean_log(log: Path) -> None:
    wrong = VerifierKey(ORIGIN, Ed25519PrivateKey.generate().public_key().public_bytes_raw())
    assert verified(log, wrong).exit_code() == 1


def test_a_tail_that_is_not_sealed_is_reported_and_fails_only_when_it_must_not_be(
    tmp_path: Path, signer: Signer
) -> None:
    log = tmp_path / "audit.db"
    start = Event(event="service.started", outcome="success")
    write_log(log, signer, [start, *(an_event(number=number) for number in range(63))], 16)
    tamper(log, "DELETE FROM checkpoints WHERE size = 64")
    report = verified(log, signer.verifier)
    assert (report.findings, report.sealed, report.unsealed) == ((), 48, 16)
    assert report.exit_code() == 0
    assert report.exit_code(require_sealed=True) == 1


@pytest.mark.parametrize("path", ["missing.db", "."])
def test_what_cannot_be_read_is_neither_good_nor_bad(tmp_path: Path, signer: Signer, path: str) -> None:
    with pytest.raises(CannotVerify):
        verified(tmp_path / path, signer.verifier)


def test_verifying_while_a_broker_writes_sees_one_moment(database: Path, signer: Signer) -> None:
    write_log(database, signer, [an_event() for _ in range(30)])
    store = SqliteStore(database)
    store.open()
    try:
        report = verified(database, signer.verifier)
    finally:
        store.close()
    assert (report.findings, report.size) == ((), 30)


# -- exports


@pytest.fixture
def export(log: Path, tmp_path: Path) -> Path:
    lines = [export_line(row.idx, row.leaf_hash, row.leaf) for row in read_rows(log)]
    (tmp_path / "export.jsonl").write_bytes(b"".join(lines))
    return tmp_path / "export.jsonl"


@pytest.fixture
def note(log: Path) -> str:
    with open_database(log) as database:
        return max(database.notes()).note


def test_an_export_is_clean_under_its_checkpoint(export: Path, signer: Signer, note: str) -> None:
    report = verify_export(export, signer.verifier, [note])
    assert (report.findings, report.size, report.sealed) == ((), 64, 64)


def test_an_export_alone_proves_nothing(export: Path, signer: Signer) -> None:
    with pytest.raises(CannotVerify):
        verify_export(export, signer.verifier, [])


def rewrite_line(number: int, **members: object) -> Callable[[list[bytes]], list[bytes]]:
    def change(lines: list[bytes]) -> list[bytes]:
        line = json.dumps(json.loads(lines[number]) | members).encode() + b"\n"
        return [*lines[:number], line, *lines[number + 1 :]]

    return change


@pytest.mark.parametrize(
    ("change", "found"),
    [
        pytest.param(lambda lines: lines[:20] + lines[21:], ("gap", 20), id="a line is missing"),
        pytest.param(lambda lines: lines[1:], ("gap", 0), id="the first line is missing"),
        pytest.param(lambda lines: lines[:60], ("rollback", 60), id="the last lines are missing"),
        pytest.param(
            lambda lines: [*lines[:20], lines[21], lines[20], *lines[22:]],
            ("reorder", 20),
            id="two lines change places",
        ),
        pytest.param(lambda lines: [*lines[:20], lines[19], *lines[20:]], ("duplicate", 20), id="a line comes twice"),
        pytest.param(lambda lines: [*lines, b"garbage"], ("trailing_bytes", 64), id="garbage after the last"),
        pytest.param(lambda lines: [b"\xef\xbb\xbf", *lines], ("malformed", 0), id="a byte order mark"),
        pytest.param(lambda lines: [*lines[:9], b"garbage\n", *lines[9:]], ("malformed", 9), id="garbage between"),
        pytest.param(rewrite_line(7, event={"index": 7}), ("copy", 7), id="the event that is shown is changed"),
        pytest.param(rewrite_line(7, leaf="e30="), ("edit", 7), id="the leaf is changed"),
        pytest.param(rewrite_line(7, leaf_hash="e30="), ("hash_mismatch", 7), id="the hash is changed"),
        pytest.param(rewrite_line(7, index=True), ("malformed", 7), id="the index is no number"),
        pytest.param(rewrite_line(7, more=1), ("malformed", 7), id="a member is added"),
    ],
)
def test_tampering_with_an_export_is_found(
    export: Path, signer: Signer, note: str, change: Callable[[list[bytes]], list[bytes]], found: tuple[str, int]
) -> None:
    lines = export.read_bytes().splitlines(keepends=True)
    export.write_bytes(b"".join(change(lines)))
    report = verify_export(export, signer.verifier, [note])
    assert classes(report)[0] == found
    assert report.exit_code() == 1


def test_a_line_that_another_program_wrote_again_without_loss_is_fine(export: Path, signer: Signer, note: str) -> None:
    lines = [json.dumps(json.loads(line), indent=None).encode() for line in export.read_bytes().splitlines()]
    export.write_bytes(b"\r\n".join(lines))
    assert verify_export(export, signer.verifier, [note]).findings == ()


def test_one_and_one_point_nought_are_not_the_same_event(export: Path, signer: Signer, note: str) -> None:
    event = json.loads(export.read_bytes().splitlines()[1])["event"] | {"index": 1.0}
    lines = export.read_bytes().splitlines(keepends=True)
    export.write_bytes(b"".join(rewrite_line(1, event=event)(lines)))
    assert classes(verify_export(export, signer.verifier, [note])) == [("copy", 1)]


# -- chance


def test_random_damage_to_the_file_never_crashes_and_never_passes_for_clean(
    log: Path, signer: Signer, tmp_path: Path
) -> None:
    whole, truth = log.read_bytes(), [(row.leaf, row.leaf_hash) for row in read_rows(log)]
    chance = random.Random(20260131)  # noqa: S311 -- damage, no secret
    damaged = tmp_path / "damaged.db"
    for _ in range(200):
        content = bytearray(whole)
        for _ in range(chance.choice([1, 1, 2, 50])):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        damaged.write_bytes(content[: chance.choice([len(content)] * 3 + [chance.randrange(len(content))])])
        try:
            clean = verified(damaged, signer.verifier).exit_code() == 0
        except CannotVerify:
            clean = False
        if clean:  # then the damage fell on bytes that hold nothing
            assert [(row.leaf, row.leaf_hash) for row in read_rows(damaged)] == truth


def test_random_damage_to_an_export_never_crashes_and_never_passes_for_clean(
    export: Path, signer: Signer, note: str
) -> None:
    whole, truth = export.read_bytes(), export_content(export)
    chance = random.Random(20260131)  # noqa: S311 -- damage, no secret
    for _ in range(200):
        content = bytearray(whole)
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        export.write_bytes(content)
        if verify_export(export, signer.verifier, [note]).exit_code() == 0:
            assert export_content(export) == truth


def export_content(path: Path) -> list[Row]:
    with path.open("rb") as file:
        return list(export_rows(file))


def test_the_verifier_needs_nothing_of_the_service() -> None:
    script = (
        "import sys, broker.audit.verification as v;"
        "loaded = {m for m in sys.modules if m.startswith('broker.')};"
        "assert loaded == {'broker.audit', 'broker.audit.verification', 'broker.audit.evidence', 'broker.audit.leaves',"
        " 'broker.audit.merkle', 'broker.audit.checkpoints', 'broker.audit.runs', 'broker.audit.schema',"
        " 'broker.audit.findings', 'broker.audit.reading', 'broker.audit.receipts', 'broker.audit.replay',"
        " 'broker.audit.rotation', 'broker.audit.chunks'}, loaded;"
        "assert not {'orjson', 'aiohttp', 'pydantic', 'asyncio'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env=os.environ | {"PYTHONPATH": str(Path.cwd())})


def test_search_columns_of_a_log_are_those_of_its_records(log: Path) -> None:
    assert all(row.copy == search_columns(json.loads(row.leaf)) for row in read_rows(log))
