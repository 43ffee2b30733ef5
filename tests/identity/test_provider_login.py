"""Signing in to the console: what a browser or a provider may bring that makes nobody a caller."""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from broker.errors import InvalidToken, ProviderUnavailable
from broker.identity.authenticator import Authenticator
from broker.identity.issuers import Issuer
from broker.identity.provider_login import BadClientSecret, Client, ProviderLogin, load_client_secret
from broker.model import Secret
from tests.doubles.identity import CORP, HeldKeys, Mint, SigningKey, StillClock, as_json

SECRET = "c0nsole-client-secret"
BACK = "https://broker.example.com/console/callback"


@dataclass
class Provider:
    """A provider that says at its token endpoint whatever a test lets it say."""

    clock: StillClock
    keys: HeldKeys
    key: SigningKey
    url: str = ""
    metadata: dict[str, object] = field(default_factory=dict)
    spoilt: bytes = b""
    answer: bytes | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    claims: dict[str, object] = field(default_factory=dict)
    header: dict[str, object] = field(default_factory=dict)
    access: dict[str, object] = field(default_factory=dict)
    without: str = ""
    nonce: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)

    async def discover(self, _: web.Request) -> web.Response:
        endpoints = {"authorization_endpoint": f"{self.url}/auth?tenant=1", "token_endpoint": f"{self.url}/token"}
        return web.Response(body=self.spoilt or as_json({"issuer": self.url, **endpoints, **self.metadata}))

    async def redeem(self, request: web.Request) -> web.Response:
        self.asked.append(dict(parse_qsl(await request.text())))
        self.authorizations.append(request.headers.get("Authorization", ""))
        mint = Mint(self.clock, self.key, self.issuer())
        identity = {"aud": "console", "nonce": self.nonce, **self.claims}
        document = {
            "access_token": mint.token(**self.access),
            "id_token": mint.token({"typ": "JWT", **self.header}, **identity),
        }
        document.pop(self.without, None)
        body = as_json(document) if self.answer is None else self.answer
        return web.Response(status=self.status, body=body, headers=self.headers)

    def issuer(self) -> Issuer:
        return replace(CORP, issuer=self.url)

    def login(
        self,
        secret: Secret | None = None,
        keys: HeldKeys | None = None,
        door: Authenticator | None = None,
        **about: Any,
    ) -> ProviderLogin:
        client = Client(issuer=self.issuer(), client_id="console", client_secret=secret, **about)
        door = door or Authenticator([self.issuer()], self.keys, self.clock)
        return ProviderLogin(client, bytes(32), keys or self.keys, door, self.clock)


@pytest.fixture
async def provider(clock: StillClock, keys: HeldKeys, rsa_key: SigningKey) -> AsyncIterator[Provider]:
    provider = Provider(clock, keys, rsa_key)
    application = web.Application()
    application.router.add_get("/.well-known/openid-configuration", provider.discover)
    application.router.add_post("/token", provider.redeem)
    async with TestServer(application, host="127.0.0.1") as server:
        provider.url = f"http://127.0.0.1:{server.port}"
        yield provider


@pytest.fixture
async def login(provider: Provider) -> AsyncIterator[ProviderLogin]:
    login = provider.login()
    yield login
    await login.close()


async def begun(provider: Provider, login: ProviderLogin) -> tuple[str, dict[str, str]]:
    """Begin a login; answer the cookie and what the provider was asked."""
    url, cookie = await login.begin(BACK, "/console/events?outcome=success")
    asked = dict(parse_qsl(urlsplit(url).query))
    provider.nonce = asked["nonce"]
    return cookie.reveal(), asked


async def come_back(provider: Provider, login: ProviderLogin, **changes: str) -> tuple[str, str]:
    cookie, asked = await begun(provider, login)
    given = {"cookie": cookie, "state": asked["state"], "code": "c1", "issuer": provider.url, **changes}
    caller, then = await login.end(**given, redirect_uri=BACK)
    return str(caller), then


