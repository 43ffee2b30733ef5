from collections.abc import Callable
from pathlib import Path

import pytest

from broker.client import Access, Broker, Misconfigured
from broker.client.errors import NotLoggedIn
from tests.doubles.client import ServiceDouble, page

URL = "https://broker.example.com"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "broker.example.com",
        "ftp://broker.example.com",
        "https://",
        "https://host:port",
        "https://alice:pw@broker.example.com",
        "https://broker.example.com?x=1",
        "https://broker.example.com#x",
        "https://[::1",
    ],
)
def test_what_is_not_the_address_of_a_service_is_refused(url: str) -> None:
    with pytest.raises(Misconfigured, match="BROKER_URL"):
        Access.from_environment({"BROKER_URL": url, "BROKER_TOKEN": "t"})


@pytest.mark.parametrize("url", [f"{URL}/v1", f"{URL}/v1/", f"{URL}/v1/credentials", f"{URL}/broker/v1"])
def test_an_address_with_the_routes_in_it_is_refused(url: str) -> None:
    with pytest.raises(Misconfigured, match=rf"BROKER_URL \({url}\) .* leave out /v1"):
        Access.from_environment({"BROKER_URL": url, "BROKER_TOKEN": "t"})


@pytest.mark.parametrize("url", ["https://alice:s3cret@host", "https://host/?token=s3cret"])
def test_an_address_that_may_hold_a_secret_is_not_repeated(url: str) -> None:
    with pytest.raises(Misconfigured) as refusal:
        Access.from_environment({"BROKER_URL": url, "BROKER_TOKEN": "t"})
    assert "s3cret" not in str(refusal.value)


def test_an_address_that_is_none_is_repeated() -> None:
    with pytest.raises(Misconfigured, match=r"\(broker\.example\.com\)"):
        Access.from_environment({"BROKER_URL": "broker.example.com", "BROKER_TOKEN": "t"})


@pytest.mark.parametrize("host", ["broker.example.com", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1"])
def test_plain_http_beyond_this_machine_is_refused(host: str) -> None:
    with pytest.raises(Misconfigured, match="https://"):
        Access.from_environment({"BROKER_URL": f"http://{host}:8080", "BROKER_TOKEN": "t"})


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]"])
def test_plain_http_on_this_machine_is_allowed(host: str) -> None:
    access = Access.from_environment({"BROKER_URL": f"http://{host}:8080/", "BROKER_TOKEN": "t"})

    assert (access.secure, access.port, access.prefix) == (False, 8080, "")


def test_an_address_may_have_a_path_and_needs_no_port() -> None:
    access = Access.from_environment({"BROKER_URL": f"{URL}/broker/", "BROKER_TOKEN": "t"})

    assert (access.host, access.port, access.prefix) == ("broker.example.com", 443, "/broker")


def test_without_a_token_nothing_is_asked() -> None:
    with pytest.raises(NotLoggedIn, match="BROKER_TOKEN_FILE"):
        Access.from_environment({"BROKER_URL": URL, "HOME": "/nowhere"})


@pytest.mark.parametrize("content", ["", "two words", "line\nbreak", "café", "x\r\nX-Evil: 1", "=", "a=b"])
def test_what_cannot_be_a_token_is_refused_and_not_repeated(content: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(content, newline="")
    sources = [{"BROKER_TOKEN": content}] if content else []
    for source in [*sources, {"BROKER_TOKEN_FILE": str(file)}]:
        with pytest.raises(Misconfigured) as refusal:
            Access.from_environment({"BROKER_URL": URL, **source}).tokens.current()
        assert not content or content not in str(refusal.value)


def test_a_missing_token_file_is_named_by_its_variable(tmp_path: Path) -> None:
    path = tmp_path / "none"
    access = Access.from_environment({"BROKER_URL": URL, "BROKER_TOKEN_FILE": str(path)})

    with pytest.raises(Misconfigured, match=rf"BROKER_TOKEN_FILE \({path}\) cannot be read: No such file"):
        access.tokens.current()


def test_a_token_that_is_renewed_in_its_file_is_used_at_once(
    service: ServiceDouble, connect: Callable[..., Broker], token_file: Path
) -> None:
    service.tell("GET /v1/instances", page())
    broker = connect(BROKER_TOKEN=None, BROKER_TOKEN_FILE=str(token_file))
    list(broker.instances())
    token_file.write_text("renewed")
    list(broker.instances())

    first, second = (seen.headers["authorization"] for seen in service.seen)
    assert first.startswith("Bearer eyJ")
    assert second == "Bearer renewed"
