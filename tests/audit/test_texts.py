"""Searching for words: the same events are found with the index, without it, and while it is behind."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.audit import texts
from broker.audit.checkpoints import Signer
from broker.audit.indexing import Indexer
from broker.audit.leaves import parse
from broker.audit.review import Review
from broker.audit.stores import Filters, Position
from broker.audit.stores.sqlite_reader import SqliteReader, side_file
from broker.audit.stores.sqlite_texts import TextIndex
from tests.audit.conftest import write_log
from tests.doubles.audit import an_event

REASONS = (
    "Deploy of a zebra",
    "deploying again",
    "Überprüfung der Platte",
    "look at logs",
    'say "no" OR (drop*',
    "x_y-z",
)


@pytest.fixture
def log(database: Path, signer: Signer) -> Path:
    """Answer a log of 1500 events with six reasons in turn."""
    events = [
        an_event(number=number, reason=REASONS[number % 6], account="main" if number % 2 else "lab")
        for number in range(1500)
    ]
    write_log(database, signer, events, 500)
    return database


def index(database: Path, rounds: int = 99) -> None:
    with closing(TextIndex(database)) as made:
        for _ in range(rounds):
            if not made.update():
                break


def found(database: Path, query: str, **filters: object) -> list[int]:
    """Answer all that a search finds, page by page."""
    wanted = Filters(text=tuple(texts.words(query)), **filters)  # type: ignore[arg-type]  # a table of filters
    indices: list[int] = []
    position: Position | None = None
    with closing(SqliteReader(database, patience=60)) as reader:
        while page := reader.search(wanted, 200, position):
            indices += [each.record.idx for each in page]
            position = Position(page[-1].time, page[-1].record.idx)
    return indices


def every(number: int, *more: int) -> list[int]:
    return [at for at in reversed(range(1500)) if at % 6 in (number, *more)]


QUERIES: Sequence[tuple[str, list[int]]] = (
    ("deploy", every(0)),
    ("DEPLOYING", every(1)),
    ("DEPLOY zebra", every(0)),
    ("deplo", []),
    ("a-zebra", every(0)),
    ("überprüfung", every(2)),
    ("uberprufung", []),
    ("platte", every(2)),
    ("logs look", every(3)),
    ("no drop", every(4)),
    ("y z", every(5)),
    ("request-77", [77]),
    ("203.0.113.9 alice", list(reversed(range(1500)))),
    ("nothing like it", []),
)


@pytest.mark.parametrize("rounds", [0, 1, 99])
def test_whatever_the_index_holds_the_same_is_found(log: Path, rounds: int) -> None:
    if rounds:
        index(log, rounds)
    for query, wanted in QUERIES:
        assert found(log, query) == wanted, query


def test_words_go_together_with_the_other_filters(log: Path) -> None:
    for indexed in (False, True):
        if indexed:
            index(log)
        assert found(log, "deploy", accounts=frozenset({"lab"})) == every(0)
        assert found(log, "deploy", accounts=frozenset()) == []
        assert found(log, "deploy", request_id="request-6") == [6]
        assert found(log, "deploy", actor="corp/bob") == []
        assert found(log, "deploy", event="credential.denied", outcome="success") == every(0)


@given(st.text(), st.lists(st.text(), max_size=4))
def test_an_index_cuts_words_as_a_comparison_does(query: str, reasons: list[str]) -> None:
    wanted = texts.words(query)
    assert all(word.isascii() and word.isalnum() for word in wanted)
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE VIRTUAL TABLE words USING fts5(text, content='', detail=none, tokenize=ascii)")
        documents = [{"time": "2026-01-31T09:30:00Z", "reason": reason} for reason in reasons]
        for number, members in enumerate(documents):
            connection.execute("INSERT INTO words(rowid, text) VALUES(?, ?)", (number, texts.words_of(members)))
        if wanted:
            match = " AND ".join(f'"{word}"' for word in wanted)
            rows = connection.execute("SELECT rowid FROM words WHERE words MATCH ? ORDER BY rowid", (match,))
            assert [row[0] for row in rows] == [n for n, each in enumerate(documents) if texts.fits(wanted, each)]


def test_an_index_of_another_log_a_damaged_one_and_one_of_pruned_events_are_made_anew(
    log: Path, tmp_path: Path, signer: Signer
) -> None:
    index(log)
    other = tmp_path / "other" / "audit.db"
    write_log(other, signer, [an_event(reason="unlike") for _ in range(9)])
    side_file(other).write_bytes(side_file(log).read_bytes())
    assert found(other, "unlike") == list(reversed(range(9)))  # what is of another log is not believed
    index(other)
    assert found(other, "unlike") == list(reversed(range(9)))
    side_file(log).write_bytes(b"SQLite format 3\0" + bytes(5000))
    assert found(log, "platte") == every(2)
    index(log)
    assert found(log, "platte") == every(2)
    assert side_file(log).stat().st_mode & 0o777 == 0o600


def test_the_log_itself_is_not_touched_by_its_index(log: Path) -> None:
    before = log.read_bytes()
    index(log)
    found(log, "deploy")
    assert log.read_bytes() == before


def test_the_walk_along_the_index_scans_nothing(log: Path) -> None:
    index(log)
    uri = f"{log.as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        connection.execute("ATTACH DATABASE ? AS texts", (f"{side_file(log).as_uri()}?mode=ro",))
        plan = connection.execute(
            "EXPLAIN QUERY PLAN SELECT events.idx FROM texts.words JOIN events ON events.idx = words.rowid"
            " WHERE words MATCH 'deploy' AND words.rowid < 99 ORDER BY words.rowid DESC LIMIT 9"
        ).fetchall()
    said = " ".join(str(row[3]) for row in plan)
    assert "SCAN events" not in said
    assert "TEMP B-TREE" not in said


async def test_an_indexer_keeps_up_and_mends_what_was_damaged(log: Path) -> None:
    told: list[str] = []
    task = asyncio.create_task(Indexer(log, told.append, pause=0.01).run())
    with closing(SqliteReader(log)) as reader:
        for _ in range(1000):
            await asyncio.sleep(0.01)
            if reader._reach() == 1500:  # noqa: SLF001 - how far it is shows nowhere else
                break
        assert reader._reach() == 1500  # noqa: SLF001 - as above
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert told == []
    assert found(log, "deploy") == every(0)


async def test_pages_of_a_search_for_words_go_on_where_the_last_one_ended(log: Path) -> None:
    index(log, 1)
    review = Review(lambda: SqliteReader(log, patience=60))
    seen: list[int] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await review.events(Filters(text=("deploy",)), limit=70, cursor=cursor)
        seen += [item.index for item in page.items]
        cursor = page.next_cursor
    await review.close()
    assert seen == every(0)


def test_every_text_that_a_person_would_know_is_searched() -> None:
    members = {
        **{name: name for name in ("reason", "ticket", "error", "target", "request_id", "lease_id")},
        "time": (parse(b'{"time":"2026-01-31T09:30:00Z"}'))["time"],
        "actor": {"issuer": "corp", "subject": "alice"},
        "source": {"ip": "198.51.100.7", "user_agent": "curl/8"},
        "credential": {"certificate_serial": "4711", "key_id": "key-of-alice"},
        "decision": {"policies": ["ops-ssh"]},
        "details": {"os_user": "root"},
    }
    held = texts.words_of(members).split()
    for word in ("reason", "alice", "198", "curl", "4711", "key", "ops", "root", "lease"):
        assert word in held
