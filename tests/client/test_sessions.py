"""A login that is kept: renewed in time, by one process at a time, and gone when it is over."""

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from broker.client import Access
from broker.client.credentials import Token
from broker.client.elsewhere import Elsewhere
from broker.client.errors import Misconfigured, NotLoggedIn, Unreachable
from broker.client.folders import locked
from broker.client.proofs import ProofKey
from broker.client.providers import Grant, Provider
from broker.client.services import Service, remembered_service
from broker.client.sessions import EARLY, Session, logins, session_source
from tests.doubles.client import Answer, ServiceDouble

NOW = 2_000_000_000.0
TOKEN = "POST /token"


@pytest.fixture
def op() -> Iterator[ServiceDouble]:
    with ServiceDouble(None) as double:
        double.tell("POST /revoke", Answer({}))
        yield double


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}


def logged_in(
    environment: dict[str, str], op: ServiceDouble, url: str = "https://broker.test", **grant: object
) -> Session:
    session = Session(environment, Service(url, subject="alice"), clock=lambda: NOW)
    metadata = {"token_endpoint": f"{op.url}/token", "revocation_endpoint": f"{op.url}/revoke"}
    provider = Provider(Elsewhere(), op.url, "cli", metadata)
    members: dict[str, object] = {"refresh_token": "r-1", "expires_at": NOW + 600} | grant
    session.keep(provider, Grant("t-1", **members), "urn:broker")  # type: ignore[arg-type]  # as each test says
    return session


def test_a_token_is_used_until_shortly_before_its_end(environment: dict[str, str], op: ServiceDouble) -> None:
    assert logged_in(environment, op).current().text == "t-1"
    assert logged_in(environment, op, expires_at=None).current().text == "t-1"
    assert op.seen == []


def test_one_that_is_about_to_end_is_renewed_and_the_new_refresh_token_kept(
    environment: dict[str, str], op: ServiceDouble
) -> None:
    op.tell(TOKEN, Answer({"access_token": "t-2", "refresh_token": "r-2", "token_type": "Bearer", "expires_in": 1e8}))
    session = logged_in(environment, op, expires_at=NOW + EARLY - 1)
    assert [session.current().text, session.current().text] == ["t-2", "t-2"]
    (seen,) = op.seen
    expected = {"client_id": "cli", "grant_type": "refresh_token", "refresh_token": "r-1", "resource": "urn:broker"}
    assert seen.body == expected
    op.tell(TOKEN, Answer({"access_token": "t-3", "token_type": "Bearer", "expires_in": 60}))
    assert session.renewed(Token("t-2")) is not None
    assert op.seen[-1].body["refresh_token"] == "r-2"


def _work(environment: dict[str, str], url: str) -> str:
    source = session_source(environment, url)
    assert source is not None
    return source.current().text


def test_eight_processes_at_once_renew_once(environment: dict[str, str], op: ServiceDouble) -> None:
    op.tell(TOKEN, Answer({"access_token": "t-2", "refresh_token": "r-2", "token_type": "Bearer", "expires_in": 600}))
    logged_in(environment, op, expires_at=1.0)
    with multiprocessing.get_context("spawn").Pool(8) as pool:
        found = pool.starmap(_work, [(environment, "https://broker.test")] * 8)
    assert set(found) == {"t-2"}
    assert len(op.seen) == 1


def test_a_refused_token_is_traded_in_once_or_replaced_by_what_another_process_got(
    environment: dict[str, str], op: ServiceDouble
) -> None:
    session = logged_in(environment, op)
    other = session.renewed(Token("t-0"))
    assert (other and other.text, op.seen) == ("t-1", [])
    op.tell(TOKEN, Answer({"error": "invalid_grant"}, 400))
    assert session.renewed(Token("t-1")) is None


def test_a_login_that_has_ended_says_what_to_type(environment: dict[str, str], op: ServiceDouble) -> None:
    op.tell(TOKEN, Answer({"error": "invalid_grant"}, 400))
    with pytest.raises(NotLoggedIn, match=r"invalid_grant.*`broker login`"):
        logged_in(environment, op, expires_at=NOW).current()
    with pytest.raises(NotLoggedIn, match="`broker login`"):
        logged_in(environment, op, expires_at=NOW, refresh_token="").current()


def test_a_provider_that_is_away_matters_only_when_the_token_has_ended(
    environment: dict[str, str], op: ServiceDouble
) -> None:
    op.tell(TOKEN, Answer({}, hang_up=True, content=b"", status=200))
    away = {"HOME": environment["HOME"]}
    session = logged_in(away, op, expires_at=NOW + EARLY - 1)
    with ServiceDouble(None) as gone:
        pass
    gone_op = logged_in(away, gone, expires_at=NOW + EARLY - 1)
    assert gone_op.current().text == "t-1"
    ended = logged_in(away, gone, expires_at=NOW - 1)
    with pytest.raises(Unreachable):
        ended.current()
    assert session.service.url == ended.service.url


