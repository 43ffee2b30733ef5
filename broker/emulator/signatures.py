"""Signature Version 4, from the side that verifies it."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final
from urllib.parse import quote, unquote

from broker.emulator.errors import AwsError

_SKEW: Final = timedelta(minutes=15)
_STAMP: Final = "%Y%m%dT%H%M%SZ"
_MUST_BE_SIGNED: Final = frozenset({"host", "x-amz-date"})
_AUTHORIZATION: Final = re.compile(
    r"AWS4-HMAC-SHA256 +Credential=([^/, ]+)/(\d{8})/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request, *"
    r"SignedHeaders=([a-z0-9;-]+), *Signature=([0-9a-f]{64})",
    re.ASCII,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCall:
    """The parts of an HTTP request that a signature covers; header names in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """A well-formed Authorization header."""

    access_key_id: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str

    @property
    def scope(self) -> str:
        """The credential scope: what the signing key is for."""
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


def read_authorization(call: SignedCall, service: str) -> Authorization:
    """Read who signed a call, for which Region.

    Raises:
        AwsError: MissingAuthenticationTokenException, or InvalidSignatureException (which AWS also uses for a scope of
            another service and for headers that should have been signed).
    """
    header = call.headers.get("authorization")
    if header is None:
        raise AwsError("MissingAuthenticationTokenException", "Missing Authentication Token")
    match = _AUTHORIZATION.fullmatch(header)
    if match is None:
        raise _refused("The Authorization header is not one of AWS4-HMAC-SHA256.")
    access_key_id, date, region, named_service, names, signature = match.groups()
    if named_service != service:
        raise _refused(f"Credential should be scoped to correct service: '{service}'.")
    authorization = Authorization(
        access_key_id=access_key_id,
        date=date,
        region=region,
        service=service,
        signed_headers=tuple(names.split(";")),
        signature=signature,
    )
    _require_signed(call, authorization.signed_headers)
    return authorization


def verify_signature(call: SignedCall, authorization: Authorization, secret: str, now: datetime) -> None:
    """Compute the signature again and compare.

    Raises:
        AwsError: InvalidSignatureException when it differs, or when it was made too long ago or ahead of time.
    """
    stamp = call.headers["x-amz-date"]
    _check_clock(stamp, authorization.date, now)
    to_sign = "\n".join(("AWS4-HMAC-SHA256", stamp, authorization.scope, _hex(_canonical(call, authorization))))
    expected = hmac.new(_signing_key(secret, authorization), to_sign.encode(), sha256).hexdigest()
    if not hmac.compare_digest(expected, authorization.signature):
        raise _refused(
            "The request signature we calculated does not match the signature you provided. "
            "Check your AWS Secret Access Key and signing method."
        )


def _require_signed(call: SignedCall, names: tuple[str, ...]) -> None:
    needed = _MUST_BE_SIGNED | {name for name in call.headers if name == "x-amz-security-token"}
    if not needed <= set(names):
        raise _refused(f"These headers must be signed: {', '.join(sorted(needed))}.")
    if not set(names) <= set(call.headers):
        raise _refused("A header that was signed is missing.")
    if call.headers.get("x-amz-content-sha256", _hex(call.body)) != _hex(call.body):
        raise _refused("The body is not the one that was signed.")


def _check_clock(stamp: str, date: str, now: datetime) -> None:
    try:
        signed_at = datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
    except ValueError as error:
        raise _refused("X-Amz-Date is not of the form YYYYMMDDTHHMMSSZ.") from error
    if not stamp.startswith(date):
        raise _refused("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP.")
    if signed_at < now - _SKEW:
        raise _refused(f"Signature expired: {stamp} is now earlier than {(now - _SKEW).strftime(_STAMP)}.")
    if signed_at > now + _SKEW:
        raise _refused(f"Signature not yet current: {stamp} is still later than {(now + _SKEW).strftime(_STAMP)}.")


def _canonical(call: SignedCall, authorization: Authorization) -> bytes:
    names = authorization.signed_headers
    lines: Iterable[str] = (
        call.method,
        quote(unquote(call.path), safe="/~-_."),
        "&".join(sorted(call.query.split("&"))),
        *(f"{name}:{' '.join(call.headers[name].split())}" for name in names),
        "",
        ";".join(names),
        _hex(call.body),
    )
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def _signing_key(secret: str, authorization: Authorization) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in authorization.scope.split("/"):
        key = hmac.new(key, part.encode(), sha256).digest()
    return key


def _hex(data: bytes) -> str:
    return sha256(data).hexdigest()


def _refused(message: str) -> AwsError:
    return AwsError("InvalidSignatureException", message)
