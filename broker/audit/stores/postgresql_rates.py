"""How many requests each caller made lately, shared by all brokers on one PostgreSQL database.

As with used proofs (`postgresql_replays`), it is no part of the log. The table is not logged: after a crash of the
database everybody has a whole minute again.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import asyncpg

from broker.audit.stores.postgresql_session import describe
from broker.errors import AuditUnavailable

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]

NAME: Final = "spent_requests"
TABLE: Final = """
CREATE UNLOGGED TABLE IF NOT EXISTS spent_requests(
    caller BYTEA PRIMARY KEY,
    free_at TIMESTAMPTZ NOT NULL
)
"""
_SPEND: Final = """
INSERT INTO spent_requests AS spent(caller, free_at) VALUES ($1, clock_timestamp() + $2)
ON CONFLICT (caller) DO UPDATE SET free_at = greatest(spent.free_at, clock_timestamp()) + $2
WHERE spent.free_at - clock_timestamp() <= $3
RETURNING true
"""
_WAIT: Final = (
    "SELECT extract(epoch FROM free_at - clock_timestamp() - $2)::float8 FROM spent_requests WHERE caller = $1"
)
_FORGET: Final = "DELETE FROM spent_requests WHERE free_at < now()"


class PostgresqlRates:
    """A `Tally` of several brokers."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def spend(self, caller: bytes, interval: float, burst: float) -> float:
        """Take one request of a caller; answers for how many seconds there is none. Raises AuditUnavailable."""
        step, owed = timedelta(seconds=interval), timedelta(seconds=burst)
        try:
            async with self._pool.acquire() as connection:
                if await connection.fetchval(_SPEND, caller, step, owed):
                    return 0.0
                wait = await connection.fetchval(_WAIT, caller, owed)
                return max(float(wait or 0.0), 0.001)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as problem:
            raise AuditUnavailable(f"requests cannot be counted: {describe(problem)}") from problem

    async def forget(self) -> None:
        """Let go of everybody who has a whole minute."""
        await self._pool.execute(_FORGET)
