"""An authorization server, as a public client sees it: discovery, and the requests that end in a token.

OpenID Connect Discovery 1.0, RFC 8414 (metadata), RFC 6749 (OAuth), RFC 7009 (revocation), RFC 8705 (mTLS), RFC 8707
(resource indicators), RFC 9449 (DPoP).
"""

from __future__ import annotations

import base64
import json
import time
from urllib.parse import urlsplit

from broker.client.credentials import BEARER
from broker.client.elsewhere import OK, is_safe, texts
from broker.client.errors import ClientError, LoginRefused, ProviderFault
from broker.client.proofs import ALGORITHM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any, TypeGuard

    from broker.client.elsewhere import Elsewhere, Reply
    from broker.client.proofs import ProofKey

_WELL_KNOWN = "/.well-known/"
_LONGEST_WORDS = 200
_LONGEST_LIFE = 10 * 365 * 86_400
"""Seconds; what lives longer was never meant so."""


class Grant:
    """What an authorization server granted.

    `expires_at` is in seconds since 1970, None when it does not say; `key` is there when the token is bound to it.
    """

    __slots__ = ("access_token", "expires_at", "key", "refresh_token")

    def __init__(
        self, access_token: str, refresh_token: str = "", expires_at: float | None = None, key: ProofKey | None = None
    ) -> None:
        self.access_token = access_token
        self.refresh_token = refresh_token
        self.expires_at = expires_at
        self.key = key


