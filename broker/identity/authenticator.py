"""The door of this room: what a request says in its Authorization header becomes a `Caller`, or is refused."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

from broker.errors import InvalidToken
from broker.identity.faults import Fault, refused
from broker.identity.preparser import MAX_TOKEN, UnverifiedToken, parse
from broker.identity.tokens import check_kind, verify
from broker.model import Caller, Clock, Health, utc_now

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from broker.identity.issuers import Issuer
    from broker.identity.keys import KeySet

_BEARER: Final = re.compile(r"bearer ([^ ]+)", re.IGNORECASE)
_LONGEST_HEADER: Final = MAX_TOKEN + len("bearer ")
_MAX_REMEMBERED: Final = 4096
_REMEMBERED_FOR: Final = timedelta(seconds=60)


class Keys(Protocol):
    """What the door needs of a `keysets.KeyRing`."""

    def current(self, issuer: str) -> KeySet | None:
        """Answer the keys of this issuer that may be relied on now."""
        ...

    async def for_token(self, issuer: str, key_id: str | None) -> KeySet | None:
        """Answer the keys to judge a token with this key id by."""
        ...

    async def start(self) -> None:
        """Begin to fetch keys."""
        ...

    async def close(self) -> None:
        """Stop fetching keys."""
        ...

    def health(self) -> Health:
        """Say whether every issuer has keys."""
        ...


@dataclass(frozen=True, slots=True)
class _Verified:
    """A caller whose token held, by which keys that was, and from when until when it need not be asked again."""

    caller: Caller
    keys: KeySet
    since: datetime
    until: datetime


class Authenticator:
    """Turns bearer tokens into callers (RFC 6750, RFC 9068).

    Tokens that held are remembered by their SHA-256 for at most a minute, never past their end, and only as long as
    the issuer's key set is the very one that they were verified with. Only verified tokens are remembered, so
    strangers cannot push them out.

    Args:
        issuers: who may vouch for a caller.
        keys: their keys, usually a `keysets.KeyRing` over the same issuers.
        clock: the time now.

    Raises:
        ValueError: two issuers share a name or an `iss`.
    """

    def __init__(self, issuers: Sequence[Issuer], keys: Keys, clock: Clock = utc_now) -> None:
        self._issuers: Mapping[object, Issuer] = {issuer.issuer: issuer for issuer in issuers}
        if len(self._issuers) != len(issuers) or len({issuer.name for issuer in issuers}) != len(issuers):
            raise ValueError("two issuers share a name or an issuer identifier")
        self._keys = keys
        self._clock = clock
        self._verified: dict[bytes, _Verified] = {}
        self._failures: Counter[str] = Counter()

    async def authenticate(self, authorization_values: Sequence[str]) -> Caller:
        """Answer who sent a request.

        Args:
            authorization_values: every value of its Authorization headers, as they came.

        Raises:
            InvalidToken: any fault; `cause` is one word of `faults.Fault`, for the log.
        """
        try:
            return await self._authenticate(authorization_values)
        except InvalidToken as refusal:
            self._failures[refusal.cause] += 1
            raise

    def drain_failures(self) -> Mapping[str, int]:
        """Answer how many tokens were refused since the last call, by cause, and begin to count anew."""
        drained, self._failures = self._failures, Counter()
        return dict(drained)

    async def start(self) -> None:
        """Begin to fetch the issuers' keys. An unreachable issuer shows in `health` and stops nothing."""
        await self._keys.start()

    async def close(self) -> None:
        """Stop fetching keys and forget verified tokens."""
        self._verified.clear()
        await self._keys.close()

    def health(self) -> Health:
        """Say as component `issuers` whether all of them have keys."""
        return self._keys.health()

    async def _authenticate(self, authorization_values: Sequence[str]) -> Caller:
        text = _bearer_token(authorization_values)
        now = self._clock()
        remembered = self._recall(hashlib.sha256(text.encode("ascii")).digest(), now)
        if remembered is not None:
            return remembered
        token = parse(text)
        issuer = self._issuer_of(token)
        check_kind(token, issuer)
        keys = await self._keys.for_token(issuer.name, token.key_id)
        if keys is None:
            raise refused(Fault.KEYS_UNAVAILABLE)
        now = self._clock()  # the keys may have taken seconds
        caller = verify(token, issuer, keys, now)
        self._remember(token.sha256, _Verified(caller, keys, now, min(now + _REMEMBERED_FOR, caller.token_expires_at)))
        return caller

    def _issuer_of(self, token: UnverifiedToken) -> Issuer:
        claimed = token.claims.get("iss")
        issuer = self._issuers.get(claimed) if isinstance(claimed, str) else None
        if issuer is None:
            raise refused(Fault.UNKNOWN_ISSUER)
        return issuer

    def _recall(self, digest: bytes, now: datetime) -> Caller | None:
        """Answer the caller of a remembered token, and forget it when anything about it changed, the clock included."""
        entry = self._verified.get(digest)
        if entry is None:
            return None
        if entry.since <= now < entry.until and self._keys.current(entry.caller.issuer) is entry.keys:
            return entry.caller
        del self._verified[digest]
        return None

    def _remember(self, digest: bytes, entry: _Verified) -> None:
        while len(self._verified) >= _MAX_REMEMBERED:
            del self._verified[next(iter(self._verified))]
        self._verified[digest] = entry


def _bearer_token(authorization_values: Sequence[str]) -> str:
    """Take the token out of the one Authorization header (RFC 6750, 2.1)."""
    if not authorization_values:
        raise refused(Fault.MISSING)
    value = authorization_values[0]
    if len(authorization_values) != 1 or len(value) > _LONGEST_HEADER or not value.isascii():
        raise refused(Fault.BAD_AUTHORIZATION)
    credentials = _BEARER.fullmatch(value)
    if credentials is None:
        raise refused(Fault.BAD_AUTHORIZATION)
    return credentials[1]