async def test_who_comes_back_as_begun_is_signed_in(provider: Provider) -> None:
    login = provider.login(Secret("s:ecret"), scopes=("creds", "openid"), resource="https://broker.example.com")
    cookie, asked = await begun(provider, login)
    assert (asked["tenant"], asked["scope"], asked["code_challenge_method"]) == ("1", "openid creds", "S256")
    assert asked["resource"] == "https://broker.example.com"
    caller, then = await login.end(cookie, asked["state"], "c1", "", BACK)
    assert (str(caller), then) == ("corp/alice", "/console/events?outcome=success")
    [form] = provider.asked
    challenge = base64.urlsafe_b64encode(hashlib.sha256(form.pop("code_verifier").encode()).digest()).decode()
    assert challenge.rstrip("=") == asked["code_challenge"]
    assert form == {
        "grant_type": "authorization_code",
        "code": "c1",
        "redirect_uri": BACK,
        "client_id": "console",
        "resource": "https://broker.example.com",
    }
    assert provider.authorizations == [f"Basic {base64.b64encode(b'console:s%3Aecret').decode()}"]
    await login.close()


FOREIGN: dict[str, Callable[[Provider], object]] = {
    "an ID token of another login": lambda p: p.claims.update(nonce="another"),
    "an ID token without a nonce": lambda p: p.claims.update(nonce=None),
    "an ID token of another person": lambda p: p.claims.update(sub="mallory"),
    "an ID token for another client": lambda p: p.claims.update(aud="another"),
    "an ID token for the service itself": lambda p: p.claims.update(aud=CORP.audience),
    "an ID token that another client was given": lambda p: p.claims.update(azp="another"),
    "an ID token of another issuer": lambda p: p.claims.update(iss="https://evil.example"),
    "an ID token that has ended": lambda p: p.claims.update(exp=int(p.clock().timestamp()) - 300),
    "an ID token of tomorrow": lambda p: p.claims.update(iat=int(p.clock().timestamp()) + 86_400),
    "an ID token that nobody signed": lambda p: p.header.update(alg="none"),
    "an ID token by an algorithm that is not allowed": lambda p: p.header.update(alg="PS384"),
    "an ID token by a key that is not there": lambda p: p.header.update(kid="another"),
    "an access token for somebody else": lambda p: p.access.update(aud="another"),
    "an access token that has ended": lambda p: p.access.update(exp=int(p.clock().timestamp()) - 300),
    "an access token of another issuer": lambda p: p.access.update(iss="https://evil.example"),
    "no ID token": lambda p: setattr(p, "without", "id_token"),
    "no access token": lambda p: setattr(p, "without", "access_token"),
    "an access token that is no text": lambda p: setattr(p, "answer", b'{"access_token": 1, "id_token": "x"}'),
}


@pytest.mark.parametrize("change", FOREIGN.values(), ids=FOREIGN.keys())
async def test_with_what_is_not_of_this_login_nobody_is_signed_in(
    provider: Provider, login: ProviderLogin, change: Callable[[Provider], object]
) -> None:
    assert await come_back(provider, login) == ("corp/alice", "/console/events?outcome=success")
    change(provider)
    with pytest.raises(InvalidToken):
        await come_back(provider, login)


@pytest.mark.parametrize("changed", ["state", "issuer"])
async def test_an_answer_to_another_question_is_none_and_its_code_is_not_used(
    provider: Provider, login: ProviderLogin, changed: str
) -> None:
    with pytest.raises(InvalidToken):
        await come_back(provider, login, **{changed: "https://elsewhere.example"})
    assert provider.asked == []


async def test_only_the_browser_that_began_it_and_only_for_a_while(provider: Provider, login: ProviderLogin) -> None:
    cookie, asked = await begun(provider, login)
    seed, moment, place, mac = cookie.split(".")
    elsewhere = base64.urlsafe_b64encode(b"https://evil.example").decode()
    forged = [
        *("", "a.b.c.d", f"{seed}.{moment}.{place}.{'0' * 64}", f"{seed}.{int(moment) + 1}.{place}.{mac}"),
        f"{seed}.{moment}.{elsewhere}.{mac}",
        f"{'A' * 43}.{moment}.{place}.{mac}",
    ]
    for each in forged:
        with pytest.raises(InvalidToken) as refusal:
            await login.end(each, asked["state"], "c1", "", BACK)
        assert refusal.value.cause == "foreign_login"
    provider.clock.forward(minutes=10, seconds=1)
    with pytest.raises(InvalidToken) as refusal:
        await login.end(cookie, asked["state"], "c1", "", BACK)
    assert refusal.value.cause == "session_ended"
    assert provider.asked == []


