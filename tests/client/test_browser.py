"""The loopback port of a login: held by nobody, whatever else knocks there."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import pytest

from broker.client.browser import browser_login
from broker.client.elsewhere import Elsewhere
from broker.client.errors import LoginRefused
from broker.client.providers import Provider
from tests.doubles.client import Answer, ServiceDouble


@pytest.fixture
def provider() -> Iterator[Provider]:
    with ServiceDouble(None) as op:
        op.tell("POST /token", Answer({"access_token": "t", "token_type": "Bearer"}))
        endpoints = {"token_endpoint": f"{op.url}/token", "authorization_endpoint": f"{op.url}/auth"}
        yield Provider(Elsewhere(), op.url, "cli", endpoints)


@pytest.fixture
def strangers() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def knock(strangers: ExitStack, shown: str) -> socket.socket:
    """Begin a request, and do not end it."""
    back = urlsplit(parse_qs(urlsplit(shown).query)["redirect_uri"][0])
    stranger = strangers.enter_context(socket.create_connection((back.hostname or "", back.port or 0), 5))
    stranger.sendall(b"GET /cb HTTP/1.1\r\n")
    return stranger


def drip(stranger: socket.socket, until: threading.Event) -> None:
    """Send a byte now and then: never silent for long, and never done."""
    while not until.wait(0.05):
        try:
            stranger.sendall(b"x")
        except OSError:
            return


def come_back(shown: str) -> None:
    asked = parse_qs(urlsplit(shown).query)
    back = f"{asked['redirect_uri'][0]}?code=c-1&state={asked['state'][0]}"
    threading.Thread(target=lambda: urlopen(back, timeout=5).close()).start()  # noqa: S310 -- on loopback


def test_a_connection_that_drips_does_not_keep_a_login_beyond_its_time(
    provider: Provider, strangers: ExitStack
) -> None:
    done = threading.Event()

    def show(url: str) -> None:
        stranger = knock(strangers, url)
        threading.Thread(target=drip, args=(stranger, done), daemon=True).start()

    over = threading.Timer(8, done.set)  # where it was kept: so that this ends
    over.start()
    with pytest.raises(LoginRefused, match="in time"):
        browser_login(provider, {}, show, wait=0.3)
    was_kept = done.is_set()
    over.cancel()
    done.set()
    assert not was_kept


def test_the_browser_gets_in_beside_whoever_else_is_there(provider: Provider, strangers: ExitStack) -> None:
    held: list[socket.socket] = []

    def show(url: str) -> None:
        held.extend(knock(strangers, url) for _ in range(100))
        come_back(url)

    assert browser_login(provider, {}, show, wait=5).access_token == "t"
    for stranger in held:
        stranger.settimeout(5)
    assert held[0].recv(1) == b""  # the oldest were shown out


def test_no_visit_lasts_longer_than_it_may(provider: Provider, strangers: ExitStack) -> None:
    ended = threading.Event()

    def show(url: str) -> None:
        stranger = knock(strangers, url)
        stranger.settimeout(20)
        done = threading.Event()
        threading.Thread(target=drip, args=(stranger, done), daemon=True).start()

        def watch() -> None:
            if not stranger.recv(1):
                ended.set()
            done.set()
            come_back(url)

        threading.Thread(target=watch, daemon=True).start()

    assert browser_login(provider, {}, show, wait=30, visit=0.3).access_token == "t"
    assert ended.is_set()


def test_only_the_first_answer_counts(provider: Provider) -> None:
    def show(url: str) -> None:
        asked = parse_qs(urlsplit(url).query)
        back = f"{asked['redirect_uri'][0]}?state={asked['state'][0]}"
        with urlopen(f"{back}&error=access_denied", timeout=5), urlopen(f"{back}&code=late", timeout=5):  # noqa: S310 -- on loopback
            pass

    with pytest.raises(LoginRefused, match="access_denied"):
        browser_login(provider, {}, show, wait=5)


def test_nothing_is_left_behind(provider: Provider) -> None:
    before = threading.active_count()
    assert browser_login(provider, {}, come_back, wait=5).access_token == "t"
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before
