"""The doors: who may come in, how often, and how many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, Protocol

from broker.errors import InvalidToken, Overloaded, RateLimited
from broker.identity.faults import OF_THE_CONSOLE, Fault
from broker.identity.sessions import Session
from broker.model import Caller, Measure, Presented, Source
from broker.stages import AUTHENTICATION, stage
from broker.web.rates import Buckets, Rate, limited, network_of

LATE: Final = 0.05
"""Seconds by which a turn of the event loop may be late before fewer requests are taken at once."""
FEWEST: Final = 128
"""So many are taken however late it is."""
_NOBODY_S_FAULT = {Fault.NONCE_NEEDED, Fault.KEYS_UNAVAILABLE}
"""Refusals that say nothing against who was refused."""


class Authenticator(Protocol):
    """Turns what a request presents into a caller."""

    async def authenticate(self, presented: Presented) -> Caller:
        """Answer who calls; raises InvalidToken."""
        ...

    def is_known(self, presented: Presented) -> bool:
        """Tell, at next to no cost, whether the token held a moment ago."""
        ...

    def nonce(self) -> str:
        """Answer what senders put into their next proof (DPoP)."""
        ...

    def count_failure(self, cause: str) -> None:
        """Count somebody who was refused without a token."""
        ...


class Locks(Protocol):
    """Knows who is kept out."""

    async def admit(self, caller: Caller, source: Source, request_id: str, route: str) -> None:
        """Let in who is not locked; raises Locked and AuditUnavailable."""
        ...


class Sessions(Protocol):
    """Knows who is signed in."""

    async def find(self, cookie: str) -> Session:
        """Answer whose session this is; raises InvalidToken and AuditUnavailable."""
        ...

    def is_of(self, session: Session, form_token: str) -> bool:
        """Tell whether a form came from a page of this session."""
        ...


class NoSessions:
    """Nobody is signed in where there is no console."""

    async def find(self, cookie: str) -> Session:
        """Know nobody."""
        del cookie
        raise InvalidToken(Fault.NO_SESSION.value)

    def is_of(self, session: Session, form_token: str) -> bool:
        """Believe no form."""
        del session, form_token
        return False


class Admission:
    """So many requests at once. A few more wait a moment, the newest goes first, and the rest are turned away.

    The newest first: whoever has waited longest is most likely gone, and serving the queue in its order under overload
    means serving only those who have given up.

    How many at once follows from how late the event loop is: what waits for AWS costs the others nothing, but of those
    that the loop itself has to carry, each makes all wait longer.

    Args:
        capacity: The most at once.
        waiting: How many more may wait.
        patience: Seconds that they wait.
    """

    def __init__(self, capacity: int, waiting: int | None = None, patience: float = 0.25) -> None:
        self._capacity = self._limit = capacity
        self._taken = 0
        self._room = capacity if waiting is None else waiting
        self._patience = patience
        self._waiting: list[asyncio.Future[None]] = []

    async def __aenter__(self) -> None:
        if self._taken < self._limit:
            self._taken += 1
            return
        if not self._room:
            raise Overloaded(retry_after=1)
        if len(self._waiting) >= self._room:
            self._waiting.pop(0).cancel()
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        await self._wait(place)

    async def _wait(self, place: asyncio.Future[None]) -> None:
        try:
            await asyncio.wait((place,), timeout=self._patience)
        except asyncio.CancelledError:
            self._forget(place)
            raise
        if not place.done() or place.cancelled():
            self._forget(place)
            raise Overloaded("waited for a place in vain", retry_after=1)

    def _forget(self, place: asyncio.Future[None]) -> None:
        if place in self._waiting:
            self._waiting.remove(place)
        elif place.done() and not place.cancelled():  # given a place that it will not use
            self._leave()

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        self._taken -= 1
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self._taken < self._limit:
            self._taken += 1
            self._waiting.pop().set_result(None)

    def heed(self, lag: float) -> None:
        """Hear by how many seconds the event loop was late; take fewer at once while that is much, and else more."""
        if lag > LATE:
            self._limit = min(self._capacity, max(FEWEST, int(self._limit * max(0.5, LATE / lag))))
        elif self._limit < self._capacity:
            self._limit = min(self._capacity, self._limit + max(1, self._limit // 8))
            self._let_in()

    def measures(self) -> Iterator[Measure]:
        """Answer how many requests are served at once, and how many may be."""
        yield Measure("requests_in_service", self._taken)
        yield Measure("requests_in_service_limit", self._limit)


class Doors:
    """Every guarded route is entered through here."""

    def __init__(
        self,
        authenticator: Authenticator,
        rate: Rate,
        locks: Locks,
        admission: Admission,
        sessions: Sessions | None = None,
        strangers: Buckets | None = None,
    ) -> None:
        self._authenticator = authenticator
        self._sessions = sessions or NoSessions()
        self._rate = rate
        self._strangers = strangers
        self._locks = locks
        self.admission = admission

    def nonce(self) -> str:
        """Answer what senders put into their next proof (DPoP)."""
        return self._authenticator.nonce()

    async def admit(self, presented: Presented, source: Source, request_id: str, route: str) -> Caller:
        """Answer who comes in from where, by which request, to which route.

        Raises:
            InvalidToken: whoever this is, nobody vouches for them.
            RateLimited: they were here too often.
            Locked: somebody keeps them out.
            AuditUnavailable: nobody knows whether they are locked.
        """
        with stage(AUTHENTICATION):
            caller = await self._authenticate(presented, network_of(source.ip))
        await self._rate.spend(caller)
        await self.hold_up(caller, source, request_id, route)
        return caller

    async def hold_up(self, caller: Caller, source: Source, request_id: str, route: str) -> None:
        """Let nobody pass who is locked by now; raises Locked and AuditUnavailable."""
        await self._locks.admit(caller, source, request_id, route)

    async def _authenticate(self, presented: Presented, peer: str) -> Caller:
        """Answer who calls; from where much was refused lately, only tokens are looked at that held a moment ago."""
        strangers = self._strangers
        if strangers and (wait := strangers.wait(peer)) > 0 and not self._authenticator.is_known(presented):
            self._authenticator.count_failure(Fault.TOO_MANY_FAILURES.value)
            raise limited(wait)
        try:
            return await self._authenticator.authenticate(presented)
        except InvalidToken as refusal:
            if strangers and refusal.cause not in _NOBODY_S_FAULT:
                with suppress(RateLimited):
                    strangers.spend(peer)
            raise

    async def recognize(self, cookie: str, source: Source, request_id: str, route: str) -> Session:
        """Answer who comes in by a session of the console; raises as `admit` does."""
        with stage(AUTHENTICATION):
            session = await self._sessions.find(cookie)
        await self._rate.spend(session.caller)
        await self.hold_up(session.caller, source, request_id, route)
        return session

    def note_refusal(self, refusal: InvalidToken) -> None:
        """Count who was refused at a page; `authenticate` counts tokens by itself."""
        if refusal.cause in OF_THE_CONSOLE:
            self._authenticator.count_failure(refusal.cause)

    def check_form(self, session: Session, form_token: str) -> None:
        """Take a form only from a page of this very session.

        Raises:
            InvalidToken: it came from elsewhere.
        """
        if not self._sessions.is_of(session, form_token):
            raise InvalidToken(Fault.FOREIGN_FORM.value)
