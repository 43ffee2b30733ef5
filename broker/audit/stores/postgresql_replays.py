"""Which proofs of possession were used, shared by all brokers on one PostgreSQL database.

It stands with the stores because it shares their database; it is no part of the log, and is made when it is missing.
What is in it is worth nothing after some minutes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Final

import asyncpg

from broker.audit.stores.address import Address
from broker.audit.stores.postgresql_session import describe
from broker.errors import AuditUnavailable, RateLimited

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS spent_proofs(
    proof BYTEA PRIMARY KEY,
    holder BYTEA NOT NULL,
    until TIMESTAMPTZ NOT NULL
);
CREATE INDEX IF NOT EXISTS spent_proofs_by_holder ON spent_proofs(holder, until)
"""
_IS_THERE: Final = "SELECT to_regclass('spent_proofs') IS NOT NULL"
_SPEND: Final = """
INSERT INTO spent_proofs(proof, holder, until)
SELECT $1, $2, $3 WHERE (SELECT count(*) FROM spent_proofs WHERE holder = $2 AND until > now()) < $4
ON CONFLICT DO NOTHING
"""
_IS_SPENT: Final = "SELECT EXISTS (SELECT FROM spent_proofs WHERE proof = $1)"
_FORGET: Final = "DELETE FROM spent_proofs WHERE until < now() - interval '1 minute'"
_TAKEN: Final = "INSERT 0 1"
_CONNECTIONS: Final = 2
_SECONDS: Final = 3.0
_FORGET_EVERY: Final = 300.0


class PostgresqlReplays:
    """A `ReplayCache` of several brokers.

    Args:
        pool: of connections.
        of_one: how many proofs of one caller are remembered.
    """

    def __init__(self, pool: Pool, of_one: int) -> None:
        self._pool = pool
        self._of_one = of_one

    async def spend(self, holder: bytes, proof: bytes, until: datetime) -> bool:
        """Use a proof up; False when any broker saw it before.

        Raises:
            RateLimited: this caller has used too many.
            AuditUnavailable: nobody can tell.
        """
        try:
            async with asyncio.timeout(_SECONDS), self._pool.acquire() as connection:
                if await connection.execute(_SPEND, proof, holder, until, self._of_one) == _TAKEN:
                    return True
                if await connection.fetchval(_IS_SPENT, proof):
                    return False
                raise RateLimited(retry_after=60)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as problem:
            raise AuditUnavailable(f"used proofs cannot be looked up: {describe(problem)}") from problem

    async def forget(self) -> None:
        """Let go, now and then, of what has ended."""
        while True:
            await asyncio.sleep(_FORGET_EVERY)
            try:
                await self._pool.execute(_FORGET, timeout=_SECONDS)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                continue  # they stay until the next time


@asynccontextmanager
async def opened(address: Address, of_one: int) -> AsyncIterator[PostgresqlReplays]:
    """Connect, and make the table where it is missing; for the arguments see `PostgresqlReplays`.

    Raises:
        AuditUnavailable: the database cannot be used.
    """
    try:
        pool = await asyncpg.create_pool(
            address.url,
            min_size=0,
            max_size=_CONNECTIONS,
            timeout=_SECONDS,
            statement_cache_size=address.statement_cache_size,
            server_settings={"application_name": "broker"},
        )
        await _made(pool)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError) as problem:
        raise AuditUnavailable(f"PostgreSQL at {address} cannot be used: {describe(problem)}") from problem
    replays = PostgresqlReplays(pool, of_one)
    forgetting = asyncio.create_task(replays.forget())
    try:
        yield replays
    finally:
        forgetting.cancel()
        pool.terminate()


async def _made(pool: Pool) -> None:
    """Make the table; of brokers that start at once, one makes it, and the others find it.

    Where it is there already, the right to make tables is not needed.
    """
    if await pool.fetchval(_IS_THERE):
        return
    try:
        await pool.execute(_TABLE)
    except asyncpg.UniqueViolationError:
        await pool.execute(_TABLE)
