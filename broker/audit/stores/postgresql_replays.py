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
from broker.errors import AuditUnavailable

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS spent_proofs(
    proof BYTEA PRIMARY KEY,
    until TIMESTAMPTZ NOT NULL
)
"""
_SPEND: Final = "INSERT INTO spent_proofs(proof, until) VALUES ($1, $2) ON CONFLICT DO NOTHING"
_FORGET: Final = "DELETE FROM spent_proofs WHERE until < now() - interval '1 minute'"
_TAKEN: Final = "INSERT 0 1"
_CONNECTIONS: Final = 2
_SECONDS: Final = 3.0
_FORGET_EVERY: Final = 300.0


class PostgresqlReplays:
    """A `ReplayCache` of several brokers."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def spend(self, proof: bytes, until: datetime) -> bool:
        """Use a proof up; False when any broker saw it before. Raises AuditUnavailable when nobody can tell."""
        try:
            return await self._pool.execute(_SPEND, proof, until, timeout=_SECONDS) == _TAKEN
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
async def opened(address: Address) -> AsyncIterator[PostgresqlReplays]:
    """Connect, and make the table where it is missing.

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
    replays = PostgresqlReplays(pool)
    forgetting = asyncio.create_task(replays.forget())
    try:
        yield replays
    finally:
        forgetting.cancel()
        pool.terminate()


async def _made(pool: Pool) -> None:
    """Make the table; of brokers that start at once, one makes it, and the others find it."""
    try:
        await pool.execute(_TABLE)
    except asyncpg.UniqueViolationError:
        await pool.execute(_TABLE)
