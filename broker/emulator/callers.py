"""Who may call: the configured access key, and the temporary ones that AssumeRole gave out."""

from __future__ import annotations

import base64
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from broker.emulator.errors import AwsError
from broker.emulator.signatures import SignedCall, read_authorization, verify_signature

Clock = Callable[[], datetime]
"""Answers the current time as an aware UTC datetime."""

_MOST_SESSIONS: Final = 10_000


def utc_now() -> datetime:
    """Answer the current time, aware and in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whose signature held, and the Region of its scope. `source_identity` was set by AssumeRole."""

    account_id: str
    arn: str
    user_id: str
    region: str
    is_temporary: bool = False
    source_identity: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKey:
    """A key to sign with; `token` and `expires_at` only with temporary ones."""

    access_key_id: str
    secret: str = field(repr=False)
    account_id: str
    arn: str
    user_id: str
    token: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None
    source_identity: str | None = None


class Callers:
    """Tells callers by their signatures. Holds the long-lived key and a bounded number of temporary ones."""

    def __init__(self, key: AccessKey, clock: Clock) -> None:
        self._clock = clock
        self._long_lived = key
        self._temporary: OrderedDict[str, AccessKey] = OrderedDict()

    def verify(self, call: SignedCall, service: str) -> Caller:
        """Answer who signed a call to a service.

        Raises:
            AwsError: MissingAuthenticationTokenException, UnrecognizedClientException (no such key, or a token that is
                not the key's), ExpiredTokenException or InvalidSignatureException.
        """
        authorization = read_authorization(call, service)
        now = self._clock()
        key = self._key(authorization.access_key_id, call.headers.get("x-amz-security-token"))
        if key.expires_at is not None and key.expires_at <= now:
            raise AwsError("ExpiredTokenException", "The security token included in the request is expired")
        verify_signature(call, authorization, key.secret, now)
        return Caller(
            account_id=key.account_id,
            arn=key.arn,
            user_id=key.user_id,
            region=authorization.region,
            is_temporary=key.token is not None,
            source_identity=key.source_identity,
        )

    def give_out(
        self, *, account_id: str, arn: str, user_id: str, expires_at: datetime, source: str | None
    ) -> AccessKey:
        """Make a temporary key for a session of a role, and accept it from now on."""
        key = AccessKey(
            access_key_id=f"ASIA{base64.b32encode(secrets.token_bytes(10)).decode()}",
            secret=secrets.token_urlsafe(30),
            account_id=account_id,
            arn=arn,
            user_id=user_id,
            token=secrets.token_urlsafe(96),
            expires_at=expires_at,
            source_identity=source,
        )
        self._temporary[key.access_key_id] = key
        while len(self._temporary) > _MOST_SESSIONS:
            self._temporary.popitem(last=False)
        return key

    def _key(self, access_key_id: str, token: str | None) -> AccessKey:
        key = self._temporary.get(access_key_id)
        if access_key_id == self._long_lived.access_key_id:
            key = self._long_lived
        if key is None or not _same(key.token, token):
            raise AwsError("UnrecognizedClientException", "The security token included in the request is invalid.")
        return key


def _same(held: str | None, sent: str | None) -> bool:
    if held is None or sent is None:
        return held is sent
    return secrets.compare_digest(held.encode(), sent.encode("utf-8", "surrogateescape"))
