"""`broker login` against a service and identity providers that say what they are told to."""

import re
import time
from collections.abc import Iterator
from threading import Thread
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import pytest

from broker.cli.login import local_time
from tests.cli.conftest import Terminal
from tests.doubles.client import Answer, ServiceDouble

METADATA = "GET /.well-known/oauth-protected-resource"
LINK = re.compile(r"(http://127\.0\.0\.1:\d+/auth\?\S+)")
ME = {"issuer": "corp", "subject": "alice", "kind": "human", "groups": ["ops"], "bound": False}


class Op(ServiceDouble):
    """An identity provider that confirms every device at once."""

    def __init__(self, **changes: object) -> None:
        super().__init__(None)
        paths = {"token_endpoint": "token", "authorization_endpoint": "auth", "device_authorization_endpoint": "device"}
        endpoints = {name: f"{self.url}/{path}" for name, path in paths.items()}
        self.tell("GET /.well-known/openid-configuration", Answer({"issuer": self.url} | endpoints | changes))
        code = {"device_code": "d", "user_code": "AB-CD", "verification_uri": f"{self.url}/go", "interval": 0.05}
        self.tell("POST /device", Answer(code))
        self.grants()

    def grants(self, **changes: object) -> None:
        """Grant a token, with these members changed."""
        granted = {"access_token": "t", "refresh_token": "r", "token_type": "Bearer", "expires_in": 60}
        self.tell("POST /token", Answer(granted | changes))

    def offered(self, name: object = "corp", **changes: object) -> dict[str, object]:
        """Answer how a service names this provider."""
        return {"name": name, "issuer": self.url, "audience": "a", "cli_client_id": "cli"} | changes


@pytest.fixture
def op() -> Iterator[Op]:
    with Op() as double:
        yield double


@pytest.fixture
def person(terminal: Terminal, service: ServiceDouble) -> Terminal:
    """Nobody has logged in here, and no token is set."""
    service.tell("GET /v1/whoami", Answer(ME))
    environment = {name: value for name, value in terminal.environment.items() if name != "BROKER_TOKEN"}
    return Terminal(environment, terminal.folder)


def offer(service: ServiceDouble, *issuers: object, **changes: object) -> None:
    service.tell(METADATA, Answer({"resource": service.url, "issuers": list(issuers)} | changes))


def by_browser(person: Terminal, *words: str) -> str:
    """Log in by the link that is shown; answer what was said."""
    with person.start("login", "--no-browser", *words, DISPLAY=":no-such") as process:
        assert process.stderr is not None
        said = ""
        while line := process.stderr.readline():
            said += line
            if found := LINK.search(line):
                asked = parse_qs(urlsplit(found[1]).query)
                back = f"{asked['redirect_uri'][0]}?code=c&state={asked['state'][0]}"
                Thread(target=lambda back=back: urlopen(back, timeout=10).close()).start()  # noqa: S310 -- on loopback
    return said


def test_a_service_that_names_itself_otherwise_is_not_logged_in_at(
    person: Terminal, service: ServiceDouble, op: Op
) -> None:
    offer(service, op.offered(), resource="https://broker.example.com")
    ended = person.broker("login", "--device")
    assert ended.returncode == 5
    assert f"{service.url} answers as https://broker.example.com" in ended.stderr
    assert f"an operator of the service adds {service.url} to `server.public_urls`" in ended.stderr
    assert op.seen == []


def test_an_issuer_that_is_not_there_is_answered_by_those_that_are(
    person: Terminal, service: ServiceDouble, op: Op
) -> None:
    offer(service, op.offered("corp"), op.offered("partner"), {"name": "ci", "issuer": "https://ci.test"}, "odd")
    ended = person.broker("login", "--issuer", "nope")
    assert ended.returncode == 2
    assert "there is no identity provider 'nope' here: add --issuer with one of these: corp, partner" in ended.stderr
    ended = person.broker("login")
    assert "there are several identity providers here: add --issuer with one of these: corp, partner" in ended.stderr


def test_the_end_of_a_login_is_told_with_its_zone_and_day(person: Terminal, service: ServiceDouble, op: Op) -> None:
    offer(service, op.offered())
    op.grants(expires_in=3 * 86_400)
    ended = person.broker("login", "--device", TZ="JST-9")
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"you are corp/alice \(ops\) until \d{4}-\d\d-\d\d \d\d:\d\d JST, then renewed", ended.stderr)


