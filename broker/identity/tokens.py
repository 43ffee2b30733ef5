"""Verification of an access token, given the issuer's keys and the time (pure; RFC 8725, RFC 9068).

What is proved, in this order; each number stands beside its code.

 1. The algorithm is one that this issuer may use.
 2. The token is of a kind that is accepted as an access token.
 3. The key is the issuer's, found by the token's `kid`.
 4. The key is made for that algorithm, and signed exactly these bytes.
 5. The issuer is the one whose key it was, byte for byte.
 6. The token is meant for this broker and for nobody else.
 7. It is valid now, not too old, and its dates make sense.
 8. It is bound to nothing that cannot be proved here, and to something where the issuer's tokens must be.
 9. The claims that the settings require are there, with exactly these values.
10. Subject and groups are short, printable text.

Whoever calls has shown that the token is a strict compact JWS (`preparser`), has chosen the issuer by the unverified
`iss`, and has brought that issuer's keys. PyJWT's algorithm objects do the cryptography on the very bytes that the
pre-parser took apart; its `decode` would parse the token a second time, and more leniently.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from broker.identity.binding import Binding, binding_of
from broker.identity.faults import Fault, refused
from broker.identity.preparser import MAX_NAME
from broker.model import Caller

if TYPE_CHECKING:
    from collections.abc import Mapping

    from broker.identity.issuers import Issuer
    from broker.identity.keys import KeySet
    from broker.identity.preparser import UnverifiedToken

LEEWAY: Final = timedelta(seconds=30)
"""By how much the clocks of issuer and broker may differ."""
MAX_GROUPS: Final = 256
_LONGEST_LIFETIME: Final = timedelta(days=1)
_TOKEN_ID_DIGITS: Final = 16

# What only tokens of other kinds carry: ID tokens (OIDC Core 3.1.3.6, 3.3.2.11), logout and security event tokens.
_OTHER_KINDS: Final = frozenset({"nonce", "at_hash", "c_hash", "s_hash", "events"})


def verify(token: UnverifiedToken, issuer: Issuer, keys: KeySet, now: datetime) -> tuple[Caller, Binding]:
    """Answer who the caller is, once the token proves it, and what the sender still has to prove (see `binding`).

    Raises:
        InvalidToken: any of the ten points above does not hold.
    """
    check_kind(token, issuer)  # 1, 2
    _check_signature(token, keys)  # 3, 4
    _check_parties(token.claims, issuer)  # 5, 6
    expires_at = _check_dates(token.claims, issuer, now)  # 7
    binding = _binding(token.claims, issuer)  # 8
    _check_required(token.claims, issuer)  # 9
    return _caller(token, issuer, expires_at, bound=bool(binding)), binding  # 10


def verify_id_token(token: UnverifiedToken, issuer: Issuer, client_id: str, keys: KeySet, now: datetime) -> None:
    """Hold an ID token to its issuer, to our client and to its dates (OpenID Connect Core 3.1.3.7).

    Nonce and subject are for whoever began the login. An ID token is no access token: it makes no caller.

    Raises:
        InvalidToken: any of that does not hold.
    """
    if token.algorithm not in issuer.algorithms:
        raise refused(Fault.ALGORITHM_NOT_ALLOWED)
    _check_signature(token, keys)
    _check_parties(token.claims, replace(issuer, audience=client_id))
    if token.claims.get("azp", client_id) != client_id:
        raise refused(Fault.WRONG_AUDIENCE)
    _check_dates(token.claims, issuer, now)


def check_kind(token: UnverifiedToken, issuer: Issuer) -> None:
    """Check points 1 and 2, which need no key: worth asking before keys are fetched."""
    if token.algorithm not in issuer.algorithms:
        raise refused(Fault.ALGORITHM_NOT_ALLOWED)
    if _media_type(token.type) not in map(_media_type, issuer.token_types):
        raise refused(Fault.WRONG_TYPE)
    if not _OTHER_KINDS.isdisjoint(token.claims):
        raise refused(Fault.WRONG_TYPE)


def _media_type(name: str) -> str:
    """Compare as RFC 7515, 4.1.9 says: without regard to case, and `application/` may be left out."""
    return name.lower().removeprefix("application/")


def _check_signature(token: UnverifiedToken, keys: KeySet) -> None:
    key = keys.find(token.key_id)
    if key is None:
        raise refused(Fault.KEY_ID_MISSING if token.key_id is None else Fault.UNKNOWN_KEY)
    if not key.fits(token.algorithm):
        raise refused(Fault.ALGORITHM_NOT_ALLOWED)
    if not key.signed(token.algorithm, token.signing_input, token.signature):
        raise refused(Fault.BAD_SIGNATURE)


def _check_parties(claims: Mapping[str, object], issuer: Issuer) -> None:
    if claims.get("iss") != issuer.issuer:
        raise refused(Fault.UNKNOWN_ISSUER)
    if claims.get("aud") not in (issuer.audience, [issuer.audience]):
        raise refused(Fault.WRONG_AUDIENCE)


def _check_dates(claims: Mapping[str, object], issuer: Issuer, now: datetime) -> datetime:
    """Answer until when the token may be used: its `exp`, or earlier when it gets too old before."""
    if "exp" not in claims or "iat" not in claims:
        raise refused(Fault.CLAIM_MISSING)
    expires_at, issued_at = _moment(claims["exp"]), _moment(claims["iat"])
    not_before = _moment(claims.get("nbf", claims["iat"]))
    logged_in_at = _moment(claims.get("auth_time", claims["iat"]))
    if expires_at <= max(issued_at, not_before):
        raise refused(Fault.BAD_LIFETIME)
    if expires_at - issued_at > max(_LONGEST_LIFETIME, issuer.max_token_age):
        raise refused(Fault.BAD_LIFETIME)
    if now - LEEWAY >= expires_at:
        raise refused(Fault.EXPIRED)
    if now + LEEWAY < max(issued_at, not_before, logged_in_at):
        raise refused(Fault.NOT_YET_VALID)
    if now - LEEWAY >= issued_at + issuer.max_token_age:
        raise refused(Fault.TOO_OLD)
    return min(expires_at, issued_at + issuer.max_token_age)


def _moment(seconds: object) -> datetime:
    # The pre-parser let only whole numbers of seconds through.
    return datetime.fromtimestamp(int(str(seconds)), UTC)


def _binding(claims: Mapping[str, object], issuer: Issuer) -> Binding:
    # A bound token without its proof is a stolen token, not a bearer token (RFC 9449, 7.1; RFC 8705, 3).
    binding = binding_of(claims)
    if issuer.require_binding and not binding:
        raise refused(Fault.BINDING_REQUIRED)
    return binding


def _check_required(claims: Mapping[str, object], issuer: Issuer) -> None:
    for name, value in issuer.require.items():
        if name not in claims or not _identical(claims[name], value):
            raise refused(Fault.REQUIRED_CLAIM)


def _identical(one: object, other: object) -> bool:
    # As JSON text, because Python holds 1, 1.0 and True for equal.
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _caller(token: UnverifiedToken, issuer: Issuer, expires_at: datetime, *, bound: bool) -> Caller:
    claims = token.claims
    return Caller(
        issuer=issuer.name,
        subject=_subject(claims, issuer),
        kind=issuer.principal,
        groups=_groups(claims, issuer),
        email=_verified_email(claims),
        mfa=_is_multi_factor(claims, issuer),
        authenticated_at=_moment(claims["auth_time"]) if "auth_time" in claims else None,
        bound=bound,
        token_id=token.sha256.hex()[:_TOKEN_ID_DIGITS],
        token_expires_at=expires_at,
    )


def _subject(claims: Mapping[str, object], issuer: Issuer) -> str:
    if issuer.subject_claim not in claims:
        raise refused(Fault.CLAIM_MISSING)
    subject = claims[issuer.subject_claim]
    if not isinstance(subject, str) or not _is_name(subject):
        raise refused(Fault.BAD_SUBJECT)
    # At many issuers anybody may claim any address; only a verified one tells who somebody is (OIDC Core 5.7).
    if issuer.subject_claim == "email" and claims.get("email_verified") is not True:
        raise refused(Fault.BAD_SUBJECT)
    return subject


def _groups(claims: Mapping[str, object], issuer: Issuer) -> tuple[str, ...]:
    # Some issuers leave out groups that are too many and say where to ask. Taking that for "no groups" would let
    # people pass by the policies that forbid something to a group (OIDC Core 5.6.2, distributed claims).
    elsewhere = claims.get("_claim_names", {})
    groups = claims.get(issuer.groups_claim, [])
    if not isinstance(elsewhere, dict) or issuer.groups_claim in elsewhere or claims.get("hasgroups"):
        raise refused(Fault.BAD_GROUPS)
    if not isinstance(groups, list) or len(groups) > MAX_GROUPS:
        raise refused(Fault.BAD_GROUPS)
    if not all(isinstance(group, str) and _is_name(group) for group in groups):
        raise refused(Fault.BAD_GROUPS)
    return tuple(dict.fromkeys(groups))


def _is_name(text: str) -> bool:
    """Say whether policies and people can tell this text from every other: bounded, printable, no outer spaces."""
    return 0 < len(text) <= MAX_NAME and text.isprintable() and text == text.strip()


def _verified_email(claims: Mapping[str, object]) -> str | None:
    email = claims.get("email")
    verified = claims.get("email_verified") is True
    return email if verified and isinstance(email, str) and _is_name(email) and "@" in email else None


def _is_multi_factor(claims: Mapping[str, object], issuer: Issuer) -> bool:
    methods = claims.get("amr")  # RFC 8176; only a list counts, "mfa" is also in the text "no-mfa"
    return (isinstance(methods, list) and "mfa" in methods) or claims.get("acr") in issuer.mfa_acr
