"""One connection to PostgreSQL for one thread, which blocks on it: the thread runs an event loop of its own.

Nothing of a session's state is taken for granted from one transaction to the next, because a pooler may hand out
another one: what a transaction needs, it sets for itself alone (`SET LOCAL`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

import asyncpg

from broker.audit.stores import NotWritten, StoreError
from broker.audit.stores.address import Address

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection
_Answer = TypeVar("_Answer")

_PROBLEMS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""All that the driver raises, the last but one when the server hung up while nobody listened."""
_RETRY: Final = {"40001", "40P01"}
_CANCELED: Final = "57014"
_REFUSED_LOGIN: Final = "28"
_LOST: Final = ("08", "57P01", "57P02", "57P03", "25P03")
_FORGED: Final = ("23", "42", "XX")
_NO_PRIVILEGE: Final = "42501"


class Again(NotWritten):
    """Nothing was written, and the same transaction may succeed at once: a deadlock, or the connection was gone."""


class Canceled(NotWritten):
    """The server gave a statement up, because it took too long or somebody told it to."""


class Unknown(StoreError):
    """A COMMIT was sent, and no answer came."""


class Session:
    """A connection that is made when it is needed. `connect` is how many seconds that may take."""

    def __init__(self, address: Address, *, connect: float) -> None:
        self._address = address
        self._connect = connect
        self._runner: asyncio.Runner | None = None
        self._connection: Connection | None = None
        self._notices: list[asyncpg.PostgresLogMessage] = []

    def begin(self, work: Callable[[Connection], Awaitable[_Answer]], seconds: float) -> _Answer:
        """Begin something, on a new connection when there is none.

        Raises:
            Again, Canceled, NotWritten: when it does not work; the server has undone it, or will.
            StoreError: when the tables are not those of a log.
        """
        return self._run(self._begin(work, seconds))

    def call(self, work: Callable[[Connection], Awaitable[_Answer]], seconds: float) -> _Answer:
        """Go on with what was begun, on that very connection. Raises as `begin` does."""
        return self._run(self._call(work, seconds))

    def commit(self, seconds: float) -> None:
        """Commit what was begun.

        Raises:
            Again, NotWritten: the server refused; nothing was written.
            Unknown: nobody knows.
            StoreError: it was written, but the server says itself that it may not last.
        """
        self._run(self._commit(seconds))

    def rollback(self, seconds: float) -> None:
        """Undo what was begun, by hanging up when nothing else helps."""
        if self._connection is not None:
            try:
                self.call(lambda connection: connection.execute("ROLLBACK"), seconds)
            except StoreError:
                self.drop()

    def drop(self) -> None:
        """Hang up; the next call makes a new connection."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            self._run(_hang_up(connection))

    def close(self) -> None:
        """Hang up, and let go of the loop."""
        self.drop()
        if self._runner is not None:
            self._runner.close()
            self._runner = None

    def _run(self, work: Coroutine[Any, Any, _Answer]) -> _Answer:
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(work)

    async def _begin(self, work: Callable[[Connection], Awaitable[_Answer]], seconds: float) -> _Answer:
        await self._connected()
        self._notices.clear()
        return await self._call(work, seconds)

    async def _call(self, work: Callable[[Connection], Awaitable[_Answer]], seconds: float) -> _Answer:
        if self._connection is None:
            raise Again("the connection to PostgreSQL was lost")
        try:
            return await self._within(work(self._connection), seconds)
        except _PROBLEMS as problem:
            if _is_lost(problem):
                await self._forget()
            raise translate(problem) from problem

    async def _commit(self, seconds: float) -> None:
        if self._connection is None:
            raise Again("the connection to PostgreSQL was lost before the commit")
        self._notices.clear()
        try:
            tag = await self._within(self._connection.execute("COMMIT"), seconds)
        except _PROBLEMS as problem:
            if _is_lost(problem) or getattr(problem, "severity_en", "") in {"FATAL", "PANIC"}:
                await self._forget()
                raise Unknown(f"PostgreSQL did not answer a commit: {describe(problem)}") from problem
            raise translate(problem) from problem
        self._refuse_warnings()
        if tag != "COMMIT":
            raise NotWritten("PostgreSQL rolled back what was to be committed")

    def _refuse_warnings(self) -> None:
        """Take no commit for durable of which the server warns, such as one that no standby has."""
        for notice in self._notices:
            if getattr(notice, "severity_en", "") == "WARNING" or str(notice.sqlstate).startswith("01"):
                raise StoreError(f"PostgreSQL warned of a commit, so it may not last: {notice}")

    async def _connected(self) -> None:
        if self._connection is None or self._connection.is_closed():
            await self._forget()
            try:
                self._connection = await self._open()
            except (*_PROBLEMS, ValueError) as problem:
                raise NotWritten(f"PostgreSQL at {self._address} cannot be used: {describe(problem)}") from problem
            self._connection.add_log_listener(self._note)

    async def _open(self) -> Connection:
        return await asyncpg.connect(
            self._address.url,
            timeout=self._connect,
            statement_cache_size=self._address.statement_cache_size,
            server_settings={"application_name": "broker"},
        )

    def _note(self, _: object, notice: asyncpg.PostgresLogMessage) -> None:
        self._notices.append(notice)

    async def _within(self, work: Awaitable[_Answer], seconds: float) -> _Answer:
        """Wait so long and no longer, then hang up. A cancelled statement would be worse.

        A commit that waits for a standby and is cancelled becomes visible without being on the standby.
        """
        task = asyncio.ensure_future(work)
        done, _ = await asyncio.wait({task}, timeout=seconds)
        if done:
            return task.result()
        await self._forget()
        with suppress(*_PROBLEMS, asyncio.CancelledError):
            await task
        raise TimeoutError(f"no answer within {seconds:g} s")

    async def _forget(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await _hang_up(connection)


async def _hang_up(connection: Connection) -> None:
    """Close the socket at once: the server undoes what was not committed."""
    connection.terminate()
    await asyncio.sleep(0)  # the transport closes in the loop


def _is_lost(problem: BaseException) -> bool:
    state = str(getattr(problem, "sqlstate", ""))
    return not isinstance(problem, asyncpg.PostgresError) or state.startswith(_LOST)


def translate(problem: BaseException) -> StoreError:
    """Turn an error that came before any COMMIT into one of a store."""
    state = str(getattr(problem, "sqlstate", "") or "")
    message = f"PostgreSQL: {describe(problem)}"
    if state == _CANCELED:
        return Canceled(message)
    if isinstance(problem, TimeoutError):
        return NotWritten(message)
    if state in _RETRY or _is_lost(problem):
        return Again(message)
    if state.startswith(_FORGED) and state != _NO_PRIVILEGE:
        return StoreError(message)
    return NotWritten(message)


def describe(problem: BaseException) -> str:
    """Say what went wrong, with PostgreSQL's code where there is one."""
    state = getattr(problem, "sqlstate", None)
    if isinstance(problem, TimeoutError) and not str(problem):
        return "it does not answer"
    if state and str(state).startswith(_REFUSED_LOGIN):
        return f"it refuses the login: {problem} ({state})"
    return f"{problem} ({state})" if state else str(problem)
