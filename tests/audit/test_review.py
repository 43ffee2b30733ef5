from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path

import pytest

from broker.audit.checkpoints import Signer
from broker.audit.log import AuditLog
from broker.audit.merkle import verify_consistency, verify_inclusion
from broker.audit.review import Page, Review
from broker.audit.stores import Filters, Position
from broker.audit.stores.sqlite import SqliteStore
from broker.audit.stores.sqlite_reader import SqliteReader, query_of
from broker.errors import AuditUnavailable, InvalidRequest, NotFound, Overloaded
from broker.model import Caller, Event, Protocol
from tests.audit.conftest import write_log
from tests.doubles.audit import NOW, an_event

BOB = Caller(issuer="corp", subject="bob", kind="user", token_expires_at=NOW)
EVERYTHING = Filters()


@pytest.fixture
def notes(database: Path, signer: Signer) -> list[str]:
    """Write 300 events: account main or lab by turns, every third by bob, every tenth a refusal, one of no account."""
    events = [
        an_event(
            "credential.denied" if number % 10 == 0 else "credential.issued",
            number,
            account="lab" if number % 2 else "main",
            protocol=Protocol.SSH if number % 4 else Protocol.RDP,
            **({"actor": BOB} if number % 3 == 0 else {}),
            **({"outcome": "denied"} if number % 10 == 0 else {}),
        )
        for number in range(299)
    ]
    return write_log(database, signer, [*events, Event(event="policies.loaded", outcome="success")], 100)


@pytest.fixture
async def review(database: Path, notes: list[str]) -> AsyncIterator[Review]:
    assert notes
    review = Review(lambda: SqliteReader(database))
    yield review
    await review.close()


def indices(page: Page) -> list[int]:
    return [entry.index for entry in page.items]


async def walk(review: Review, filters: Filters, limit: int = 37) -> list[int]:
    page = await review.events(filters, limit=limit)
    found = indices(page)
    while page.next_cursor is not None:
        page = await review.events(filters, limit=limit, cursor=page.next_cursor)
        found += indices(page)
    return found


async def test_events_come_newest_first_and_page_by_page(review: Review) -> None:
    assert await walk(review, EVERYTHING) == list(range(299, -1, -1))
    assert indices(await review.events(EVERYTHING, limit=2)) == [299, 298]


async def test_a_page_that_ends_the_list_says_so(review: Review) -> None:
    assert (await review.events(Filters(request_id="request-7"), limit=1)).next_cursor is None


@pytest.mark.parametrize(
    ("filters", "fits"),
    [
        (Filters(actor="corp/bob"), lambda n: n % 3 == 0 and n < 299),
        (Filters(instance="lab/eu-west-1/web-1"), lambda n: n % 2 and n < 299),
        (Filters(event="credential.denied"), lambda n: n % 10 == 0),
        (Filters(outcome="denied"), lambda n: n % 10 == 0),
        (Filters(protocol="rdp"), lambda n: n % 4 == 0 and n < 299),
        (Filters(protocol="ssh", actor="corp/bob"), lambda n: n % 3 == 0 and n % 4 and n < 299),
        (Filters(protocol='rdp","reason":"x'), lambda _: False),
        (Filters(request_id="request-7"), lambda n: n == 7),
        (Filters(accounts=frozenset({"lab"})), lambda n: n % 2 and n < 299),
        (Filters(accounts=frozenset({"lab", "main"})), lambda n: n < 299),
        (Filters(accounts=frozenset({"lab", ""})), lambda n: n % 2),
        (Filters(accounts=frozenset({"x"})), lambda _: False),
        (Filters(accounts=frozenset()), lambda _: False),
        (Filters(actor="corp/bob", outcome="denied", accounts=frozenset({"main"})), lambda n: n % 30 == 0),
        (Filters(actor="' OR 1=1 --"), lambda _: False),
    ],
)
async def test_filters_find_what_fits_and_nothing_else(review: Review, filters: Filters, fits: object) -> None:
    assert callable(fits)
    assert await walk(review, filters) == [number for number in range(299, -1, -1) if fits(number)]


