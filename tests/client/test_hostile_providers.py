"""Whatever an identity provider answers, a login ends by a token that can be used or by a sentence."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import urlopen

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.client.browser import browser_login
from broker.client.credentials import checked
from broker.client.device import device_login
from broker.client.elsewhere import Elsewhere
from broker.client.errors import ClientError, LoginRefused, ProviderFault
from broker.client.proofs import ProofKey
from broker.client.providers import Grant, Provider, discovered
from broker.client.services import Service
from broker.client.sessions import Session
from tests.doubles.client import Answer, Authority, ServiceDouble

WELL_KNOWN = "GET /.well-known/openid-configuration"
TEN_YEARS = 10 * 365 * 86_400
FORM = {"scope": "openid", "resource": "urn:x"}

ODD = st.sampled_from(
    [
        *(10**400, -(10**400), -1, 0, 1e308, math.inf, -math.inf, math.nan, True, False, TEN_YEARS, TEN_YEARS + 1),
        *(
            "3600",
            "",
            "\ud800",
            "a\r\nX: y",
            "\x1b[2J",
            "e30.eyJleHAiOiAxZTk5OX0.x",
            "e30.WzFd.x",
            "DPoP",
            "none",
            "x" * 9999,
        ),
        *(
            "http://127.0.0.1:1/",
            "https://[",
            "https://.x/",
            f"https://{'a' * 70}/",
            "http://127.0.0.1:99999/",
            "javascript:1",
        ),
        *("http://127.0.0.1:1/?x=%0d%0a", "https://a..b/", "http://127.0.0.1:0/"),
        *([], {}, ["ES256", 1], {"token_endpoint": 7}, {"token_endpoint": "https://.x/"}, [[]], [None]),
    ]
)
LEAF = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | ODD
JSON = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)

METADATA = (
    "issuer",
    "authorization_endpoint",
    "token_endpoint",
    "device_authorization_endpoint",
    "revocation_endpoint",
    "mtls_endpoint_aliases",
    "dpop_signing_alg_values_supported",
    "authorization_response_iss_parameter_supported",
)
DEVICE = (
    "device_code",
    "user_code",
    "verification_uri",
    "verification_url",
    "verification_uri_complete",
    "expires_in",
    "interval",
    "error",
    "error_description",
)
TOKEN = (
    "access_token",
    "token_type",
    "expires_in",
    "refresh_token",
    "id_token",
    "scope",
    "error",
    "error_description",
)


class Op(ServiceDouble):
    """An identity provider in order, until a test changes a member of one of its answers."""

    def answers(self, which: str = "", member: str = "", value: object = None) -> None:
        metadata: dict[str, object] = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/auth",
            "token_endpoint": f"{self.url}/token",
            "device_authorization_endpoint": f"{self.url}/device",
            "revocation_endpoint": f"{self.url}/revoke",
            "dpop_signing_alg_values_supported": ["ES256"],
        }
        code: dict[str, object] = {"device_code": "d", "user_code": "AB-CD", "verification_uri": f"{self.url}/go"}
        code["expires_in"] = 60
        token: dict[str, object] = {"access_token": "t", "refresh_token": "r", "token_type": "DPoP", "expires_in": 60}
        told: dict[str, dict[str, object]] = {
            WELL_KNOWN: metadata,
            "POST /device": code,
            "POST /token": token,
            "POST /revoke": {},
        }
        for route, document in told.items():
            self.tell(route, Answer(document | {member: value} if route == which else document))


@pytest.fixture(scope="module")
def op() -> Iterator[Op]:
    with Op(None) as double:
        yield double


@pytest.fixture(scope="module")
def shown_certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return Authority(tmp_path_factory.mktemp("authority")).client


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def provider(op: Op, certificate: tuple[str, str] | tuple[()] = ()) -> Provider:
    elsewhere = Elsewhere(None, *certificate, timeout=2)
    found = Provider(elsewhere, op.url, "cli", discovered(elsewhere, op.url))
    found.key = ProofKey.generate() if found.proves_possession else None
    return found


def by_device(provider: Provider) -> Grant:
    slept: list[float] = []
    return device_login(provider, FORM, lambda _: None, sleep=slept.append, clock=lambda: sum(slept))


def by_browser(provider: Provider) -> Grant:
    def show(url: str) -> None:
        asked = parse_qs(urlsplit(url).query)
        back = f"{asked['redirect_uri'][0]}?{urlencode({'code': 'c', 'state': asked['state'][0]})}"
        urlopen(back, timeout=5).close()  # noqa: S310 -- on loopback

    return browser_login(provider, FORM, show, wait=5)


def open_page(url: str) -> None:
    url.encode("ascii")


def ends_well(log_in: Callable[[], tuple[Provider, Grant]], home: Path) -> None:
    """Log in, keep it, renew it, end it: all of that works, or is told in a sentence that can be shown."""
    session = Session({"HOME": str(home)}, Service("https://broker.test"))
    try:
        provider, grant = log_in()
        assert checked(grant.access_token, "it") == grant.access_token
        assert grant.expires_at is None or 0 <= grant.expires_at <= time.time() + TEN_YEARS
        session.keep(provider, grant, "")
        assert session.current().text
        session.renewed(session.current())
        session.end()
    except ClientError as error:
        said = str(error).encode()
    else:
        said = b""
    assert len(said) < 1000


@pytest.mark.parametrize("member", METADATA)
@settings(max_examples=40, deadline=None)
@given(value=JSON)
def test_any_metadata(member: str, value: object, op: Op, shown_certificate: tuple[str, str], home: Path) -> None:
    op.answers(WELL_KNOWN, member, value)
    for certificate in ((), shown_certificate):

        def log_in(certificate: tuple[str, str] | tuple[()] = certificate) -> tuple[Provider, Grant]:
            found = provider(op, certificate)
            assert isinstance(found.names_itself, bool)
            return found, by_device(found)

        ends_well(log_in, home)


@pytest.mark.parametrize("member", DEVICE)
@settings(max_examples=40, deadline=None)
@given(value=JSON)
def test_any_answer_of_the_device_endpoint(member: str, value: object, op: Op, home: Path) -> None:
    op.answers("POST /device", member, value)
    found = provider(op)
    ends_well(lambda: (found, by_device(found)), home)


@pytest.mark.parametrize("member", TOKEN)
@settings(max_examples=40, deadline=None)
@given(value=JSON)
def test_any_answer_of_the_token_endpoint(member: str, value: object, op: Op, home: Path) -> None:
    op.answers("POST /token", member, value)
    found = provider(op)
    ends_well(lambda: (found, by_device(found)), home)


@pytest.mark.parametrize("member", TOKEN)
@settings(max_examples=8, deadline=None)
@given(value=JSON)
def test_any_answer_of_the_token_endpoint_after_the_browser(member: str, value: object, op: Op, home: Path) -> None:
    op.answers("POST /token", member, value)
    found = provider(op)
    ends_well(lambda: (found, by_browser(found)), home)


@settings(max_examples=40, deadline=None)
@given(value=JSON)
def test_any_authorization_endpoint(value: object, op: Op) -> None:
    op.answers(WELL_KNOWN, "authorization_endpoint", value)
    with suppress(LoginRefused, ProviderFault):
        browser_login(provider(op), FORM, open_page, wait=0)


@settings(max_examples=40, deadline=None)
@given(document=JSON)
def test_what_is_no_object_at_all(document: object, op: Op) -> None:
    op.answers()
    found = provider(op)
    for route in (WELL_KNOWN, "POST /device", "POST /token"):
        op.answers()
        op.tell(route, Answer(document))
        with suppress(ClientError):
            by_device(provider(op) if route == WELL_KNOWN else found)


@pytest.mark.parametrize("value", [10**400, math.inf, math.nan, -1, True, "3600", TEN_YEARS + 1, [60], {}])
def test_a_life_that_is_none_is_told_by_the_name_of_its_member(value: object, op: Op) -> None:
    for route in ("POST /token", "POST /device"):
        op.answers(route, "expires_in", value)
        with pytest.raises(ProviderFault, match=r"`expires_in`.*tell whoever runs it"):
            by_device(provider(op))
    op.answers("POST /device", "interval", value)
    with pytest.raises(ProviderFault, match="`interval`"):
        by_device(provider(op))


@pytest.mark.parametrize(("member", "value"), [("access_token", "a\r\nb"), ("token_type", "mac"), ("token_type", 1)])
def test_a_token_that_cannot_be_shown_is_not_kept(member: str, value: object, op: Op) -> None:
    op.answers("POST /token", member, value)
    with pytest.raises(ProviderFault, match=f"`{member}`"):
        by_device(provider(op))


@pytest.mark.parametrize("value", [None, 7, True, "ES256", {"ES256": 1}, ["RS256"], [["ES256"]]])
def test_who_names_no_list_with_our_algorithm_does_not_bind(value: object, op: Op) -> None:
    op.answers(WELL_KNOWN, "dpop_signing_alg_values_supported", value)
    assert not provider(op).proves_possession
