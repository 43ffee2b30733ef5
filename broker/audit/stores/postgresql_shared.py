"""What brokers on one PostgreSQL database remember together beside the log. It is worth nothing after some minutes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import asyncpg

from broker.audit.stores import postgresql_rates, postgresql_replays
from broker.audit.stores.address import Address
from broker.audit.stores.postgresql_rates import PostgresqlRates
from broker.audit.stores.postgresql_replays import PostgresqlReplays
from broker.audit.stores.postgresql_session import describe
from broker.errors import AuditUnavailable

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]

_TABLES: Final = (
    (postgresql_replays.NAME, postgresql_replays.TABLE),
    (postgresql_rates.NAME, postgresql_rates.TABLE),
)
_CONNECTIONS: Final = 4
_SECONDS: Final = 3.0
_FORGET_EVERY: Final = 300.0


@dataclass(frozen=True, slots=True)
class Shared:
    """The used proofs and the counted requests of all brokers."""

    replays: PostgresqlReplays
    rates: PostgresqlRates

    async def forget(self) -> None:
        """Let go, now and then, of what has ended."""
        while True:
            await asyncio.sleep(_FORGET_EVERY)
            for each in (self.replays, self.rates):
                try:
                    async with asyncio.timeout(_SECONDS):
                        await each.forget()
                except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                    continue  # it stays until the next time


@asynccontextmanager
async def opened(address: Address, of_one: int) -> AsyncIterator[Shared]:
    """Connect, and make the tables that are missing; `of_one` is how many proofs of one caller are remembered.

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
        for name, table in _TABLES:
            await _made(pool, name, table)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError) as problem:
        raise AuditUnavailable(f"PostgreSQL at {address} cannot be used: {describe(problem)}") from problem
    shared = Shared(PostgresqlReplays(pool, of_one), PostgresqlRates(pool))
    forgetting = asyncio.create_task(shared.forget())
    try:
        yield shared
    finally:
        forgetting.cancel()
        pool.terminate()


async def _made(pool: Pool, name: str, table: str) -> None:
    """Make a table; of brokers that start at once, one makes it, and the others find it.

    Where it is there already, the right to make tables is not needed.
    """
    if await pool.fetchval("SELECT to_regclass($1) IS NOT NULL", name):
        return
    try:
        await pool.execute(table)
    except asyncpg.UniqueViolationError:
        await pool.execute(table)
