import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.delivery.rdp_file import rdp_file
from broker.errors import UpstreamError


def settings(text: str) -> dict[str, str]:
    assert text.endswith("\r\n")
    lines = text.removesuffix("\r\n").split("\r\n")
    found = {name: value for name, _, value in (line.partition(":") for line in lines)}
    assert len(found) == len(lines)
    return found


def test_the_file_says_where_to_and_as_whom() -> None:
    found = settings(rdp_file("203.0.113.7", 3390, "Administrator"))
    assert found["full address"] == "s:203.0.113.7"
    assert found["server port"] == "i:3390"
    assert found["username"] == "s:Administrator"


def test_an_ipv6_address_has_brackets_and_its_port() -> None:
    found = settings(rdp_file("2001:db8::7", 3389, "Administrator"))
    assert found["full address"] == "s:[2001:db8::7]:3389"


def test_the_settings_that_protect_the_visitor_are_pinned() -> None:
    found = settings(rdp_file("203.0.113.7", 3389, "Administrator"))
    assert found["prompt for credentials"] == "i:1"
    assert found["authentication level"] == "i:2"
    assert found["enablecredsspsupport"] == "i:1"
    for redirection in ("redirectclipboard", "redirectprinters", "redirectwebauthn"):
        assert found[redirection] == "i:0"
    assert found["drivestoredirect"] == "s:"


def test_no_password_is_in_it() -> None:
    assert "password" not in rdp_file("203.0.113.7", 3389, "Administrator")


@pytest.mark.parametrize(
    "value", ["", "a\rb", "a\nb", "a\r\npassword 51:b:00", "a\x00", "a\tb", "é", "a\u2028b", "a\x85b"]
)
def test_a_value_that_could_end_its_line_is_refused(value: str) -> None:
    with pytest.raises(UpstreamError):
        rdp_file(value, 3389, "Administrator")
    with pytest.raises(UpstreamError):
        rdp_file("203.0.113.7", 3389, value)


@given(host=st.text(max_size=40), username=st.text(max_size=40), port=st.integers(1, 65535))
def test_no_input_adds_a_setting(host: str, username: str, port: int) -> None:
    usual = settings(rdp_file("203.0.113.7", 3389, "Administrator"))
    try:
        text = rdp_file(host, port, username)
    except UpstreamError:
        return
    assert settings(text).keys() == usual.keys()
    assert text.splitlines() == text.removesuffix("\r\n").split("\r\n")
