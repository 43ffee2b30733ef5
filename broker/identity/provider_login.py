"""Signing in to the console at the company's OpenID provider: authorization code with PKCE, state and nonce.

Who somebody is says the access token for this service, judged by the very rules of every other one, groups and second
factor included. The ID token proves that this login is the one that this browser began (OpenID Connect Core 3.1.3.7).

Nothing is kept here while somebody is at the provider: the browser holds a random seed under a MAC, of which state,
nonce and code verifier are made.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote, urlencode

import aiohttp

from broker.errors import ProviderUnavailable
from broker.identity.authenticator import Keys
from broker.identity.faults import Fault, refused
from broker.identity.fetching import FetchFailed, check_url, fetch, open_session, post_form
from broker.identity.issuers import Issuer
from broker.identity.preparser import parse
from broker.identity.sessions import LONGEST
from broker.identity.strictjson import NotStrictJson, parse_object
from broker.identity.tokens import verify_id_token
from broker.model import Caller, Clock, Presented, Secret

LOGIN_LIFE: Final = timedelta(minutes=10)
_LOGIN: Final = re.compile(r"([A-Za-z0-9_-]{43})\.([0-9]{1,12})\.([A-Za-z0-9_=-]{0,4000})\.([0-9a-f]{64})", re.ASCII)
_DEPTH: Final = 16
_WELL_KNOWN: Final = "/.well-known/openid-configuration"


class BadClientSecret(ValueError):
    """The secret of the console's OAuth client is missing, or open to others."""


