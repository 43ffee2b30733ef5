"""The door of this room: what a request presents becomes a `Caller`, or is refused."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

from broker.errors import InvalidToken, NonceNeeded
from broker.identity.binding import check_certificate, parse_proof, verify_proof
from broker.identity.faults import Fault, refused
from broker.identity.nonces import Nonces
from broker.identity.preparser import MAX_TOKEN, UnverifiedToken, parse
from broker.identity.replays import REMEMBERED_FOR, ReplaysInMemory
from broker.identity.tokens import check_kind, verify
from broker.model import Caller, Clock, Health, Measure, utc_now

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from broker.identity.binding import Binding, UnverifiedProof
    from broker.identity.issuers import Issuer
    from broker.identity.keys import KeySet
    from broker.identity.replays import ReplayCache
    from broker.model import Presented

_CREDENTIALS: Final = re.compile(r"(bearer|dpop) ([^ ]+)", re.IGNORECASE)
_LONGEST_HEADER: Final = MAX_TOKEN + len("bearer ")
_DPOP: Final = "dpop"
_NONCE_KEY: Final = 32
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

    def measures(self) -> Iterator[Measure]:
        """Answer how old the keys of each issuer are."""
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
    binding: Binding
    keys: KeySet
    since: datetime
    until: datetime


class Authenticator:
    """Turns access tokens into callers (RFC 6750, RFC 9068), and holds the sender to what a token is bound to.

    Tokens that held are remembered by their SHA-256 for at most a minute, never past their end, and only as long as
    the issuer's key set is the very one that they were verified with. Only verified tokens are remembered, so
    strangers cannot push them out. What a token is bound to is asked for every time.

    Args:
        issuers: who may vouch for a caller.
        keys: their keys, usually a `keysets.KeyRing` over the same issuers.
        clock: the time now.
        nonces: for DPoP proofs; by default of this process alone.
        replays: remembers used proofs; by default for this process alone.

    Raises:
        ValueError: two issuers share a name or an `iss`.
    """

    def __init__(
        self,
        issuers: Sequence[Issuer],
        keys: Keys,
        clock: Clock = utc_now,
        nonces: Nonces | None = None,
        replays: ReplayCache | None = None,
    ) -> None:
        self._issuers: Mapping[object, Issuer] = {issuer.issuer: issuer for issuer in issuers}
        if len(self._issuers) != len(issuers) or len({issuer.name for issuer in issuers}) != len(issuers):
            raise ValueError("two issuers share a name or an issuer identifier")
        self.keys = keys
        self._clock = clock
        self._nonces = nonces or Nonces(secrets.token_bytes(_NONCE_KEY), clock)
        self._replays = replays or ReplaysInMemory(clock)
        self._verified: dict[bytes, _Verified] = {}
        self._failures: Counter[str] = Counter()

    async def authenticate(self, presented: Presented) -> Caller:
        """Answer who sent a request.

        Raises:
            InvalidToken: any fault; `cause` is one word of `faults.Fault`, for the log.
            BrokerError: it cannot be told now whether a proof was used before.
        """
        try:
            return await self._authenticate(presented)
        except InvalidToken as refusal:
            self._failures[refusal.cause] += 1
            raise

    def is_known(self, presented: Presented) -> bool:
        """Tell, at next to no cost, whether the token held a moment ago; it still has to be authenticated."""
        try:
            _, text = _credentials(presented.authorization)
        except InvalidToken:
            return False
        return self._recall(_digest(text), self._clock()) is not None

    def nonce(self) -> str:
        """Answer what senders put into their next DPoP proof."""
        return self._nonces.current()

    def measures(self) -> Iterator[Measure]:
        """Answer how old the keys of each issuer are."""
        return self.keys.measures()

    def count_failure(self, cause: str) -> None:
        """Count somebody who was refused elsewhere, without a token."""
        self._failures[cause] += 1

    def drain_failures(self) -> Mapping[str, int]:
        """Answer how many tokens were refused since the last call, by cause, and begin to count anew."""
        drained, self._failures = self._failures, Counter()
        return dict(drained)

    async def start(self) -> None:
        """Begin to fetch the issuers' keys. An unreachable issuer shows in `health` and stops nothing."""
        await self.keys.start()

    async def close(self) -> None:
        """Stop fetching keys and forget verified tokens."""
        self._verified.clear()
        await self.keys.close()

    def health(self) -> Health:
        """Say as component `issuers` whether all of them have keys."""
        return self.keys.health()

    async def _authenticate(self, presented: Presented) -> Caller:
        scheme, text = _credentials(presented.authorization)
        proof = self._fresh(presented) if scheme == _DPOP else None
        caller, binding = await self._vouched(text)
        check_certificate(binding, presented)
        if (proof is not None) != (binding.key is not None):  # a bound token as a bearer token, or the other way round
            raise refused(Fault.BINDING_UNPROVED)
        if proof is not None:
            now = self._clock()
            named = verify_proof(proof, presented, text, binding, now)
            if not await self._replays.spend(_holder(caller), named, now + REMEMBERED_FOR):
                raise refused(Fault.PROOF_REPLAYED)
        return caller

    def _fresh(self, presented: Presented) -> UnverifiedProof:
        """Read the proof, and turn away at once who does not know a nonce: nothing else was looked at yet."""
        proof = parse_proof(presented.dpop)
        if not self._nonces.is_fresh(proof.nonce):
            raise NonceNeeded(Fault.NONCE_NEEDED.value)
        return proof

    async def _vouched(self, text: str) -> tuple[Caller, Binding]:
        """Answer whom a token is about, and what it is bound to."""
        now = self._clock()
        remembered = self._recall(_digest(text), now)
        if remembered is not None:
            return remembered.caller, remembered.binding
        token = parse(text)
        issuer = self._issuer_of(token)
        check_kind(token, issuer)
        keys = await self.keys.for_token(issuer.name, token.key_id)
        if keys is None:
            raise refused(Fault.KEYS_UNAVAILABLE)
        now = self._clock()  # the keys may have taken seconds
        caller, binding = verify(token, issuer, keys, now)
        until = min(now + _REMEMBERED_FOR, caller.token_expires_at)
        self._remember(token.sha256, _Verified(caller, binding, keys, now, until))
        return caller, binding

    def _issuer_of(self, token: UnverifiedToken) -> Issuer:
        claimed = token.claims.get("iss")
        issuer = self._issuers.get(claimed) if isinstance(claimed, str) else None
        if issuer is None:
            raise refused(Fault.UNKNOWN_ISSUER)
        return issuer

    def _recall(self, digest: bytes, now: datetime) -> _Verified | None:
        """Answer what is known of a remembered token, and forget it when anything changed, the clock included."""
        entry = self._verified.get(digest)
        if entry is None:
            return None
        if entry.since <= now < entry.until and self.keys.current(entry.caller.issuer) is entry.keys:
            return entry
        del self._verified[digest]
        return None

    def _remember(self, digest: bytes, entry: _Verified) -> None:
        while len(self._verified) >= _MAX_REMEMBERED:
            del self._verified[next(iter(self._verified))]
        self._verified[digest] = entry


def _holder(caller: Caller) -> bytes:
    """Name in 32 bytes whose a proof is: not its key's, for a caller may have as many of these as it likes."""
    return hashlib.sha256(f"{caller.issuer}\0{caller.subject}".encode()).digest()


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("ascii")).digest()


def _credentials(authorization_values: Sequence[str]) -> tuple[str, str]:
    """Take scheme, in lower case, and token out of the one Authorization header (RFC 6750, 2.1; RFC 9449, 7.1)."""
    if not authorization_values:
        raise refused(Fault.MISSING)
    value = authorization_values[0]
    if len(authorization_values) != 1 or len(value) > _LONGEST_HEADER or not value.isascii():
        raise refused(Fault.BAD_AUTHORIZATION)
    credentials = _CREDENTIALS.fullmatch(value)
    if credentials is None:
        raise refused(Fault.BAD_AUTHORIZATION)
    return credentials[1].lower(), credentials[2]
