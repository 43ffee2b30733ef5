"""Authorization servers that are odd, hostile or slow; and the two flows against one that says what it is told to."""

import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import pytest

from broker.client.browser import browser_login
from broker.client.device import GRANT, Invitation, device_login
from broker.client.elsewhere import ANSWER_LIMIT, Elsewhere, is_safe
from broker.client.errors import LoginRefused, Misconfigured, Unreachable, Untrusted
from broker.client.proofs import ProofKey
from broker.client.providers import Provider, discovered
from broker.client.workloads import GITHUB, workload_source
from tests.doubles.client import Answer, Authority, ServiceDouble

WELL_KNOWN = "GET /.well-known/openid-configuration"
RFC_8414 = "GET /.well-known/oauth-authorization-server"
TOKEN, DEVICE = "POST /token", "POST /device"
CODE = {"device_code": "d-1", "user_code": "AB\x1b[2J-CD", "interval": 1, "expires_in": 60}


@pytest.fixture
def op() -> Iterator[ServiceDouble]:
    with ServiceDouble(None) as double:
        yield double


def metadata(op: ServiceDouble, **changes: object) -> dict[str, Any]:
    endpoints = {
        "token_endpoint": "/token",
        "device_authorization_endpoint": "/device",
        "authorization_endpoint": "/auth",
    }
    return {"issuer": op.url} | {name: op.url + path for name, path in endpoints.items()} | changes


def provider(op: ServiceDouble, key: ProofKey | None = None, **changes: object) -> Provider:
    return Provider(Elsewhere(timeout=2), op.url, "cli", metadata(op, **changes), key=key, clock=lambda: 1000.0)


def refusal(error: str, **headers: str) -> Answer:
    return Answer({"error": error}, 400, headers)


def test_metadata_is_found_where_openid_connect_or_rfc_8414_put_it(op: ServiceDouble) -> None:
    op.tell(RFC_8414, Answer(metadata(op)))
    assert discovered(Elsewhere(), op.url)["token_endpoint"] == f"{op.url}/token"
    op.tell(WELL_KNOWN, Answer(metadata(op, token_endpoint=f"{op.url}/other")))
    assert discovered(Elsewhere(), op.url)["token_endpoint"] == f"{op.url}/other"


def test_the_metadata_of_an_issuer_with_a_path_is_asked_for_beside_it(op: ServiceDouble) -> None:
    issuer = f"{op.url}/tenant-1"
    op.tell(f"{RFC_8414}/tenant-1", Answer(metadata(op, issuer=issuer)))
    assert discovered(Elsewhere(), issuer)["issuer"] == issuer


@pytest.mark.parametrize(
    "answer",
    [
        Answer({}, 200),
        Answer({"issuer": "https://evil.test"}),
        Answer(content=b"<html>"),
        Answer(content=b"[]"),
        Answer(content=b"[" * 100_000),
        Answer({}, 302, {"Location": "http://127.0.0.1:1/"}),
        Answer({}, 500),
    ],
)
def test_metadata_that_is_none_or_another_s_is_not_used(answer: Answer, op: ServiceDouble) -> None:
    op.tell(WELL_KNOWN, answer)
    with pytest.raises(Unreachable, match="cannot be used"):
        discovered(Elsewhere(), op.url)


def test_an_issuer_is_compared_byte_for_byte(op: ServiceDouble) -> None:
    op.tell(WELL_KNOWN, Answer(metadata(op, issuer=f"{op.url}/")))
    with pytest.raises(Unreachable, match="another issuer"):
        discovered(Elsewhere(), op.url)


def test_an_answer_without_end_is_cut_and_one_that_does_not_come_is_not_waited_for(op: ServiceDouble) -> None:
    op.tell(WELL_KNOWN, Answer(content=b'{"x": "' + b"x" * ANSWER_LIMIT + b'"}'))
    with pytest.raises(Unreachable, match="more than"):
        discovered(Elsewhere(), op.url)
    gate = threading.Event()
    op.tell(WELL_KNOWN, Answer(metadata(op), gate=gate))
    with pytest.raises(Unreachable, match="in time"):
        discovered(Elsewhere(timeout=0.3), op.url)
    gate.set()