class Authenticator(Protocol):
    """Turns an access token into a caller."""

    async def authenticate(self, presented: Presented) -> Caller:
        """Answer whom it is of; raises InvalidToken."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """The OAuth client that the console is at the provider, and what it asks for. Without a secret it is public."""

    issuer: Issuer
    client_id: str
    client_secret: Secret | None
    scopes: tuple[str, ...] = ()
    resource: str = ""


class ProviderLogin:
    """Sends people to the provider, and takes them back.

    Args:
        client: at which provider, as which client.
        key: 32 bytes that all replicas have.
        keys: the provider's signing keys.
        authenticator: judges the access token.
        clock: the time.
    """

    def __init__(self, client: Client, key: bytes, keys: Keys, authenticator: Authenticator, clock: Clock) -> None:
        self._client = client
        self._key = key
        self._keys = keys
        self._authenticator = authenticator
        self._clock = clock
        self._http: aiohttp.ClientSession | None = None

    @property
    def provider(self) -> str:
        """The short name of the provider."""
        return self._client.issuer.name

    async def begin(self, redirect_uri: str, then: str) -> tuple[str, Secret]:
        """Answer where to send the browser, and what it has to bring back in a cookie.

        Args:
            redirect_uri: where the provider sends it back to.
            then: where the person wanted to go.

        Raises:
            ProviderUnavailable: the provider does not say where people log in.
        """
        seed = secrets.token_urlsafe()
        asked = {
            "response_type": "code",
            "client_id": self._client.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(dict.fromkeys(("openid", *self._client.scopes))),
            "state": self._derived("state", seed),
            "nonce": self._derived("nonce", seed),
            "code_challenge": _challenge(self._derived("verifier", seed)),
            "code_challenge_method": "S256",
        }
        if self._client.resource:
            asked["resource"] = self._client.resource
        endpoint = self._endpoint(await self._metadata(), "authorization_endpoint")
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(asked)}", self._cookie(seed, then)

    async def end(self, cookie: str, state: str, code: str, issuer: str, redirect_uri: str) -> tuple[Caller, str]:
        """Answer who came back, and where they wanted to go.

        Args:
            cookie: what the browser was given.
            state: what the provider says that it was given.
            code: the authorization code.
            issuer: who the answer says that it is of (RFC 9207), empty when it does not.
            redirect_uri: where the browser was sent back to.

        Raises:
            InvalidToken: this browser began no such login, or the provider does not vouch for it.
            ProviderUnavailable: the provider does not answer.
        """
        seed, then = self._begun(cookie)
        if not hmac.compare_digest(self._derived("state", seed).encode(), state.encode()):
            raise refused(Fault.FOREIGN_LOGIN)
        if issuer not in {"", self._client.issuer.issuer}:
            raise refused(Fault.UNKNOWN_ISSUER)
        answer = await self._redeem(code, self._derived("verifier", seed), redirect_uri)
        access, identity = answer.get("access_token"), answer.get("id_token")
        if not isinstance(access, str) or not isinstance(identity, str):
            raise refused(Fault.MISSING)
        caller = await self._authenticator.authenticate(Presented(authorization=(f"Bearer {access}",)))
        await self._check(identity, self._derived("nonce", seed), parse(access).claims.get("sub"))
        if caller.issuer != self.provider or caller.kind != "user":
            raise refused(Fault.UNKNOWN_ISSUER)
        return replace(caller, token_expires_at=self._clock() + LONGEST), then

    async def close(self) -> None:
        """Close the connections."""
        if self._http:
            await self._http.close()

    async def _check(self, identity: str, nonce: str, subject: object) -> None:
        token = parse(identity)
        issuer = self._client.issuer
        keys = await self._keys.for_token(issuer.name, token.key_id)
        if keys is None:
            raise refused(Fault.KEYS_UNAVAILABLE)
        verify_id_token(token, issuer, self._client.client_id, keys, self._clock())
        if token.claims.get("nonce") != nonce or token.claims.get("sub") != subject or not subject:
            raise refused(Fault.FOREIGN_LOGIN)

    async def _redeem(self, code: str, verifier: str, redirect_uri: str) -> Mapping[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
            "client_id": self._client.client_id,
        }
        if self._client.resource:
            form["resource"] = self._client.resource
        headers = {}
        if self._client.client_secret:  # RFC 6749, 2.3.1
            both = f"{quote(self._client.client_id, safe='')}:{quote(self._client.client_secret.reveal(), safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(both.encode()).decode()}"
        endpoint = self._endpoint(await self._metadata(), "token_endpoint")
        try:
            return parse_object(await post_form(self._session(), endpoint, form, headers), max_depth=_DEPTH)
        except (FetchFailed, NotStrictJson) as problem:
            raise ProviderUnavailable(str(problem)) from None

    async def _metadata(self) -> Mapping[str, Any]:
        issuer = self._client.issuer.issuer
        try:
            fetched = await fetch(self._session(), issuer.removesuffix("/") + _WELL_KNOWN)
            metadata = parse_object(fetched.body, max_depth=_DEPTH)
        except (FetchFailed, NotStrictJson) as problem:
            raise ProviderUnavailable(str(problem)) from None
        if metadata.get("issuer") != issuer:
            raise ProviderUnavailable("discovery names another issuer")
        return metadata

    def _endpoint(self, metadata: Mapping[str, Any], name: str) -> str:
        url = metadata.get(name)
        try:
            check_url(url if isinstance(url, str) else "")
        except FetchFailed as problem:
            raise ProviderUnavailable(f"{name}: {problem}") from None
        return str(url)

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            self._http = open_session()
        return self._http

    def _begun(self, cookie: str) -> tuple[str, str]:
        match = _LOGIN.fullmatch(cookie)
        if match is None or not hmac.compare_digest(self._derived("cookie", ".".join(match.groups()[:3])), match[4]):
            raise refused(Fault.FOREIGN_LOGIN)
        if self._clock() - datetime.fromtimestamp(int(match[2]), UTC) > LOGIN_LIFE:
            raise refused(Fault.SESSION_ENDED)
        return match[1], base64.urlsafe_b64decode(match[3]).decode()

    def _cookie(self, seed: str, then: str) -> Secret:
        place = base64.urlsafe_b64encode(then.encode()).decode()
        begun = f"{seed}.{int(self._clock().timestamp())}.{place}"
        return Secret(f"{begun}.{self._derived('cookie', begun)}")

    def _derived(self, what: str, seed: str) -> str:
        return hmac.new(self._key, f"{what} {seed}".encode(), hashlib.sha256).hexdigest()


def _challenge(verifier: str) -> str:
    """Hash a code verifier (RFC 7636, 4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def load_client_secret(source: str, environment: MutableMapping[str, str] = os.environ) -> Secret | None:
    """Read the client secret from `file:PATH` or `env:NAME`; None for an empty source: the client is public.

    It is removed from the environment once read.

    Raises:
        BadClientSecret: it is missing, or its file is open to others.
    """
    if not source:
        return None
    kind, _, where = source.partition(":")
    text = environment.pop(where, "") if kind == "env" else _private_text(Path(where))
    if not text.strip():
        raise BadClientSecret(f"{where} holds no secret")
    return Secret(text.strip())


def _private_text(path: Path) -> str:
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise BadClientSecret(f"{path} is open to others: chmod 600 it")
        return path.read_text("utf-8")
    except UnicodeDecodeError:
        return ""
    except OSError as problem:
        raise BadClientSecret(f"{path}: {problem.strerror}") from None
