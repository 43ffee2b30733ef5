"""Which proofs of possession were used, shared by all brokers on one PostgreSQL database.

It stands with the stores because it shares their database; it is no part of the log, and is made when it is missing.
What is in it is worth nothing after some minutes.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Final

import asyncpg

from broker.audit.stores.postgresql_session import describe
from broker.errors import AuditUnavailable, RateLimited

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]

NAME: Final = "spent_proofs"
TABLE: Final = """
CREATE TABLE IF NOT EXISTS spent_proofs(
    proof BYTEA PRIMARY KEY,
    holder BYTEA NOT NULL,
    until TIMESTAMPTZ NOT NULL
);
CREATE INDEX IF NOT EXISTS spent_proofs_by_holder ON spent_proofs(holder, until)
"""
_SPEND: Final = """
INSERT INTO spent_proofs(proof, holder, until)
SELECT $1, $2, $3 WHERE (SELECT count(*) FROM spent_proofs WHERE holder = $2 AND until > now()) < $4
ON CONFLICT DO NOTHING
"""
_IS_SPENT: Final = "SELECT EXISTS (SELECT FROM spent_proofs WHERE proof = $1)"
_FORGET: Final = "DELETE FROM spent_proofs WHERE until < now() - interval '1 minute'"
_TAKEN: Final = "INSERT 0 1"
_SECONDS: Final = 3.0


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
        """Let go of what has ended."""
        await self._pool.execute(_FORGET)
