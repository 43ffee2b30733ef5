"""Under which address callers know the service."""

from pathlib import Path

import pytest

from broker.web.public_urls import PublicUrls, names_of
from tests.doubles.client import Authority

NAMED = PublicUrls((), ("broker.example.com", "*.corp.example", "::1"), "https")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("broker.example.com", "https://broker.example.com"),
        ("BROKER.example.com:9443", "https://broker.example.com:9443"),
        ("a.corp.example", "https://a.corp.example"),
        ("[::1]:8443", "https://[::1]:8443"),
        *((strange, "https://broker.example.com") for strange in ("evil.test", "", "a.b.corp.example", "corp.example")),
        *(
            (strange, "https://broker.example.com")
            for strange in ("x@broker.example.com", "broker.example.com/x", "[::1")
        ),
        *((strange, "https://broker.example.com") for strange in ("broker.example.com:99999", "broker.example.com:x")),
        ("broker.example.com#x", "https://broker.example.com"),
    ],
)
def test_a_host_chooses_among_our_names_and_adds_none(host: str, url: str) -> None:
    assert NAMED.of(host) == url


def test_what_is_listed_counts_alone() -> None:
    urls = PublicUrls(("https://one.test", "https://two.test:444/"), ("broker.example.com",), "http")
    assert urls.of("two.test:444") == "https://two.test:444"
    assert {urls.of(host) for host in ("one.test", "two.test", "broker.example.com", "")} == {"https://one.test"}


def test_without_a_name_it_is_known_to_this_machine_only() -> None:
    assert PublicUrls((), ("*.corp.example",), "https").of("evil.test") == "https://localhost"
    assert PublicUrls().of("localhost:8443") == "http://localhost:8443"


def test_a_certificate_says_its_names(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    assert names_of(Path(authority.server[0])) == ["localhost", "127.0.0.1"]
