"""Threads: several events about one thing. Who goes on from one of them has seen the newest, whoever else writes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from broker.audit.checkpoints import Signer
from broker.audit.events import document
from broker.audit.ledger import Ledger, Place
from broker.audit.log import AuditLog, create
from broker.audit.rebuilding import rebuild
from broker.audit.stores import StoredThread, opening
from broker.errors import Superseded
from broker.model import Event
from tests.doubles.audit import ManualClock, an_event


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real("postgresql"))])
def url(request: pytest.FixtureRequest, tmp_path: Path, signer: Signer) -> str:
    found = (
        f"sqlite:///{tmp_path}/state/audit.db" if request.param == "sqlite" else request.getfixturevalue("postgresql")
    )
    create(opening.store(found), signer)
    return str(found)


@pytest.fixture
def ledger(url: str, signer: Signer) -> Iterator[Ledger]:
    ledger = Ledger(opening.store(url), signer, ManualClock())
    ledger.open()
    yield ledger
    ledger.close()


def of(thread: str, what: str, reason: str = "") -> Event:
    return an_event(what, details={"thread": thread}, reason=reason)


def write(ledger: Ledger, *events: Event, after: dict[int, int] | None = None) -> list[int | str]:
    """Answer the index of each event, or why it was not written."""
    _, outcomes = ledger.write([document(event) for event in events], after)
    return [outcome.idx if isinstance(outcome, Place) else type(outcome).__name__ for outcome in outcomes]


def read(url: str, thread: str) -> StoredThread | None:
    with closing(opening.reader(url)) as reader:
        return reader.thread(thread)


def told(thread: StoredThread | None) -> list[tuple[int, str]]:
    assert thread is not None
    facts = [json.loads(line) for line in thread.facts.splitlines()]
    return [(fact["index"], fact["event"]) for fact in facts]


def test_a_thread_holds_what_its_events_said(ledger: Ledger, url: str) -> None:
    write(ledger, of("t1", "request.created", "a\nb \u2028 \u20ac"), of("t2", "request.created"))
    write(ledger, of("t1", "request.approved"), of("t3", "request.approved"))
    found = read(url, "t1")
    assert found is not None
    assert found[:8] == ("t1", 0, 2, "request", "request.approved", "corp/alice", "main/eu-west-1/web-1", "main")
    assert told(found) == [(0, "request.created"), (2, "request.approved")]
    assert json.loads(found.facts.split("\n")[0])["reason"] == "a\nb \u2028 \u20ac"
    assert read(url, "t3") is None  # nothing goes on that never began


def test_a_thread_may_begin_anew(ledger: Ledger, url: str) -> None:
    write(ledger, of("t1", "break_glass.used"), of("t1", "break_glass.reviewed"), of("t1", "break_glass.used"))
    assert told(read(url, "t1")) == [(2, "break_glass.used")]


def test_of_two_that_go_on_from_one_event_the_first_does(ledger: Ledger, url: str) -> None:
    assert write(ledger, of("t1", "request.created"), after={0: -1}) == [0]
    approved, denied = of("t1", "request.approved"), of("t1", "request.denied")
    assert write(ledger, approved, an_event(), denied, after={0: 0, 2: 0}) == [1, 2, "Superseded"]
    assert write(ledger, denied, after={0: 0}) == ["Superseded"]
    assert write(ledger, of("t1", "request.created"), after={0: -1}) == ["Superseded"]
    assert write(ledger, denied, after={0: 1}) == [3]
    assert told(read(url, "t1")) == [(0, "request.created"), (1, "request.approved"), (3, "request.denied")]


async def test_who_waits_is_told_that_somebody_was_faster(url: str, signer: Signer) -> None:
    log = await AuditLog.open(opening.store(url), signer, announce=False)
    try:
        receipt = await log.append(of("t1", "request.created"), after=-1)
        many = (log.append(of("t1", "request.approved", f"{n}"), after=receipt.index) for n in range(20))
        outcomes = await asyncio.gather(*many, return_exceptions=True)
        assert [type(each).__name__ for each in outcomes].count("Superseded") == 19
        with pytest.raises(Superseded):
            await log.append(of("t1", "request.denied"), after=receipt.index)
    finally:
        await log.close()
    assert len(told(await asyncio.to_thread(read, url, "t1"))) == 2


@pytest.mark.real("postgresql")
def test_of_two_brokers_one_goes_on(postgresql: str, signer: Signer) -> None:
    create(opening.store(postgresql), signer)
    one, two = (Ledger(opening.store(postgresql), signer, ManualClock()) for _ in range(2))
    try:
        one.open()
        two.open()
        assert write(one, of("t1", "request.created")) == [0]
        assert write(two, of("t1", "request.approved"), after={0: 0}) == [1]
        assert write(one, of("t1", "request.denied"), after={0: 0}) == ["Superseded"]
    finally:
        one.close()
        two.close()


def test_a_thread_outlives_the_bodies_of_its_events(tmp_path: Path, signer: Signer) -> None:
    url = f"sqlite:///{tmp_path}/state/audit.db"
    create(opening.store(url), signer)
    ledger = Ledger(opening.store(url), signer, ManualClock())
    ledger.open()
    write(ledger, of("t1", "request.created"), of("t2", "request.created"), of("t1", "request.approved"))
    write(ledger, an_event("service.started"))
    write(ledger, of("t1", "request.cancelled"))
    ledger.tend(seal=True)
    ledger.prune(document(an_event("audit.pruned", details={"end": 3})), 3)
    with closing(opening.reader(url)) as reader:
        rebuilt = rebuild(reader)
    ledger.close()
    assert (rebuilt.differences, rebuilt.kept["threads"]) == ([], 2)
    assert [index for index, _ in told(read(url, "t1"))] == [0, 2, 4]
