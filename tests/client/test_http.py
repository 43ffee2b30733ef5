import base64
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from broker.client import Access, Broker, BrokerProblem, Misconfigured, Unreachable, Untrusted
from broker.client.credentials import FixedToken, Token
from broker.client.http import ANSWER_LIMIT, Connection
from tests.doubles.client import Answer, Authority, ServiceDouble, instance, page, problem, ssh_credential

Connect = Callable[..., Broker]


def test_a_credential_is_asked_for_with_what_was_said_and_no_more(service: ServiceDouble, connect: Connect) -> None:
    document = ssh_credential()
    service.tell("POST /v1/credentials", Answer(document, 201))

    assert connect().credential("web-1", reason="deploy") == document
    (seen,) = service.seen
    assert seen.body == {"instance": "web-1", "reason": "deploy"}
    assert seen.headers["content-type"] == "application/json"
    assert len(seen.headers["idempotency-key"]) == 32
    assert seen.headers["user-agent"].startswith("broker/")


def test_the_secret_is_sealed_to_a_key_of_this_call(service: ServiceDouble, connect: Connect) -> None:
    service.tell("POST /v1/credentials", Answer(ssh_credential(), 201))
    broker = connect()
    for _ in range(2):
        broker.credential("web-1")

    first, second = (seen.seal_to for seen in service.seen)
    assert {"kty": "OKP", "crv": "X25519"}.items() <= first.items()
    assert "d" not in first
    assert first != second


def test_a_secret_that_came_in_the_open_is_not_used(service: ServiceDouble, connect: Connect) -> None:
    service.tell("POST /v1/credentials", Answer(ssh_credential(), 201, in_the_open=True))
    with pytest.raises(Untrusted, match="not sealed"):
        connect().credential("web-1")


def test_everything_that_can_be_said_is_sent(service: ServiceDouble, connect: Connect) -> None:
    service.tell("POST /v1/credentials", Answer(ssh_credential(), 201))
    connect().credential("web-1", protocol="ssh", reason="r", ticket="OPS-7", break_glass=True, idempotency_key="mine")

    (seen,) = service.seen
    expected = {"instance": "web-1", "protocol": "ssh", "reason": "r", "ticket": "OPS-7", "break_glass": True}
    assert seen.body == expected
    assert seen.headers["idempotency-key"] == "mine"


def test_all_pages_are_read_over_one_connection(service: ServiceDouble, connect: Connect) -> None:
    service.tell("GET /v1/instances", page(instance("a1"), cursor="x y&z"), page(instance("b2")))

    assert [item["name"] for item in connect().instances()] == ["a1", "b2"]
    assert [seen.query for seen in service.seen] == [{}, {"cursor": ["x y&z"]}]
    assert len({seen.connection for seen in service.seen}) == 1


def test_a_filter_is_kept_over_the_pages(service: ServiceDouble, connect: Connect) -> None:
    service.tell("GET /v1/bundles", page(cursor="2"), page())
    list(connect().bundles(blueprint="windows_server_2022", include_inactive=True))

    wanted = {"blueprint": ["windows_server_2022"], "include_inactive": ["true"]}
    assert [seen.query for seen in service.seen] == [wanted, wanted | {"cursor": ["2"]}]


def test_a_listing_that_leads_back_to_itself_ends(service: ServiceDouble, connect: Connect) -> None:
    service.tell("GET /v1/instances", page(cursor="again"))

    with pytest.raises(Unreachable, match="listing"):
        list(connect().instances())


def test_a_connection_that_was_closed_meanwhile_is_opened_again(service: ServiceDouble, connect: Connect) -> None:
    service.tell("GET /v1/instances", Answer({"items": [], "next_cursor": None}, hang_up=True))
    service.tell("POST /v1/credentials", Answer(ssh_credential(), 201))
    broker = connect()
    list(broker.instances())

    broker.credential("web-1")
    assert len({seen.connection for seen in service.seen}) == 2


def test_a_refusal_carries_all_that_the_service_said(service: ServiceDouble, connect: Connect) -> None:
    refusal = problem(409, "ambiguous_instance", "Two.", retry_after=5, next="Say which.", choices=["a/b/c", "a/d/c"])
    service.tell("POST /v1/credentials", refusal)

    with pytest.raises(BrokerProblem, match="Two") as caught:
        connect().credential("web-1")
    told = caught.value
    assert (told.status, told.code, told.next, told.retry_after) == (409, "ambiguous_instance", "Say which.", 5)
    assert (told.choices, told.request_id) == (["a/b/c", "a/d/c"], "req-1")


@pytest.mark.parametrize(
    "content", [b"<html>Bad gateway</html>", b"", b"[1]", b"\xff\xfe", b"[" * 100_000, b'{"code": 7}']
)
def test_a_refusal_in_foreign_words_is_one_all_the_same(
    content: bytes, service: ServiceDouble, connect: Connect
) -> None:
    service.tell("POST /v1/credentials", Answer(status=502, content=content))

    with pytest.raises(BrokerProblem, match="the service answered 502") as caught:
        connect().credential("web-1")
    assert (caught.value.status, caught.value.code) == (502, "")