def test_of_today_only_the_time_is_told() -> None:
    noon = time.mktime((2026, 3, 1, 12, 0, 0, 0, 0, -1))
    zone = time.strftime("%Z", time.localtime(noon))
    assert local_time(noon + 60, noon) == f"12:01 {zone}"
    assert local_time(noon + 86_400, noon) == f"2026-03-02 12:00 {zone}"


def test_without_starting_a_browser_the_address_is_for_one_on_this_machine(
    person: Terminal, service: ServiceDouble, op: Op
) -> None:
    offer(service, op.offered())
    said = by_browser(person)
    assert "log in by a browser on this machine, at" in said
    assert "you are corp/alice (ops) until" in said
    assert "show the address, for you to open in one on this machine" in " ".join(
        person.broker("login", "--help").stdout.split()
    )


def test_without_a_screen_a_code_is_shown_with_or_without_that_switch(
    person: Terminal, service: ServiceDouble, op: Op
) -> None:
    offer(service, op.offered())
    for words in ((), ("--no-browser",)):
        assert "on any device, and type this code" in person.broker("login", *words).stderr


def test_among_several_providers_the_browser_is_only_believed_about_one_that_names_itself(
    person: Terminal, service: ServiceDouble, op: Op
) -> None:
    with Op(authorization_response_iss_parameter_supported=True) as other:
        offer(service, op.offered("corp"), other.offered("partner"))
        ended = person.broker("login", "--issuer", "corp", DISPLAY=":no-such")
        assert ended.returncode == 2
        assert "RFC 9207" in ended.stderr
        assert "`broker login --issuer corp --device`" in ended.stderr
        assert person.broker("login", "--issuer", "corp", "--device").returncode == 0
        assert "came from another identity provider" in by_browser(person, "--issuer", "partner")
        assert [seen.path for seen in other.seen if seen.path == "/token"] == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"dpop_signing_alg_values_supported": None}, 0),
        ({"dpop_signing_alg_values_supported": 7}, 0),
        ({"issuers": [7, None, {}]}, 2),
        ({"issuers": {}}, 7),
    ],
)
def test_odd_metadata_of_a_service_are_no_fault_of_ours(
    changes: dict[str, object], code: int, person: Terminal, service: ServiceDouble
) -> None:
    with Op(dpop_signing_alg_values_supported=["ES256"]) as op:
        offer(service, op.offered(), **changes)
        ended = person.broker("login", "--device")
    assert (ended.returncode, "internal error" in ended.stderr) == (code, False), ended.stderr


@pytest.mark.parametrize(
    "changes",
    [
        {"scopes": 7},
        {"scopes": ["a", 7]},
        {"scopes": "ab"},
        {"resource": 7},
        {"resource": "\ud800"},
        {"scopes": ["\ud800"]},
    ],
)
def test_odd_members_of_an_issuer_are_left_out(
    changes: dict[str, object], person: Terminal, service: ServiceDouble, op: Op
) -> None:
    offer(service, op.offered(**changes))
    ended = person.broker("login", "--device")
    assert ended.returncode == 0, ended.stderr
    (asked,) = (seen.body for seen in op.seen if seen.path == "/device")
    assert "resource" not in asked


@pytest.mark.parametrize("member", ["name", "issuer", "cli_client_id"])
@pytest.mark.parametrize("value", [7, ["x"], {}, None, "\ud800"])
def test_an_issuer_that_cannot_be_asked_is_none(
    member: str, value: object, person: Terminal, service: ServiceDouble, op: Op
) -> None:
    offer(service, op.offered(**{member: value}))
    ended = person.broker("login", "--device")
    assert (ended.returncode, "cli_client_id" in ended.stderr) == (2, True), ended.stderr


def test_a_provider_that_answers_nonsense_is_named_and_the_service_is_not_blamed(
    person: Terminal, service: ServiceDouble, op: Op
) -> None:
    offer(service, op.offered())
    op.grants(expires_in=1e300)
    ended = person.broker("login", "--device")
    assert f"the `expires_in` that {op.url} answered cannot be used; tell whoever runs it" in ended.stderr
    assert "BROKER_URL" not in ended.stderr