TROUBLE: dict[str, Callable[[Provider], object]] = {
    "a refusal": lambda p: setattr(p, "status", 400),
    "a redirect": lambda p: vars(p).update(status=302, headers={"Location": "/token"}),
    "no JSON": lambda p: setattr(p, "answer", b"<html>"),
    "a duplicate member": lambda p: setattr(p, "answer", b'{"access_token": "a", "access_token": "b"}'),
    "too much": lambda p: setattr(p, "answer", b'{"a": "' + b"x" * 300_000 + b'"}'),
    "packed": lambda p: vars(p).update(answer=gzip.compress(b"{}"), headers={"Content-Encoding": "gzip"}),
    "another issuer in its metadata": lambda p: p.metadata.update(issuer="https://evil.example"),
    "no token endpoint": lambda p: p.metadata.update(token_endpoint=None),
    "a token endpoint in the open": lambda p: p.metadata.update(token_endpoint="http://192.0.2.1/token"),
    "a token endpoint that nobody serves": lambda p: p.metadata.update(token_endpoint="http://127.0.0.1:9/token"),
}


@pytest.mark.parametrize("change", TROUBLE.values(), ids=TROUBLE.keys())
async def test_a_provider_in_trouble_is_called_unavailable(
    provider: Provider, login: ProviderLogin, change: Callable[[Provider], object]
) -> None:
    cookie, asked = await begun(provider, login)
    change(provider)
    with pytest.raises(ProviderUnavailable):
        await login.end(cookie, asked["state"], "c1", "", BACK)


@pytest.mark.parametrize("endpoint", [None, 7, "", "ftp://id.example.com", "http://192.0.2.1/auth"])
async def test_nobody_is_sent_to_where_nobody_logs_in(
    provider: Provider, login: ProviderLogin, endpoint: object
) -> None:
    provider.metadata["authorization_endpoint"] = endpoint
    with pytest.raises(ProviderUnavailable):
        await login.begin(BACK, "/console")


async def test_without_keys_nobody_is_signed_in(provider: Provider) -> None:
    login = provider.login(keys=HeldKeys())
    with pytest.raises(InvalidToken) as refusal:
        await come_back(provider, login)
    assert refusal.value.cause == "keys_unavailable"
    await login.close()


@pytest.mark.parametrize(
    "other", [{"name": "partner"}, {"principal": "workload"}], ids=["of another issuer", "no person"]
)
async def test_only_people_of_the_provider_sign_in(provider: Provider, other: dict[str, Any]) -> None:
    door = Authenticator([replace(provider.issuer(), **other)], provider.keys, provider.clock)
    login = provider.login(door=door)
    with pytest.raises(InvalidToken) as refusal:
        await come_back(provider, login)
    assert refusal.value.cause == "unknown_issuer"
    await login.close()


async def test_a_provider_whose_metadata_are_none_is_unavailable(provider: Provider, login: ProviderLogin) -> None:
    provider.metadata["jwks"] = ["deep"]
    await login.begin(BACK, "/console")
    provider.spoilt = b"<html>"
    with pytest.raises(ProviderUnavailable):
        await login.begin(BACK, "/console")


def revealed(source: str, environment: dict[str, str] | None = None) -> str:
    secret = load_client_secret(source, environment or {})
    assert secret
    return secret.reveal()


def test_it_comes_from_a_private_file_or_the_environment_and_leaves_that(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    environment = {"CLIENT": f"{SECRET} ", "OTHER": "x"}
    assert revealed(f"file:{path}") == revealed("env:CLIENT", environment) == SECRET
    assert environment == {"OTHER": "x"}


def test_a_public_client_has_none() -> None:
    assert load_client_secret("") is None


def test_one_that_others_can_read_or_that_is_not_there_is_refused_and_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    with pytest.raises(BadClientSecret, match="No such file"):
        load_client_secret(f"file:{path}")
    path.write_text(SECRET)
    path.chmod(0o644)
    with pytest.raises(BadClientSecret, match="chmod 600") as problem:
        load_client_secret(f"file:{path}")
    assert SECRET not in str(problem.value)
    for content in (b" \n", b"\xff\xfe"):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(BadClientSecret, match="holds no secret"):
            load_client_secret(f"file:{path}")
    with pytest.raises(BadClientSecret, match="CLIENT holds no secret"):
        load_client_secret("env:CLIENT", {})