def test_a_bound_token_comes_with_its_key(environment: dict[str, str], op: ServiceDouble) -> None:
    key = ProofKey.generate()
    token = logged_in(environment, op, key=key).current()
    assert token.key is not None
    assert token.key.thumbprint == key.thumbprint


def test_the_service_of_the_last_login_is_the_one_that_is_meant(environment: dict[str, str], op: ServiceDouble) -> None:
    assert remembered_service(environment) is None
    one = logged_in(environment, op, "https://one.test")
    logged_in(environment, op, "https://two.test")
    found = remembered_service(environment)
    assert found is not None
    assert found.url == "https://two.test"
    assert Access.from_environment(environment).host == "two.test"
    assert Access.from_environment({**environment, "BROKER_URL": "https://one.test/"}).host == "one.test"
    assert [session.service.url for session in logins(environment)] == ["https://one.test", "https://two.test"]
    assert one.end()
    assert op.seen[-1].body == {"client_id": "cli", "token": "r-1"}
    assert [session.service.url for session in logins(environment)] == ["https://two.test"]


def test_what_the_environment_says_goes_before_what_was_remembered(
    environment: dict[str, str], op: ServiceDouble
) -> None:
    session = logged_in(environment, op)
    session.service.ca_file = "remembered.pem"
    session.keep(Provider(Elsewhere(), op.url, "cli", {}), Grant("t-1", expires_at=NOW * 2), "")
    assert Access.from_environment(environment).ca_file == "remembered.pem"
    assert Access.from_environment({**environment, "BROKER_CA_FILE": "mine.pem"}).ca_file == "mine.pem"
    assert Access.from_environment({**environment, "BROKER_TOKEN": "abc"}).tokens.current().text == "abc"


def test_without_a_login_it_is_said_what_to_type(environment: dict[str, str]) -> None:
    with pytest.raises(Misconfigured, match=r"BROKER_URL is not set.*`broker login URL`"):
        Access.from_environment(environment)
    with pytest.raises(NotLoggedIn, match="`broker login`"):
        Access.from_environment({**environment, "BROKER_URL": "https://broker.test"})


def test_files_that_were_spoilt_are_said_to_be(environment: dict[str, str], op: ServiceDouble) -> None:
    session = logged_in(environment, op)
    (kept,) = Path(environment["HOME"]).rglob("logins/*.json")
    kept.write_text("{")
    with pytest.raises(NotLoggedIn):
        session.current()
    (index,) = Path(environment["HOME"]).rglob("services.json")
    index.write_text("no json")
    with pytest.raises(Misconfigured, match=r"services\.json"):
        Access.from_environment(environment)


def test_no_secret_is_in_any_text_of_it(environment: dict[str, str], op: ServiceDouble) -> None:
    session = logged_in(environment, op)
    assert "t-1" not in repr(session.current()) + repr(session.facts()) + repr(session.service.document())


def test_a_login_that_is_renewed_while_it_ends_stays_ended(environment: dict[str, str], op: ServiceDouble) -> None:
    gate = threading.Event()
    renewed = {"access_token": "t-2", "refresh_token": "r-2", "token_type": "Bearer", "expires_in": 600}
    op.tell(TOKEN, Answer(renewed, gate=gate))
    session = logged_in(environment, op, expires_at=NOW)
    renewing, leaving = threading.Thread(target=session.current), threading.Thread(target=session.end)
    renewing.start()
    while not op.seen:  # the provider is being asked
        time.sleep(0.01)
    leaving.start()
    leaving.join(0.3)  # whoever did not wait would be done by then
    gate.set()
    renewing.join()
    leaving.join()
    assert list(Path(environment["HOME"]).rglob("logins/*.json")) == []
    assert logins(environment) == []
    assert op.seen[-1].body == {"client_id": "cli", "token": "r-2"}
    with pytest.raises(NotLoggedIn, match="nobody is logged in"):
        session.current()


def test_a_renewal_that_waited_for_a_logout_writes_nothing(environment: dict[str, str], op: ServiceDouble) -> None:
    session = logged_in(environment, op, expires_at=NOW)
    (kept,) = Path(environment["HOME"]).rglob("logins/*.json")
    with ThreadPoolExecutor(2) as pool, locked(kept.with_suffix(".lock"), 0):
        waiting: list[Future[Token | None]] = [
            pool.submit(session.current),
            pool.submit(session.renewed, Token("t-1")),
        ]
        assert wait(waiting, 0.3).done == set()
        kept.unlink()  # as a logout does while it holds the lock
    assert [type(each.exception()) for each in waiting] == [NotLoggedIn, NotLoggedIn]
    assert (op.seen, kept.exists()) == ([], False)


@pytest.mark.parametrize("spoilt", ['{"access_token": 1}', "[]", "[" * 100_000, '"x"'])
def test_a_kept_login_of_another_shape_is_none(spoilt: str, environment: dict[str, str], op: ServiceDouble) -> None:
    session = logged_in(environment, op)
    (kept,) = Path(environment["HOME"]).rglob("logins/*.json")
    kept.write_text(spoilt)
    with pytest.raises(NotLoggedIn, match="`broker login`"):
        session.current()
    assert not session.end()
    assert not kept.exists()