@pytest.mark.parametrize("header", ["", "soon", "-1", "1.5", "٣", "9" * 5000, "Wed, 21 Oct 2030 07:28:00 GMT"])
def test_a_retry_after_that_is_no_count_of_seconds_is_none(
    header: str, service: ServiceDouble, connect: Connect
) -> None:
    if not header.isascii():
        header = header.encode().decode("latin-1")
    service.tell("POST /v1/credentials", Answer({"code": "overloaded"}, 503, {"Retry-After": header}))

    with pytest.raises(BrokerProblem) as caught:
        connect().credential("web-1")
    assert caught.value.retry_after is None


@pytest.mark.parametrize("content", [b"<html>Welcome</html>", b"[]", b"{}", b'{"ssh": "no"}'])
def test_an_answer_that_is_no_credential_is_not_taken_for_one(
    content: bytes, service: ServiceDouble, connect: Connect
) -> None:
    service.tell("POST /v1/credentials", Answer(status=201, content=content))

    with pytest.raises(Unreachable, match="answered"):
        connect().credential("web-1")


def test_a_redirect_is_not_followed(service: ServiceDouble, connect: Connect, authority: Authority) -> None:
    with ServiceDouble(authority.server_context()) as elsewhere:
        elsewhere.tell("POST /v1/credentials", Answer(ssh_credential(), 201))
        location = {"Location": f"{elsewhere.url}/v1/credentials"}
        service.tell("POST /v1/credentials", Answer(status=307, content=b"", headers=location))
        with pytest.raises(Unreachable, match="redirect"):
            connect().credential("web-1")
        assert not elsewhere.seen


def test_an_endless_answer_is_cut_off_and_its_rest_is_not_the_next_answer(
    service: ServiceDouble, connect: Connect
) -> None:
    service.tell("GET /v1/instances", Answer(content=b" " * (ANSWER_LIMIT + 2)), page(instance("web-1")))
    broker = connect()
    with pytest.raises(Unreachable, match="more than"):
        list(broker.instances())

    assert [item["name"] for item in broker.instances()] == ["web-1"]


def test_a_service_may_live_under_a_path(service: ServiceDouble, connect: Connect) -> None:
    service.tell("GET /access/v1/instances", page())

    assert not list(connect(BROKER_URL=f"{service.url}/access/").instances())


def test_after_an_answer_that_was_cut_short_a_new_connection_is_opened(
    service: ServiceDouble, connect: Connect
) -> None:
    cut = Answer(status=503, content=b'{"code": "over', headers={"Content-Length": "99"}, hang_up=True)
    service.tell("POST /v1/credentials", cut, Answer(ssh_credential(), 201))
    broker = connect()
    with pytest.raises(BrokerProblem, match="answered 503"):
        broker.credential("web-1")

    assert broker.credential("web-1")["port"] == 2222


def test_a_service_that_says_nothing_is_not_waited_for_for_ever(service: ServiceDouble, authority: Authority) -> None:
    gate = threading.Event()
    service.tell("GET /v1/instances", Answer(gate=gate))
    connection = Connection(Access(service.url, FixedToken("token", "a test"), ca_file=authority.ca_file), timeout=0.3)
    with pytest.raises(Unreachable, match="in time"):
        connection.get("/v1/instances")
    gate.set()
    assert len(service.seen) == 1


def test_a_certificate_of_an_unknown_authority_is_refused_before_anything_is_sent(
    service: ServiceDouble, connect: Connect, tmp_path: Path
) -> None:
    other = Authority(tmp_path)
    with pytest.raises(Untrusted, match="BROKER_CA_FILE"):
        connect(BROKER_CA_FILE=other.ca_file).credential("web-1")
    with pytest.raises(Untrusted, match=r"self-signed|unable to get local issuer"):
        connect(BROKER_CA_FILE=None).credential("web-1")
    assert not service.seen


def test_a_certificate_of_another_name_is_refused(service: ServiceDouble, connect: Connect) -> None:
    url = service.url.replace("127.0.0.1", "127.0.0.2")
    with _forwarded("127.0.0.2", service.url) as port, pytest.raises(Untrusted, match=r"127\.0\.0\.2"):
        connect(BROKER_URL=f"{url.rpartition(':')[0]}:{port}").credential("web-1")
    assert not service.seen


def test_a_client_certificate_is_shown_where_one_is_named(authority: Authority, connect: Connect) -> None:
    certificate, key = authority.client
    with ServiceDouble(authority.server_context(ask_for_certificate=True)) as double:
        double.tell("GET /v1/instances", page())
        assert not list(
            connect(BROKER_URL=double.url, BROKER_CLIENT_CERT=certificate, BROKER_CLIENT_KEY=key).instances()
        )
        with pytest.raises(Unreachable, match=r"TLS|closed"):
            list(connect(BROKER_URL=double.url).instances())