async def test_a_range_of_time_includes_its_beginning_and_not_its_end(review: Review) -> None:
    times = [(await review.event(index)).event["time"] for index in (100, 200)]
    since, until = (int(datetime.fromisoformat(str(time)).timestamp() * 1000) for time in times)
    found = await walk(review, Filters(since=since, until=until))
    assert found == list(range(199, 99, -1))


async def test_an_entry_is_the_event_with_its_exact_bytes(review: Review) -> None:
    entry = await review.event(7)
    assert entry.event["index"] == 7
    assert entry.event["request_id"] == "request-7"
    assert len(entry.leaf_hash) == 32


async def test_an_event_of_another_account_is_not_there(review: Review) -> None:
    assert (await review.event(7, accounts=frozenset({"lab"}))).index == 7
    for index, accounts in [(7, frozenset({"main"})), (7, frozenset()), (300, None), (-1, None), (1 << 70, None)]:
        with pytest.raises(NotFound):
            await review.event(index, accounts=accounts)


@pytest.mark.parametrize(("limit", "cursor"), [(0, ""), (201, ""), (10, "x"), (10, "1.2.3"), (10, "-1.2"), (10, "1.٢")])
async def test_pages_are_bounded_and_cursors_are_ours(review: Review, limit: int, cursor: str) -> None:
    with pytest.raises(InvalidRequest):
        await review.events(EVERYTHING, limit=limit, cursor=cursor)


async def test_proofs_lead_to_the_signed_roots(review: Review, notes: list[str], signer: Signer) -> None:
    checkpoints = [signer.verifier.open(note) for note in notes]
    assert await review.checkpoint() == notes[-1]
    for checkpoint in checkpoints[1:]:
        for index in (0, 7, checkpoint.size - 1):
            proof = await review.inclusion_proof(index, checkpoint.size)
            assert verify_inclusion(index, proof.size, proof.leaf_hash, proof.hashes, checkpoint.root)
    for old in checkpoints:
        for new in checkpoints:
            if old.size <= new.size:
                hashes = await review.consistency_proof(old.size, new.size)
                assert verify_consistency(old.size, new.size, old.root, new.root, hashes)
    assert (await review.inclusion_proof(0)).size == 300


async def test_proofs_of_sizes_that_never_were_are_refused(review: Review) -> None:
    for index, size in [(7, 7), (7, 301), (7, -1)]:
        with pytest.raises(InvalidRequest):
            await review.inclusion_proof(index, size)
    for first, second in [(5, 4), (-1, 4), (0, 301)]:
        with pytest.raises(InvalidRequest):
            await review.consistency_proof(first, second)


async def test_a_search_that_takes_too_long_is_given_up(database: Path, notes: list[str]) -> None:
    assert notes
    with sqlite3.connect(database) as connection:
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 300 UNION ALL SELECT i + 1 FROM n WHERE i < 30000)"
            "INSERT INTO events SELECT i, leaf_hash, leaf, time + i, iif(i % 2, 'e', 'f'), iif(i % 2, 'a', 'b'),"
            " actor, instance, account, request_id"
            " FROM n JOIN events ON idx = 299"
        )
    connection.close()
    review = Review(lambda: SqliteReader(database, patience=-1))
    with pytest.raises(Overloaded):
        await review.events(Filters(event="e", outcome="b"))
    assert (await review.event(7)).index == 7
    await review.close()


async def test_too_many_questions_at_once_are_refused(review: Review, database: Path) -> None:
    busy = Review(lambda: SqliteReader(database), waiting_limit=0)
    with pytest.raises(Overloaded):
        await busy.events(EVERYTHING)
    await busy.close()
    assert (await review.event(7)).index == 7