class Provider:
    """One authorization server, by its endpoints; asked as the public client `client_id`.

    Args:
        elsewhere: how it is asked.
        issuer: its identifier.
        client_id: of the command line's public OAuth client.
        metadata: its endpoints; see `discovered` and `known`.
        key: tokens are asked to be bound to it; None for none.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        elsewhere: Elsewhere,
        issuer: str,
        client_id: str,
        metadata: Mapping[str, Any],
        *,
        key: ProofKey | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._elsewhere = elsewhere
        self.issuer = issuer
        self.client_id = client_id
        self.metadata = metadata
        self.key = key
        self._clock = clock
        self._nonce = ""

    @property
    def proves_possession(self) -> bool:
        """Whether it binds tokens to a key such as ours."""
        return ALGORITHM in texts(self.metadata, "dpop_signing_alg_values_supported")

    @property
    def names_itself(self) -> bool:
        """Whether it says in every answer by the browser that the answer is its own (RFC 9207)."""
        return self.metadata.get("authorization_response_iss_parameter_supported") is True

    def endpoint(self, name: str) -> str:
        """Answer the URL of an endpoint, of its alias for client certificates when one is shown; "" for none."""
        aliases = self.metadata.get("mtls_endpoint_aliases")
        alias = aliases.get(name) if isinstance(aliases, dict) and self._elsewhere.shows_certificate else None
        found = alias or self.metadata.get(name)
        return found if isinstance(found, str) and is_safe(found) else ""

    def post(self, name: str, form: Mapping[str, str]) -> Reply:
        """Send a form to one of its endpoints, in the name of our client.

        Raises:
            ProviderFault: it has no such endpoint.
            Unreachable: it does not answer.
        """
        url = self._needed(name)
        return self._elsewhere.post(url, {"client_id": self.client_id, **form})

    def token(self, form: Mapping[str, str]) -> Reply:
        """Ask the token endpoint once; once more with its newest nonce when it wants that in the proof."""
        url = self._needed("token_endpoint")
        reply = self._proved(url, form)
        if reply.text("error") == "use_dpop_nonce" and reply.nonce:
            reply = self._proved(url, form)
        return reply

    def granted(self, reply: Reply) -> Grant:
        """Read what the token endpoint granted.

        Raises:
            LoginRefused: it granted nothing; says why in its words.
            ProviderFault: what it granted cannot be used.
        """
        token, kind = reply.text("access_token"), reply.text("token_type").lower()
        if reply.status != OK or not token:
            raise refusal(reply, self.issuer)
        if not BEARER.fullmatch(token):
            raise fault(self.issuer, "access_token")
        if kind != "bearer" and (kind != "dpop" or self.key is None):  # RFC 6749, section 7.1
            raise fault(self.issuer, "token_type")
        return Grant(token, reply.text("refresh_token"), self._end(reply), self.key if kind == "dpop" else None)

    def refreshed(self, refresh_token: str, resource: str = "") -> Grant:
        """Trade a refresh token in; the new grant has the old one where the server keeps it.

        Raises:
            LoginRefused: it is not taken any more.
            Unreachable: nobody can tell now.
        """
        more = {"resource": resource} if resource else {}
        grant = self.granted(self.token({"grant_type": "refresh_token", "refresh_token": refresh_token, **more}))
        grant.refresh_token = grant.refresh_token or refresh_token
        return grant

    def revoke(self, token: str) -> bool:
        """Tell the server that a token is not needed any more; False when it cannot be told."""
        if not self.endpoint("revocation_endpoint"):
            return False
        try:
            return self.post("revocation_endpoint", {"token": token}).status == OK
        except ClientError:
            return False

    def _needed(self, name: str) -> str:
        url = self.endpoint(name)
        if not url:
            raise ProviderFault(f"{self.issuer} has no {name.replace('_', ' ')} that can be asked")
        return url

    def _proved(self, url: str, form: Mapping[str, str]) -> Reply:
        headers = {"DPoP": self.key.proof("POST", url, nonce=self._nonce)} if self.key else {}
        reply = self._elsewhere.post(url, {"client_id": self.client_id, **form}, headers)
        self._nonce = reply.nonce or self._nonce
        return reply

    def _end(self, reply: Reply) -> float | None:
        now, seconds = self._clock(), seconds_of(reply, "expires_in", self.issuer)
        return now + seconds if seconds else end_of(reply.text("access_token"), now)


def discovered(elsewhere: Elsewhere, issuer: str) -> dict[str, Any]:
    """Ask an issuer for its metadata.

    Raises:
        ProviderFault: there is none, or it is that of another issuer.
        Unreachable: it does not answer.
    """
    problem = "it has none"
    for url in _places(issuer):
        reply = elsewhere.get(url)
        if reply.status != OK:
            continue
        if reply.text("issuer") == issuer:  # byte for byte (RFC 8414, section 3.3)
            return reply.document
        problem = "what is there is of another issuer"
    raise ProviderFault(f"the metadata of the identity provider {issuer} cannot be used: {problem}")


def _places(issuer: str) -> Iterator[str]:
    """Answer where metadata may be: where OpenID Connect puts it, then where RFC 8414 does."""
    yield f"{issuer.rstrip('/')}{_WELL_KNOWN}openid-configuration"
    parts = urlsplit(issuer)
    yield f"{parts.scheme}://{parts.netloc}{_WELL_KNOWN}oauth-authorization-server{parts.path.rstrip('/')}"


def refusal(reply: Reply, issuer: str) -> LoginRefused:
    """Make the error of an answer that grants nothing (RFC 6749, section 5.2)."""
    code = shown(reply.text("error")) or f"HTTP {reply.status}"
    words = shown(reply.text("error_description"))
    return LoginRefused(f"{issuer} refused: {words or code}" + (f" ({code})" if words else ""), code)


def shown(words: str) -> str:
    """Answer what may be shown of somebody else's words."""
    return "".join(filter(str.isprintable, words))[:_LONGEST_WORDS]


def fault(issuer: str, name: str) -> ProviderFault:
    """Make the error of an answer of which one member is not what it has to be."""
    return ProviderFault(f"the `{name}` that {issuer} answered cannot be used; tell whoever runs it")


def seconds_of(reply: Reply, name: str, issuer: str) -> float | None:
    """Read a number of seconds; None when it does not say.

    Raises:
        ProviderFault: it is no number, or none of at most ten years.
    """
    value = reply.document.get(name)
    if value is None:
        return None
    if not _is_number(value) or not 0 <= value <= _LONGEST_LIFE:  # not-a-number is in no order either
        raise fault(issuer, name)
    return float(value)


def end_of(token: str, now: float) -> float | None:
    """Answer when a token of our own ends, in seconds since 1970; None when it does not tell, or nonsense."""
    end = claims_of(token).get("exp")
    return float(end) if _is_number(end) and 0 <= end <= now + _LONGEST_LIFE else None


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def claims_of(token: str) -> dict[str, Any]:
    """Read what a token of our own says; nothing of it is verified. Empty when it cannot be read."""
    try:
        claims = token.split(".")[1]
        found = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    except (ValueError, LookupError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