def test_files_that_hold_no_certificate_are_named_by_their_variables(connect: Connect, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    with pytest.raises(Misconfigured, match="BROKER_CA_FILE"):
        connect(BROKER_CA_FILE=str(empty))
    with pytest.raises(Misconfigured, match="BROKER_CLIENT_KEY"):
        connect(BROKER_CLIENT_CERT=str(empty))
    with pytest.raises(Misconfigured, match="No such file"):
        connect(BROKER_CA_FILE=str(tmp_path / "none"))


def test_nobody_there_is_said_in_a_sentence(connect: Connect) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound and not listening: whoever connects is refused
        port = reserved.getsockname()[1]
        with pytest.raises(Unreachable, match="nothing listens there"):
            connect(BROKER_URL=f"https://127.0.0.1:{port}").credential("web-1")


def test_a_host_without_an_address_is_said_in_a_sentence(connect: Connect) -> None:
    with pytest.raises(Unreachable, match="no such host"):
        connect(BROKER_URL="https://broker.invalid").credential("web-1")


@pytest.mark.parametrize(("said", "sentence"), [(b"", "closed|TLS"), (b"SSH-2.0-OpenSSH_9.2\r\n", "TLS")])
def test_another_kind_of_server_is_said_in_a_sentence(said: bytes, sentence: str, connect: Connect) -> None:
    with _talking(said) as port, pytest.raises(Unreachable, match=sentence):
        connect(BROKER_URL=f"https://127.0.0.1:{port}").credential("web-1")


def test_plain_http_of_another_kind_is_said_in_a_sentence(connect: Connect) -> None:
    with _talking(b"SSH-2.0-OpenSSH_9.2\r\n") as port, pytest.raises(Unreachable, match="does not speak HTTP"):
        connect(BROKER_URL=f"http://127.0.0.1:{port}").credential("web-1")


def test_plain_http_to_a_service_with_tls_is_told_to_try_https(service: ServiceDouble, connect: Connect) -> None:
    with pytest.raises(Unreachable, match="try https:// in BROKER_URL"):
        connect(BROKER_URL=service.url.replace("https:", "http:")).credential("web-1")


def test_a_token_that_is_not_taken_is_looked_into(service: ServiceDouble, connect: Connect) -> None:
    service.tell("POST /v1/credentials", problem(401, "invalid_token"))
    claims = base64.urlsafe_b64encode(b'{"exp": 1}').decode().rstrip("=")
    expired = f"e30.{claims}.x"
    for token, said in ((expired, r"expired \d+ days ago"), ("opaque", "get a new token")):
        with pytest.raises(BrokerProblem) as caught:
            connect(BROKER_TOKEN=token).credential("web-1")
        assert re.search(said, caught.value.next)


class Renewable:
    """A token that can be renewed again and again."""

    remedy = ""

    def __init__(self) -> None:
        self.renewals = 0

    def current(self) -> Token:
        return Token("first")

    def renewed(self, refused: Token) -> Token | None:
        self.renewals += refused.text == "first"
        return Token("second")


@pytest.mark.parametrize(("kind", "renewals"), [("invalid_token", 1), ("insufficient_user_authentication", 0)])
def test_a_login_that_is_too_weak_is_not_mended_by_renewing_its_token(
    kind: str, renewals: int, service: ServiceDouble, authority: Authority
) -> None:
    refused = problem(401, "some_code")
    service.tell("POST /v1/credentials", replace(refused, headers={"WWW-Authenticate": f'Bearer error="{kind}"'}))
    tokens = Renewable()
    access = Access(service.url, tokens, ca_file=authority.ca_file)
    with Broker(access) as broker, pytest.raises(BrokerProblem):
        broker.credential("web-1")
    assert (tokens.renewals, len(service.seen)) == (renewals, 1 + renewals)


@pytest.mark.parametrize("name", ["", "/web-1", "eu-west-1/web-1", "a/b/c/d", "a//b"])
def test_what_names_no_instance_is_not_asked_for(name: str, service: ServiceDouble, connect: Connect) -> None:
    with pytest.raises(Misconfigured, match="NAME or ACCOUNT/REGION/NAME"):
        connect().credential(name)
    assert not service.seen


@contextmanager
def _talking(said: bytes) -> Iterator[int]:
    """A server that says one thing to whoever comes, and leaves."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(said)

        thread = threading.Thread(target=speak)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


@contextmanager
def _forwarded(address: str, url: str) -> Iterator[int]:
    """Another address of this machine that leads to the same server, for one handshake."""
    target = ("127.0.0.1", int(url.rpartition(":")[2]))
    with socket.create_server((address, 0)) as listener:

        def forward() -> None:
            peer, _ = listener.accept()
            with peer, socket.create_connection(target) as server:
                server.sendall(peer.recv(65536))
                peer.sendall(server.recv(65536))

        thread = threading.Thread(target=forward)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()