@pytest.mark.parametrize(
    "url",
    [
        "http://id.example.com",
        "ftp://127.0.0.1/",
        "https://user@id.example.com",
        "https://id.example.com:x/",
        "https:///x",
        "https://id.example.com/#x",
        "https://id.example.com/a b",
        "https://id.example.com/\r\nX: y",
        "",
    ],
)
def test_only_https_is_asked_but_for_this_very_machine(url: str, op: ServiceDouble) -> None:
    assert not is_safe(url)
    with pytest.raises(Misconfigured, match="https://"):
        Elsewhere().get(url)
    assert provider(op, token_endpoint=url).endpoint("token_endpoint") == ""


def test_an_untrusted_certificate_is_refused_and_a_named_authority_is_trusted(authority: Authority) -> None:
    with ServiceDouble(authority.server_context()) as secured:
        secured.tell(WELL_KNOWN, Answer({"issuer": secured.url}))
        with pytest.raises(Untrusted, match="--ca-file"):
            discovered(Elsewhere(), secured.url)
        assert discovered(Elsewhere(authority.ca_file), secured.url)
        assert secured.seen[-1].path.endswith("openid-configuration")
    with pytest.raises(Misconfigured, match="no such file"):
        Elsewhere("no-such-file").get("https://127.0.0.1:1/")


def test_with_a_certificate_the_aliases_for_certificates_are_asked(op: ServiceDouble, authority: Authority) -> None:
    aliases = {"token_endpoint": f"{op.url}/mtls/token"}
    known = metadata(op, mtls_endpoint_aliases=aliases)
    shown = Provider(Elsewhere(None, *authority.client), op.url, "cli", known)
    assert shown.endpoint("token_endpoint") == f"{op.url}/mtls/token"
    assert Provider(Elsewhere(), op.url, "cli", known).endpoint("token_endpoint") == f"{op.url}/token"


def test_a_token_without_an_end_of_its_own_has_that_of_its_text(op: ServiceDouble) -> None:
    op.tell(TOKEN, Answer({"access_token": "e30.eyJleHAiOiA3N30.x", "token_type": "Bearer"}))
    assert provider(op).refreshed("r").expires_at == 77.0
    op.tell(TOKEN, Answer({"access_token": "opaque", "token_type": "Bearer", "expires_in": 300}))
    grant = provider(op).refreshed("kept")
    assert (grant.expires_at, grant.refresh_token, grant.key) == (1300.0, "kept", None)
    op.tell(TOKEN, Answer({"access_token": "opaque", "token_type": "Bearer"}))
    assert provider(op).refreshed("r").expires_at is None


def test_a_nonce_of_the_token_endpoint_is_used_at_once(op: ServiceDouble) -> None:
    granted = Answer({"access_token": "t", "token_type": "DPoP", "expires_in": 60})
    op.tell(TOKEN, refusal("use_dpop_nonce", **{"DPoP-Nonce": "n-1"}), granted)
    key = ProofKey.generate()
    assert provider(op, key).refreshed("r").key is key
    proofs = [seen.headers["dpop"].split(".")[1] for seen in op.seen]
    assert len(set(proofs)) == 2


def test_a_server_that_wants_nonces_without_end_is_given_up(op: ServiceDouble) -> None:
    op.tell(TOKEN, refusal("use_dpop_nonce", **{"DPoP-Nonce": "n-1"}))
    with pytest.raises(LoginRefused, match="use_dpop_nonce"):
        provider(op, ProofKey.generate()).refreshed("r")
    assert len(op.seen) == 2