async def test_a_log_that_is_not_there_is_unavailable_and_comes_back(
    tmp_path: Path, database: Path, notes: list[str]
) -> None:
    assert notes
    paths = [tmp_path / "missing.db", database]
    review = Review(lambda: SqliteReader(paths.pop(0)))
    with pytest.raises(AuditUnavailable):
        await review.events(EVERYTHING)
    assert (await review.event(7)).index == 7
    await review.close()


async def test_reading_sees_what_was_just_written_and_never_disturbs_the_writer(
    review: Review, database: Path, signer: Signer
) -> None:
    log = await AuditLog.open(SqliteStore(database), signer)
    receipt = await log.append(an_event(reason="just now"))
    assert (await review.event(receipt.index)).event["reason"] == "just now"
    await log.close()
    assert threading.active_count() < 10


@pytest.mark.parametrize(
    "filters",
    [
        EVERYTHING,
        Filters(actor="x"),
        Filters(instance="x"),
        Filters(event="x"),
        Filters(outcome="x"),
        Filters(request_id="x"),
        Filters(accounts=frozenset({"a", "b"})),
        Filters(since=1, until=2),
        Filters(actor="x", since=1, until=2, accounts=frozenset({"a", "b"})),
    ],
)
def test_no_search_scans_the_table_or_sorts_it(database: Path, notes: list[str], filters: Filters) -> None:
    """The plan of every shape of search walks an index; only the merge of accounts may sort, and that is bounded."""
    assert notes
    plans: list[str] = []
    reader = SqliteReader(database)
    connection = reader._connection  # noqa: SLF001 -- the plan is not to be had by the door
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    reader.search(filters, 10, None)
    connection.set_trace_callback(None)
    plans = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statements[-1]}")]
    reader.close()
    walks = [plan for plan in plans if "events" in plan]
    assert walks
    assert all("USING INDEX" in plan or "USING COVERING INDEX" in plan for plan in walks), plans
    if filters.accounts is None:
        assert not any("TEMP B-TREE" in plan for plan in plans), plans


async def test_a_clock_that_was_set_back_hides_nothing_from_searches(database: Path, signer: Signer) -> None:
    write_log(database, signer, [an_event()])
    clock_back = NOW - timedelta(hours=1)
    log = await AuditLog.open(SqliteStore(database), signer, clock=lambda: clock_back)
    await log.close()
    review = Review(lambda: SqliteReader(database))
    until = int(NOW.astimezone(UTC).timestamp() * 1000)
    assert await walk(review, replace(EVERYTHING, until=until), limit=1) == [2, 1]
    assert await walk(review, EVERYTHING, limit=1) == [0, 2, 1]
    await review.close()


SHAPES: dict[str, str | int] = {
    "actor": "corp/alice",
    "instance": "main/eu-west-1/web-1",
    "event": "credential.denied",
    "outcome": "success",
    "request_id": "request-7",
    "since": 1,
    "until": 1 << 50,
}


@pytest.mark.parametrize("accounts", [None, frozenset({"main"}), frozenset({"main", "lab"})])
@pytest.mark.parametrize("after", [None, Position(1 << 45, 100)])
@pytest.mark.parametrize("names", [*((name,) for name in SHAPES), *combinations(SHAPES, 2), ()], ids="+".join)
def test_no_search_scans_the_events(
    names: tuple[str, ...], after: Position | None, accounts: frozenset[str] | None, pristine: Path
) -> None:
    filters = Filters(accounts=accounts, **{name: SHAPES[name] for name in names})  # type: ignore[arg-type]  # a table
    query, values = query_of(filters, 50, after)
    with closing(sqlite3.connect(pristine)) as connection:
        steps = [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", values)]
    walks = [step for step in steps if "events" in step]
    assert walks
    assert all(re.search(r"USING (COVERING )?INDEX events_by_|USING INTEGER PRIMARY KEY", walk) for walk in walks), (
        steps
    )
    if set(names) & {"actor", "instance", "request_id"}:
        assert not any("events_by_account" in walk for walk in walks), steps
    assert "OFFSET" not in query
