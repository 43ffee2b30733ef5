"""Used proofs in PostgreSQL: once for all brokers, bounded for each key, and denied when nobody can tell."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from broker.audit.stores import opening
from broker.audit.stores.postgresql_replays import PostgresqlReplays
from broker.errors import AuditUnavailable, RateLimited
from tests.real.postgresql import run

pytestmark = pytest.mark.real("postgresql")

ALICE, BOB = b"a" * 16, b"b" * 16
SOON = timedelta(minutes=5)


@pytest.fixture
async def two(postgresql: str) -> AsyncIterator[list[PostgresqlReplays]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(opening.replays(postgresql, 3)) for _ in range(2)]


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


async def test_a_role_that_may_make_no_table_uses_the_one_that_is_there(postgresql: str) -> None:
    run(
        postgresql,
        "CREATE TABLE spent_proofs(proof bytea primary key, holder bytea not null, until timestamptz not null)",
    )
    run(postgresql, "DROP ROLE IF EXISTS humble")
    run(postgresql, "CREATE ROLE humble LOGIN")
    run(postgresql, "GRANT SELECT, INSERT, DELETE ON spent_proofs TO humble")
    humble = postgresql.replace("//app@", "//humble@")
    async with opening.replays(humble, 3) as replays:
        assert await replays.spend(ALICE, proof(ALICE, 1), datetime.now(UTC) + SOON)
    run(postgresql, "DROP TABLE spent_proofs")
    run(postgresql, "DROP ROLE humble")


async def test_a_database_that_is_not_there_is_told(postgresql: str) -> None:
    with pytest.raises(AuditUnavailable, match="cannot be used"):
        async with opening.replays(postgresql + "_nowhere", 3):
            pytest.fail("it opened")
