"""Sessions of people who look at the console. The log keeps them, so that every replica knows them.

A session is a thread of the log: `console.signed_in` begins it, `console.signed_out` ends it. The browser holds a
random id, the log only its SHA-256. Beside the id stands when it was last used, under a MAC, so that nothing has to be
written while somebody reads on.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from broker.errors import Superseded
from broker.identity.faults import Fault, refused
from broker.model import Caller, Clock, Event, Receipt, Secret, Source, rfc3339

IDLE: Final = timedelta(minutes=30)
LONGEST: Final = timedelta(hours=8)
LINK_LIFE: Final = timedelta(seconds=60)
LINK_MADE: Final = "console.link_made"
LINK_USED: Final = "console.link_used"
SIGNED_IN: Final = "console.signed_in"
SIGNED_OUT: Final = "console.signed_out"
_COOKIE: Final = re.compile(r"([A-Za-z0-9_-]{43})\.([0-9]{1,12})\.([0-9a-f]{64})", re.ASCII)
_LINK: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_TOKEN_ID_DIGITS: Final = 16


class Ledger(Protocol):
    """The log, as far as sessions write to it."""

    async def append(self, event: Event, *, after: int | None = None) -> Receipt:
        """Write one event, with `after` only if that is still the newest of its thread."""
        ...


class StoredThread(Protocol):
    """What the log knows of one session."""

    @property
    def facts(self) -> str:
        """What its events said, as lines of JSON."""
        ...


class Threads(Protocol):
    """Reads the threads of the log."""

    async def thread(self, thread: str) -> StoredThread | None:
        """Answer one; raises AuditUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who has signed in. `form_token` stands in every form of theirs (against cross-site requests)."""

    caller: Caller
    thread: str
    index: int
    cookie: Secret
    form_token: Secret


class Sessions:
    """Begins, finds and ends sessions.

    Args:
        key: 32 bytes that all replicas have.
        ledger: where sessions are written.
        threads: where they are read.
        people: the short names of the issuers that vouch for people.
        clock: the time.
    """

    def __init__(self, key: bytes, ledger: Ledger, threads: Threads, people: frozenset[str], clock: Clock) -> None:
        self._key = key
        self._ledger = ledger
        self._threads = threads
        self._people = people
        self._clock = clock

    async def redeem(self, link: str, source: Source, request_id: str) -> Secret:
        """Sign in by a one-time link; answer the cookie.

        Raises:
            InvalidToken: there is no such link, it was used, or it is too old.
        """
        if not _LINK.fullmatch(link):
            raise refused(Fault.UNKNOWN_LINK)
        made = await self._newest(_digest(link), LINK_MADE)
        caller = self._named(made)
        used = Event(
            event=LINK_USED,
            outcome="success",
            request_id=request_id,
            actor=caller,
            source=source,
            details={"thread": _digest(link)},
        )
        try:
            await self._ledger.append(used, after=int(made["index"]))
        except Superseded:
            raise refused(Fault.UNKNOWN_LINK) from None
        return await self.begin(caller, source, request_id, via="link")

    async def begin(self, caller: Caller, source: Source, request_id: str, *, via: str) -> Secret:
        """Begin a session; answer the cookie. It is over when `caller.token_expires_at` is."""
        secret = secrets.token_urlsafe()
        details: dict[str, str | bool] = {
            "thread": _digest(secret),
            "until": rfc3339(caller.token_expires_at),
            "via": via,
            "mfa": caller.mfa,
        }
        if caller.email:
            details["email"] = caller.email
        if caller.authenticated_at:
            details["authenticated_at"] = rfc3339(caller.authenticated_at)
        begun = Event(
            event=SIGNED_IN, outcome="success", request_id=request_id, actor=caller, source=source, details=details
        )
        await self._ledger.append(begun, after=-1)
        return self._cookie(secret)

    async def find(self, cookie: str) -> Session:
        """Answer whose session this is, with the cookie that goes on from now.

        Raises:
            InvalidToken: nobody's, or it has ended, by itself or by its person.
        """
        if not cookie:
            raise refused(Fault.MISSING)
        secret = self._used_lately(cookie)
        fact = await self._newest(_digest(secret), SIGNED_IN)
        return Session(
            caller=_caller(fact, secret),
            thread=_digest(secret),
            index=int(fact["index"]),
            cookie=self._cookie(secret),
            form_token=Secret(self._mac(f"form {secret}")),
        )

    async def confirm(self, session: Session) -> None:
        """Ask whether a session goes on; raises as `find` does."""
        await self.find(session.cookie.reveal())

    async def end(self, session: Session, source: Source, request_id: str) -> None:
        """Sign out, everywhere at once."""
        ended = Event(
            event=SIGNED_OUT,
            outcome="success",
            request_id=request_id,
            actor=session.caller,
            source=source,
            details={"thread": session.thread},
        )
        await self._ledger.append(ended, after=session.index)

    def is_of(self, session: Session, form_token: str) -> bool:
        """Tell whether a form came from a page of this session."""
        return hmac.compare_digest(session.form_token.reveal().encode(), form_token.encode())

    def _used_lately(self, cookie: str) -> str:
        match = _COOKIE.fullmatch(cookie)
        if match is None or not hmac.compare_digest(self._mac(f"{match[1]}.{match[2]}"), match[3]):
            raise refused(Fault.NO_SESSION)
        if self._clock() - datetime.fromtimestamp(int(match[2]), UTC) > IDLE:
            raise refused(Fault.SESSION_ENDED)
        return match[1]

    async def _newest(self, thread: str, event: str) -> Mapping[str, Any]:
        """Answer the newest event of a thread, which has to be this one, and not to be over."""
        stored = await self._threads.thread(thread)
        facts = [json.loads(line) for line in stored.facts.splitlines()] if stored else []
        if not facts or facts[-1]["event"] != event:
            raise refused(Fault.NO_SESSION)
        if datetime.fromisoformat(facts[-1]["details"]["until"]) <= self._clock():
            raise refused(Fault.SESSION_ENDED)
        newest: Mapping[str, Any] = facts[-1]
        return newest

    def _named(self, made: Mapping[str, Any]) -> Caller:
        """Answer whom an operator has made a link for."""
        issuer, _, subject = str(made.get("target", "")).partition("/")
        if issuer not in self._people or not subject:
            raise refused(Fault.UNKNOWN_ISSUER)
        return Caller(
            issuer=issuer,
            subject=subject,
            kind="user",
            groups=tuple(made["details"].get("groups", ())),
            mfa=True,  # whoever may read the service's state made the link; there is nothing stronger to ask for
            authenticated_at=datetime.fromisoformat(made["time"]),
            token_expires_at=self._clock() + LONGEST,
        )

    def _cookie(self, secret: str) -> Secret:
        used = f"{secret}.{int(self._clock().timestamp())}"
        return Secret(f"{used}.{self._mac(used)}")

    def _mac(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()


def link_event(person: str, groups: Sequence[str], now: datetime) -> tuple[Secret, Event]:
    """Make a one-time link for a person (`issuer/subject`): its secret, and the event that makes it good."""
    link = secrets.token_urlsafe()
    until = rfc3339(now + LINK_LIFE)
    details: dict[str, str | tuple[str, ...]] = {"thread": _digest(link), "until": until}
    if groups:
        details["groups"] = tuple(groups)
    return Secret(link), Event(event=LINK_MADE, outcome="success", target=person, details={**details})


def _caller(fact: Mapping[str, Any], secret: str) -> Caller:
    actor, details = fact["actor"], fact["details"]
    logged_in = details.get("authenticated_at")
    return Caller(
        issuer=actor["issuer"],
        subject=actor["subject"],
        kind=actor["kind"],
        groups=tuple(actor.get("groups", ())),
        email=details.get("email"),
        mfa=details.get("mfa") is True,
        authenticated_at=datetime.fromisoformat(logged_in) if logged_in else None,
        token_id=_digest(secret)[:_TOKEN_ID_DIGITS],
        token_expires_at=datetime.fromisoformat(details["until"]),
    )


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
