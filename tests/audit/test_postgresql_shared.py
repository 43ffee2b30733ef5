"""Used proofs and counted requests in PostgreSQL: once for all brokers, bounded for each caller."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from broker.audit.stores import opening
from broker.audit.stores.postgresql_rates import PostgresqlRates
from broker.audit.stores.postgresql_replays import PostgresqlReplays
from broker.audit.stores.postgresql_shared import Shared
from broker.errors import AuditUnavailable, RateLimited
from tests.real.postgresql import run

pytestmark = pytest.mark.real("postgresql")

ALICE, BOB = b"a" * 16, b"b" * 16
SOON = timedelta(minutes=5)


@pytest.fixture
async def brokers(postgresql: str) -> AsyncIterator[list[Shared]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(opening.shared(postgresql, 3)) for _ in range(2)]


@pytest.fixture
def two(brokers: list[Shared]) -> list[PostgresqlReplays]:
    return [each.replays for each in brokers]


@pytest.fixture
def rates(brokers: list[Shared]) -> list[PostgresqlRates]:
    return [each.rates for each in brokers]


def proof(of: bytes, number: int) -> bytes:
    return of + number.to_bytes(16)


async def test_of_two_brokers_at_once_exactly_one_takes_a_proof(two: list[PostgresqlReplays]) -> None:
    until = datetime.now(UTC) + SOON
    for number in range(3):
        taken = await asyncio.gather(*(each.spend(ALICE, proof(ALICE, number), until) for each in two))
        assert sorted(taken) == [False, True]
    assert not await two[0].spend(ALICE, proof(ALICE, 0), until)  # its share is used up, and still it is told why


async def test_one_caller_uses_up_its_own_share_and_nobody_else_s(two: list[PostgresqlReplays]) -> None:
    until = datetime.now(UTC) + SOON
    for number in range(3):
        assert await two[0].spend(ALICE, proof(ALICE, number), until)
    with pytest.raises(RateLimited):
        await two[1].spend(ALICE, proof(ALICE, 3), until)
    assert await two[1].spend(BOB, proof(BOB, 0), until)


async def test_what_has_ended_counts_no_more(two: list[PostgresqlReplays]) -> None:
    for number in range(3):
        await two[0].spend(ALICE, proof(ALICE, number), datetime.now(UTC) - SOON)
    assert await two[0].spend(ALICE, proof(ALICE, 3), datetime.now(UTC) + SOON)


async def test_a_table_that_hangs_denies_everybody_within_seconds(
    two: list[PostgresqlReplays], postgresql: str
) -> None:
    locking = await asyncpg.connect(postgresql)
    try:
        transaction = locking.transaction()
        await transaction.start()
        await locking.execute("LOCK TABLE spent_proofs IN ACCESS EXCLUSIVE MODE")
        begun = time.monotonic()
        asked = (two[0].spend(ALICE, proof(ALICE, number), datetime.now(UTC) + SOON) for number in range(10))
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(outcome, AuditUnavailable) for outcome in outcomes)
        assert time.monotonic() - begun < 10  # all at once, and not one pair after the other
        await transaction.rollback()
    finally:
        await locking.close()
    assert await two[0].spend(BOB, proof(BOB, 1), datetime.now(UTC) + SOON)


async def test_of_one_caller_s_minute_two_brokers_give_out_each_request_once(rates: list[PostgresqlRates]) -> None:
    interval, burst = 6.0, 54.0  # ten a minute
    waits = await asyncio.gather(*(each.spend(ALICE, interval, burst) for each in rates for _ in range(10)))
    assert waits.count(0.0) == 10
    assert all(0 < wait <= interval for wait in waits if wait)
    assert await rates[0].spend(BOB, interval, burst) == 0


async def test_time_gives_requests_back_and_nobody_gains_by_waiting_longer(
    rates: list[PostgresqlRates], postgresql: str
) -> None:
    assert [await rates[0].spend(ALICE, 30.0, 30.0) for _ in range(2)] == [0, 0]
    assert await rates[1].spend(ALICE, 30.0, 30.0) > 0
    run(postgresql, "UPDATE spent_requests SET free_at = free_at - interval '30 seconds'")
    assert [bool(await rates[1].spend(ALICE, 30.0, 30.0)) for _ in range(2)] == [False, True]
    run(postgresql, "UPDATE spent_requests SET free_at = free_at - interval '1 hour'")
    assert [bool(await rates[1].spend(ALICE, 30.0, 30.0)) for _ in range(3)] == [False, False, True]
    await rates[0].forget()
    assert run(postgresql, "SELECT count(*) FROM spent_requests") == 1
    run(postgresql, "UPDATE spent_requests SET free_at = free_at - interval '1 hour'")
    await rates[0].forget()
    assert run(postgresql, "SELECT count(*) FROM spent_requests") == 0


async def test_a_lost_table_of_counted_requests_is_told(rates: list[PostgresqlRates], postgresql: str) -> None:
    run(postgresql, "DROP TABLE spent_requests")
    with pytest.raises(AuditUnavailable, match="requests cannot be counted"):
        await rates[0].spend(ALICE, 6.0, 54.0)


async def test_a_role_that_may_make_no_table_uses_the_one_that_is_there(postgresql: str) -> None:
    run(
        postgresql,
        "CREATE TABLE spent_proofs(proof bytea primary key, holder bytea not null, until timestamptz not null)",
    )
    run(postgresql, "CREATE UNLOGGED TABLE spent_requests(caller bytea primary key, free_at timestamptz not null)")
    run(postgresql, "DROP ROLE IF EXISTS humble")
    run(postgresql, "CREATE ROLE humble LOGIN")
    run(postgresql, "GRANT SELECT, INSERT, UPDATE, DELETE ON spent_proofs, spent_requests TO humble")
    humble = postgresql.replace("//app@", "//humble@")
    async with opening.shared(humble, 3) as shared:
        assert await shared.replays.spend(ALICE, proof(ALICE, 1), datetime.now(UTC) + SOON)
        assert await shared.rates.spend(ALICE, 1.0, 2.0) == 0
    run(postgresql, "DROP TABLE spent_proofs, spent_requests")
    run(postgresql, "DROP ROLE humble")


async def test_a_database_that_is_not_there_is_told(postgresql: str) -> None:
    with pytest.raises(AuditUnavailable, match="cannot be used"):
        async with opening.shared(postgresql + "_nowhere", 3):
            pytest.fail("it opened")
