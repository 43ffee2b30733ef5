"""What is kept elsewhere and held against the log: receipts, what anchors hold, archives, earlier keys."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import sqlite3
from argparse import ArgumentParser
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from broker.audit.anchors.notes import line_of, notes_in
from broker.audit.checkpoints import Signer
from broker.audit.evidence import export_line
from broker.audit.keyfiles import load_signer
from broker.audit.log import AuditLog
from broker.audit.merkle import inclusion_proof, nodes_from_rows
from broker.audit.receipts import MalformedReceipt, Receipt
from broker.audit.stores.sqlite import SqliteStore
from broker.audit.stores.sqlite_reader import SqliteReader
from broker.audit.verification import CannotVerify, Report, verify_receipt
from broker.cli.audit import configure, run
from tests.audit.commands import Desk, a_desk
from tests.audit.conftest import ORIGIN, verified, write_log
from tests.doubles.audit import NOW, ManualClock, an_event


def text_of(value: bytes) -> str:
    return base64.b64encode(value).decode()


@pytest.fixture
def log(tmp_path: Path, pristine: Path) -> Path:
    """Answer a copy of a log of 64 events, sealed every 16."""
    return Path(shutil.copy(pristine, tmp_path / "audit.db"))


def complete(database: Path, index: int) -> dict[str, Any]:
    """Answer the receipt of an event under the newest checkpoint, as the service completes it."""
    with closing(SqliteReader(database)) as reader:
        newest = reader.newest_checkpoint()
        assert newest
        [leaf_hash] = reader.hashes(0, index, 1)
        hashes = inclusion_proof(index, newest.size, nodes_from_rows(reader.hashes))
    proof = {"index": index, "size": newest.size, "leaf_hash": text_of(leaf_hash), "hashes": list(map(text_of, hashes))}
    return {"index": index, "leaf_hash": text_of(leaf_hash), "checkpoint": newest.note, "proof": proof}


def receipt(document: object) -> Receipt:
    return Receipt.parse(json.dumps(document))


def kinds(report: Report) -> list[tuple[str, int]]:
    return [(finding.kind, finding.index) for finding in report.findings]


# -- receipts


def test_every_receipt_of_a_log_holds_with_the_log_and_without_it(log: Path, signer: Signer) -> None:
    for index in range(64):
        document = complete(log, index)
        answer = {"lease": {"id": "x"}, "audit": {name: document[name] for name in ("index", "leaf_hash")}}
        assert verified(log, signer.verifier, receipts=[receipt(answer), receipt(document)]).exit_code() == 0
        assert verify_receipt(receipt(document), signer.verifier).exit_code() == 0


def test_a_receipt_for_another_event_names_its_place(log: Path, signer: Signer) -> None:
    other = {**complete(log, 5), "index": 9}
    short = receipt({"index": 9, "leaf_hash": other["leaf_hash"]})
    assert kinds(verified(log, signer.verifier, receipts=[short])) == [("fork", 9)]


def test_a_receipt_beyond_the_end_is_a_rollback(log: Path, signer: Signer) -> None:
    beyond = receipt({"index": 64, "leaf_hash": complete(log, 5)["leaf_hash"]})
    assert kinds(verified(log, signer.verifier, receipts=[beyond])) == [("rollback", 64)]


def test_a_log_that_was_rolled_back_with_all_its_anchors_is_found_by_one_receipt(
    database: Path, signer: Signer
) -> None:
    write_log(database, signer, [an_event(number=number) for number in range(8)])
    older = Path(shutil.copy(database, database.with_name("older.db")))
    ledger = asyncio.run(_append(database, signer, 3))
    assert ledger.index > 8
    kept = receipt({"index": ledger.index, "leaf_hash": text_of(ledger.leaf_hash)})
    assert verified(database, signer.verifier, receipts=[kept]).exit_code() == 0
    assert kinds(verified(older, signer.verifier, receipts=[kept])) == [("rollback", 8)]
    asyncio.run(_append(older, signer, 9))
    assert kinds(verified(older, signer.verifier, receipts=[kept])) == [("fork", ledger.index)]


async def _append(database: Path, signer: Signer, count: int) -> Any:
    log = await AuditLog.open(SqliteStore(database), signer)
    receipts = [await log.append(an_event(number=number)) for number in range(count)]
    await log.close()
    return receipts[-1]


def test_a_receipt_whose_proof_leads_elsewhere_proves_nothing(log: Path, signer: Signer) -> None:
    document = complete(log, 5)
    foreign = complete(log, 6)["proof"]["hashes"]
    for changed in (
        {"proof": {**document["proof"], "hashes": foreign}},
        {"proof": {**document["proof"], "hashes": []}},
        {"proof": {**document["proof"], "size": 63}},
    ):
        forged = receipt({**document, **changed})
        assert kinds(verify_receipt(forged, signer.verifier)) == [("bad_receipt", 5)]
        assert kinds(verified(log, signer.verifier, receipts=[forged])) == [("bad_receipt", 5)]


def test_a_receipt_of_another_log_or_key_is_not_ours(log: Path, signer: Signer) -> None:
    kept = receipt(complete(log, 5))
    stranger = Signer(ORIGIN, Ed25519PrivateKey.generate())
    elsewhere = Signer("elsewhere.example/audit", Ed25519PrivateKey.generate())
    for other in (stranger, elsewhere):
        assert kinds(verify_receipt(kept, other.verifier)) == [("bad_signature", 5)]
    assert verify_receipt(kept, signer.verifier).findings == ()


def test_a_receipt_that_is_not_complete_proves_nothing_by_itself(log: Path, signer: Signer) -> None:
    document = complete(log, 5)
    for part in ({"checkpoint": None}, {"proof": None}):
        with pytest.raises(CannotVerify, match="no checkpoint yet"):
            verify_receipt(receipt({**document, **part}), signer.verifier)


HASH = text_of(bytes(32))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"index": 1}',
        "[" * 100_000,
        json.dumps({"index": -1, "leaf_hash": HASH}),
        json.dumps({"index": 1.5, "leaf_hash": HASH}),
        json.dumps({"index": True, "leaf_hash": HASH}),
        json.dumps({"index": 1 << 60, "leaf_hash": HASH}),
        json.dumps({"index": 1, "leaf_hash": HASH[:-5]}),
        json.dumps({"index": 1, "leaf_hash": "é" * 44}),
        json.dumps({"index": 1, "leaf_hash": None}),
        json.dumps({"index": 1, "leaf_hash": HASH, "checkpoint": 1, "proof": {}}),
        json.dumps({"index": 1, "leaf_hash": HASH, "checkpoint": "x", "proof": []}),
        json.dumps({"index": 1, "leaf_hash": HASH, "checkpoint": "x", "proof": {"index": 2, "leaf_hash": HASH}}),
        json.dumps(
            {"index": 1, "leaf_hash": HASH, "checkpoint": "x", "proof": {"index": 1, "leaf_hash": HASH, "size": 2}}
        ),
    ],
)
def test_what_is_no_receipt_is_refused(text: str) -> None:
    with pytest.raises(MalformedReceipt):
        Receipt.parse(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: (
            st.lists(x) | st.dictionaries(st.sampled_from(["index", "leaf_hash", "audit", "proof", "checkpoint"]), x)
        ),
    )
)
def test_no_document_breaks_the_reader_of_receipts(document: object) -> None:
    with suppress(MalformedReceipt):
        Receipt.parse(json.dumps(document))


# -- what anchors hold


def test_the_notes_of_a_file_and_of_a_syslog_are_found_whatever_stands_between(log: Path) -> None:
    with closing(SqliteReader(log)) as reader:
        notes = [each.note for each in reader.checkpoints(-1, 99)]
    assert list(notes_in("\n".join(notes))) == notes
    assert list(notes_in("junk\n\n" + "\n".join(notes) + "\n" + notes[0][:60])) == notes
    cosigned = notes[1] + "\u2014 witness.example AAAA\n"
    assert list(notes_in("\n".join([notes[0], cosigned, notes[2]]))) == [notes[0], cosigned, notes[2]]
    lines = [f"<134>1 2026-01-31T09:30:00Z host broker - - - {line_of(note)}" for note in notes]
    assert list(notes_in("\n".join([*lines, "another line", "lightsail-broker checkpoint AAA"]))) == notes
    assert list(notes_in("")) == []


# -- with the command


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = a_desk(tmp_path, [an_event(number=number) for number in range(40)])
    asyncio.run(_run_once(desk))
    return desk


async def _run_once(desk: Desk) -> None:
    clock = ManualClock(NOW + timedelta(days=1))
    log = await AuditLog.open(SqliteStore(desk.database), key_of(desk), clock=clock)
    await log.append(an_event())
    await log.close()


def key_of(desk: Desk) -> Signer:
    return load_signer(desk.config.parent / "state" / "audit.key", ORIGIN)


def notes_of(desk: Desk) -> list[str]:
    with closing(SqliteReader(desk.database)) as reader:
        return [each.note for each in reader.checkpoints(-1, 99)]


def write(desk: Desk, name: str, text: str) -> Path:
    path = desk.config.parent / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_a_log_holds_against_its_anchors_and_says_against_what(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    anchors = [
        write(desk, "anchored.notes", "\n".join(notes_of(desk))),
        write(desk, "syslog", line_of(notes_of(desk)[-1])),
        write(desk, "bucket/0001.note", notes_of(desk)[0]).parent,
    ]
    kept = write(desk, "receipt.json", json.dumps(complete(desk.database, 3)))
    words = [word for anchor in anchors for word in ("--anchor", anchor)]
    assert desk.audit("verify", *words, "--receipt", kept) == 0
    count = len(notes_of(desk)) + 3
    assert f"held against {count} checkpoints and 1 receipt kept elsewhere" in capsys.readouterr().out


def test_an_older_copy_of_the_log_does_not_hold_against_any_anchor(desk: Desk) -> None:
    older = desk.database.read_bytes()
    asyncio.run(_run_once(desk))
    anchor = write(desk, "anchored", "\n".join(notes_of(desk)))
    assert desk.audit("verify", "--anchor", anchor) == 0
    desk.database.write_bytes(older)
    assert desk.audit("verify") == 0  # what nothing inside the log can tell
    assert desk.audit("verify", "--anchor", anchor) == 1
    assert desk.audit("verify", "--anchor", write(desk, "a/line", line_of(notes_in_last(anchor))).parent) == 1


def notes_in_last(anchor: Path) -> str:
    return list(notes_in(anchor.read_text()))[-1]


def test_what_holds_no_checkpoint_or_is_no_receipt_cannot_verify(desk: Desk) -> None:
    empty = write(desk, "empty", "nothing here")
    assert desk.audit("verify", "--anchor", empty) == 2
    assert desk.audit("verify", "--receipt", empty) == 2
    assert desk.audit("verify", "--receipt", desk.config.parent / "missing") == 2
    assert desk.audit("verify", "--archive", desk.config.parent / "missing") == 2


# -- pruned logs


@pytest.fixture
def pruned(desk: Desk) -> tuple[Desk, Path]:
    """Answer a log whose first 40 events have no body any more, and where the bodies are."""
    archive = desk.config.parent / "old.jsonl"
    assert desk.audit("archive", "--before", "1h", "--output", archive) == 0
    assert desk.audit("prune", "--archive", archive) == 0
    return desk, archive


def report_of(desk: Desk, *archives: Path) -> Report:
    return verified(desk.database, key_of(desk).verifier, archives=archives)


def change(desk: Desk, statement: str) -> None:
    with closing(sqlite3.connect(desk.database, isolation_level=None)) as connection:
        connection.execute(statement)


def test_a_pruned_log_is_clean_without_its_bodies_and_with_them(
    pruned: tuple[Desk, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    desk, archive = pruned
    assert (report_of(desk).findings, report_of(desk).bodiless) == ((), 40)
    assert (report_of(desk, archive).findings, report_of(desk, archive).bodiless) == ((), 0)
    assert desk.audit("verify", "--require-sealed") == 0
    assert "40 events by their hashes alone" in capsys.readouterr().out
    assert desk.audit("verify", "--archive", archive) == 0
    assert "hashes alone" not in capsys.readouterr().out


def test_a_receipt_of_a_pruned_event_still_holds(pruned: tuple[Desk, Path]) -> None:
    desk, _ = pruned
    kept = receipt(complete(desk.database, 7))
    assert verified(desk.database, key_of(desk).verifier, receipts=[kept]).findings == ()


def test_bodies_that_left_without_an_event_are_missed(desk: Desk) -> None:
    change(desk, "INSERT INTO nodes SELECT 0, idx, leaf_hash FROM events WHERE idx < 9")
    change(desk, "DELETE FROM events WHERE idx < 9")
    assert kinds(report_of(desk)) == [("pruned_unannounced", 0)]


def test_more_bodies_than_were_announced_are_missed(pruned: tuple[Desk, Path]) -> None:
    desk, _ = pruned
    change(desk, "INSERT INTO nodes SELECT 0, idx, leaf_hash FROM events WHERE idx < 42")
    change(desk, "DELETE FROM events WHERE idx < 42")
    assert kinds(report_of(desk)) == [("pruned_unannounced", 40)]


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("UPDATE nodes SET hash = zeroblob(32) WHERE level = 0 AND idx = 11", "rewritten"),
        ("DELETE FROM nodes WHERE level = 0 AND idx = 11", "gap"),
        ("DELETE FROM nodes WHERE level = 0", "gap"),
        ("INSERT INTO nodes VALUES(0, 40, zeroblob(32))", "duplicate"),
        ("INSERT INTO nodes VALUES(0, 5000, zeroblob(32))", "reorder"),
        ("UPDATE nodes SET idx = idx + 1000 WHERE level = 0", "gap"),
    ],
)
def test_hashes_of_pruned_events_cannot_be_changed(pruned: tuple[Desk, Path], statement: str, kind: str) -> None:
    desk, _ = pruned
    change(desk, statement)
    assert kind in {found for found, _ in kinds(report_of(desk))}


def test_an_archive_that_was_edited_is_found_at_its_record(pruned: tuple[Desk, Path]) -> None:
    desk, archive = pruned
    lines = archive.read_text().splitlines(keepends=True)
    edited = json.loads(lines[12])
    edited["event"]["reason"] = "nothing special"
    edited["leaf"] = base64.b64encode(json.dumps(edited["event"]).encode()).decode()
    archive.write_text("".join([*lines[:12], json.dumps(edited) + "\n", *lines[13:]]))
    assert kinds(report_of(desk, archive)) == [("archive", 12)]


def test_an_archive_with_holes_leaves_the_rest_to_their_hashes(pruned: tuple[Desk, Path]) -> None:
    desk, archive = pruned
    lines = archive.read_text().splitlines(keepends=True)
    archive.write_text("".join(lines[5:30]))
    assert (report_of(desk, archive).findings, report_of(desk, archive).bodiless) == ((), 15)


def test_two_archives_and_an_export_make_the_whole_log(pruned: tuple[Desk, Path]) -> None:
    desk, first = pruned
    asyncio.run(_run_once(desk))
    second = first.with_name("second.jsonl")
    assert desk.audit("archive", "--before", "1m", "--output", second) == 0
    assert desk.audit("prune", "--archive", second) == 0
    assert (report_of(desk, second, first).findings, report_of(desk, second, first).bodiless) == ((), 0)
    rest = first.with_name("rest.jsonl")
    assert desk.audit("export", "--output", rest) == 0
    assert desk.audit("verify", "--export", rest) == 1
    assert desk.audit("verify", "--export", rest, "--archive", second, "--archive", first) == 0


# -- a changed key


def test_a_log_whose_key_changed_is_clean_under_each_of_its_keys(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = [key_of(desk).verifier]
    before = write(desk, "before", notes_of(desk)[-1])
    for _ in range(2):
        assert desk.audit("rotate") == 0
        keys.append(key_of(desk).verifier)
        asyncio.run(_run_once(desk))
    capsys.readouterr()
    for key in keys:
        assert desk.audit("verify", "--key", str(key), "--checkpoint", before) == 0
        assert capsys.readouterr().out.count("key from ") == 3
    export = desk.config.parent / "export.jsonl"
    assert desk.audit("export", "--output", export) == 0
    for key in keys:
        assert desk.audit("verify", "--export", export, "--key", str(key)) == 0


def test_a_change_of_key_that_only_the_new_key_signs_is_found(desk: Desk) -> None:
    pinned = key_of(desk).verifier
    assert desk.audit("rotate") == 0
    change(
        desk, 'UPDATE events SET leaf = CAST(replace(leaf, \'"old_signature":"\', \'"old_signature":"AAAA\') AS BLOB)'
    )
    report = verified(desk.database, pinned)
    assert "bad_rotation" in {finding.kind for finding in report.findings}


def test_a_checkpoint_of_the_old_key_for_a_time_after_it_does_not_hold(desk: Desk) -> None:
    old = key_of(desk)
    assert desk.audit("rotate") == 0
    with closing(SqliteReader(desk.database)) as reader:
        head = reader.head()
    late = write(desk, "late", old.sign(*head))
    assert desk.audit("verify", "--key", str(old.verifier)) == 0
    assert desk.audit("verify", "--key", str(old.verifier), "--checkpoint", late) == 1


# -- the clock


async def test_a_clock_that_was_set_back_is_mentioned_and_no_fault(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    log = await AuditLog.open(SqliteStore(desk.database), key_of(desk), clock=ManualClock(NOW - timedelta(days=9)))
    await log.append(an_event())
    await log.close()
    capsys.readouterr()
    assert desk.audit("verify") == 0
    assert "note: the clock was set back before event 43" in capsys.readouterr().out


# -- a change of key among pruned events, and receipts alone


def test_a_log_pruned_beyond_a_change_of_its_key_holds_under_the_newest_key_and_with_the_archive_under_any(
    desk: Desk,
) -> None:
    first = key_of(desk).verifier
    old = write(desk, "old.note", notes_of(desk)[-1])
    assert desk.audit("rotate") == 0
    asyncio.run(_run_once(desk))
    archive = desk.config.parent / "with-rotation.jsonl"
    assert desk.audit("archive", "--before", "2020-01-01", "--output", archive) == 1
    with closing(SqliteReader(desk.database)) as reader, archive.open("wb") as file:
        for record in reader.records(0, reader.head().size - 3):
            file.write(export_line(*record))
    assert desk.audit("prune", "--archive", archive) == 0
    newest = key_of(desk).verifier
    assert verified(desk.database, newest).findings == ()
    for pinned in (first, newest):
        assert verified(desk.database, pinned, [old.read_text()], archives=[archive]).findings == ()
    asyncio.run(_run_once(desk))
    assert desk.audit("verify", "--require-sealed") == 0


def test_receipts_alone_are_verified_by_the_key_and_held_against_nothing_else(desk: Desk) -> None:
    key = str(key_of(desk).verifier)
    kept = [write(desk, f"{index}.json", json.dumps(complete(desk.database, index))) for index in (3, 7)]
    words = [word for path in kept for word in ("--receipt", str(path))]
    assert verify_alone(*words, "--key", key) == 0
    forged = write(
        desk, "forged.json", kept[0].read_text().replace(complete(desk.database, 3)["leaf_hash"][:6], "AAAAAA")
    )
    assert verify_alone(*words, "--receipt", str(forged), "--key", key) == 1
    note = write(desk, "note", notes_of(desk)[-1])
    assert verify_alone(*words, "--key", key, "--checkpoint", str(note)) == 2


def verify_alone(*words: str) -> int:
    parser = ArgumentParser("broker audit")
    configure(parser)
    return run(parser.parse_args(["verify", *words]))