class Waiting:
    """Time that passes only while one sleeps."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def clock(self) -> float:
        return sum(self.slept)


def test_the_device_flow_waits_as_it_is_told_and_slows_down(op: ServiceDouble) -> None:
    op.tell(DEVICE, Answer(CODE | {"verification_uri": f"{op.url}/device"}))
    granted = Answer({"access_token": "t", "token_type": "Bearer"})
    op.tell(TOKEN, refusal("authorization_pending"), refusal("slow_down"), refusal("authorization_pending"), granted)
    time, invited = Waiting(), list[Invitation]()
    grant = device_login(
        provider(op), {"scope": "openid", "resource": "urn:x"}, invited.append, sleep=time.sleep, clock=time.clock
    )
    assert grant.access_token == "t"
    assert time.slept == [1, 1, 6, 6]
    assert (invited[0].code, invited[0].complete) == ("AB[2J-CD", "")
    asked = op.seen[-1].body
    assert asked == {"client_id": "cli", "grant_type": GRANT, "device_code": "d-1", "resource": "urn:x"}


@pytest.mark.parametrize(("error", "said"), [("expired_token", "in time"), ("access_denied", "access_denied")])
def test_the_device_flow_ends_when_it_is_over(error: str, said: str, op: ServiceDouble) -> None:
    op.tell(DEVICE, Answer(CODE | {"verification_uri": f"{op.url}/device"}))
    op.tell(TOKEN, refusal("authorization_pending"), refusal(error))
    time = Waiting()
    with pytest.raises(LoginRefused, match=said):
        device_login(provider(op), {}, lambda _: None, sleep=time.sleep, clock=time.clock)


def test_nobody_waits_longer_than_the_code_lives(op: ServiceDouble) -> None:
    op.tell(DEVICE, Answer(CODE | {"verification_uri": f"{op.url}/device", "expires_in": 10, "interval": 3}))
    op.tell(TOKEN, refusal("authorization_pending"))
    time = Waiting()
    with pytest.raises(LoginRefused, match="in time"):
        device_login(provider(op), {}, lambda _: None, sleep=time.sleep, clock=time.clock)
    assert time.clock() == 9


@pytest.mark.parametrize(
    "answer", [{}, {"user_code": "X"}, CODE, CODE | {"verification_uri": "javascript:alert(1)"}, {"device_code": "d"}]
)
def test_an_invitation_that_leads_nowhere_is_not_shown(answer: dict[str, object], op: ServiceDouble) -> None:
    op.tell(DEVICE, Answer(answer))
    with pytest.raises((Unreachable, LoginRefused)):
        device_login(provider(op), {}, lambda _: pytest.fail("shown"))


def test_the_identity_that_comes_back_belongs_to_this_login(op: ServiceDouble) -> None:
    other = "e30.eyJub25jZSI6ICJhbm90aGVyIn0.x"
    op.tell(TOKEN, Answer({"access_token": "t", "token_type": "Bearer", "id_token": other}))
    with pytest.raises(LoginRefused, match="another login"):
        browser_login(provider(op), {"scope": "openid"}, comes_back)


def test_a_browser_that_does_not_come_back_is_not_waited_for_for_ever(op: ServiceDouble) -> None:
    with pytest.raises(LoginRefused, match="in time"):
        browser_login(provider(op), {}, lambda _: None, wait=0.2)


def test_the_code_is_traded_in_with_what_only_we_know(op: ServiceDouble) -> None:
    op.tell(TOKEN, Answer({"access_token": "t", "token_type": "Bearer"}))
    assert browser_login(provider(op), {"scope": "offline_access", "acr_values": "mfa"}, comes_back).access_token == "t"
    asked = op.seen[-1].body
    assert asked["grant_type"] == "authorization_code"
    assert 43 <= len(asked["code_verifier"]) <= 128
    assert asked["redirect_uri"].endswith("/cb")


def comes_back(url: str) -> None:
    asked = parse_qs(urlsplit(url).query)
    back = f"{asked['redirect_uri'][0]}?code=c-1&state={asked['state'][0]}"
    threading.Thread(target=lambda: urlopen(back, timeout=5).close()).start()  # noqa: S310 -- on loopback


def test_a_job_of_github_asks_for_the_audience_that_the_service_names(op: ServiceDouble) -> None:
    op.tell("GET /token", Answer({"value": "e30.e30.x"}))
    issuers = [{"issuer": "https://id.example.com", "audience": "no"}, {"issuer": GITHUB, "audience": "broker & co"}]
    environment = {
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"{op.url}/token?api-version=2",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "of-the-job",
    }
    source = workload_source(environment, lambda: {"issuers": issuers})
    assert source is not None
    assert source.current().text == "e30.e30.x"
    (seen,) = op.seen
    assert seen.query == {"api-version": ["2"], "audience": ["broker & co"]}
    assert seen.headers["authorization"] == "Bearer of-the-job"
    assert "of-the-job" not in repr(source.current())


def test_a_job_that_nobody_trusts_says_so(op: ServiceDouble) -> None:
    environment = {"ACTIONS_ID_TOKEN_REQUEST_URL": op.url, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "x"}
    source = workload_source(environment, lambda: {"issuers": []})
    assert source is not None
    with pytest.raises(Misconfigured, match="GitHub Actions"):
        source.current()
    refused = workload_source(environment, lambda: {"issuers": [{"issuer": GITHUB, "audience": "a"}]})
    assert refused is not None
    with pytest.raises(Unreachable, match="id-token: write"):
        refused.current()
    assert workload_source({}, dict) is None
