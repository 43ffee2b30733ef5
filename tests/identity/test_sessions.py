"""Sessions of the console: how long they go on, and what ends them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from broker.errors import InvalidToken, Superseded
from broker.identity.sessions import IDLE, LINK_LIFE, LONGEST, Sessions, link_event
from broker.model import Caller, Event, Receipt, Secret, Source, rfc3339
from tests.doubles.audit import NOW, ManualClock
from tests.doubles.sessions import ThreadBook

SOURCE = Source("192.0.2.1", "a browser")
CAROL = Caller(
    issuer="corp",
    subject="carol",
    kind="user",
    groups=("auditors",),
    email="carol@example.com",
    mfa=True,
    authenticated_at=NOW,
    token_expires_at=NOW + LONGEST,
)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def book(clock: ManualClock) -> ThreadBook:
    return ThreadBook(clock)


@pytest.fixture
def sessions(book: ThreadBook, clock: ManualClock) -> Sessions:
    return Sessions(b"k" * 32, book, book, frozenset({"corp"}), clock)


async def refusal(sessions: Sessions, cookie: str) -> str:
    with pytest.raises(InvalidToken) as refused:
        await sessions.find(cookie)
    return refused.value.cause


async def test_a_session_says_who_somebody_is_as_they_were_when_they_signed_in(sessions: Sessions) -> None:
    cookie = await sessions.begin(CAROL, SOURCE, "r1", via="provider")
    found = (await sessions.find(cookie.reveal())).caller
    told = ("issuer", "subject", "kind", "groups", "email", "mfa", "authenticated_at", "token_expires_at")
    assert [getattr(found, name) for name in told] == [getattr(CAROL, name) for name in told]


async def test_a_session_that_is_used_goes_on_until_its_longest(sessions: Sessions, clock: ManualClock) -> None:
    cookie = await sessions.begin(CAROL, SOURCE, "r1", via="provider")
    for _ in range(int(LONGEST / IDLE) - 1):
        clock.now += IDLE
        cookie = (await sessions.find(cookie.reveal())).cookie
    clock.now += IDLE
    assert await refusal(sessions, cookie.reveal()) == "session_ended"


async def test_a_session_that_is_not_used_ends(sessions: Sessions, clock: ManualClock) -> None:
    cookie = await sessions.begin(CAROL, SOURCE, "r1", via="provider")
    clock.now += IDLE + timedelta(seconds=2)
    assert await refusal(sessions, cookie.reveal()) == "session_ended"


async def test_nobody_writes_a_cookie_of_their_own(sessions: Sessions, book: ThreadBook, clock: ManualClock) -> None:
    cookie = (await sessions.begin(CAROL, SOURCE, "r1", via="provider")).reveal()
    secret, used, mac = cookie.split(".")
    later = f"{secret}.{int(used) + 1000}.{mac}"
    of_another_key = Sessions(b"o" * 32, book, book, frozenset({"corp"}), clock)
    foreign = (await of_another_key.begin(CAROL, SOURCE, "r2", via="provider")).reveal()
    assert await refusal(sessions, "") == "missing"
    for made_up in (
        "x",
        later,
        f"{'A' * 43}.{used}.{mac}",
        cookie.upper(),
        cookie + "0",
        foreign,
        f"{secret}.٣.{mac}",
    ):
        assert await refusal(sessions, made_up) == "no_session"


async def test_a_session_that_was_ended_is_over(sessions: Sessions) -> None:
    cookie = await sessions.begin(CAROL, SOURCE, "r1", via="provider")
    found = await sessions.find(cookie.reveal())
    await sessions.confirm(found)
    await sessions.end(found, SOURCE, "r2")
    with pytest.raises(InvalidToken):
        await sessions.confirm(found)
    assert await refusal(sessions, cookie.reveal()) == "no_session"


async def test_a_form_belongs_to_one_session(sessions: Sessions) -> None:
    one, other = [
        await sessions.find((await sessions.begin(CAROL, SOURCE, "r1", via="provider")).reveal()) for _ in range(2)
    ]
    assert sessions.is_of(one, one.form_token.reveal())
    assert not sessions.is_of(one, other.form_token.reveal())
    assert not sessions.is_of(one, "")
    assert not sessions.is_of(one, "ü")


async def test_a_link_is_good_once_and_for_a_minute(sessions: Sessions, book: ThreadBook, clock: ManualClock) -> None:
    link, made = link_event("corp/carol", ["auditors"], clock())
    await book.append(made)
    cookie = await sessions.redeem(link.reveal(), SOURCE, "r1")
    found = await sessions.find(cookie.reveal())
    assert (str(found.caller), found.caller.groups) == ("corp/carol", ("auditors",))
    with pytest.raises(InvalidToken):
        await sessions.redeem(link.reveal(), SOURCE, "r2")
    late, made = link_event("corp/carol", [], clock())
    await book.append(made)
    clock.now += LINK_LIFE
    with pytest.raises(InvalidToken, match="session_ended"):
        await sessions.redeem(late.reveal(), SOURCE, "r3")


@pytest.mark.parametrize("person", ["elsewhere/carol", "corp/", "corp", "/carol"])
async def test_a_link_is_for_people_of_a_known_issuer(person: str, sessions: Sessions, book: ThreadBook) -> None:
    link, made = link_event(person, [], NOW)
    await book.append(made)
    with pytest.raises(InvalidToken):
        await sessions.redeem(link.reveal(), SOURCE, "r1")


async def test_of_two_who_use_a_link_at_once_one_gets_in(book: ThreadBook) -> None:
    link, made = link_event("corp/carol", [], NOW)
    await book.append(made)

    class Racing(ThreadBook):
        """Somebody else is faster, every time."""

        async def append(self, event: Event, *, after: int | None = None) -> Receipt:
            if event.event == "console.link_used":
                raise Superseded
            return await super().append(event, after=after)

    racing = Racing(ManualClock())
    racing.facts = book.facts
    slower = Sessions(b"k" * 32, racing, racing, frozenset({"corp"}), ManualClock())
    with pytest.raises(InvalidToken, match="unknown_link"):
        await slower.redeem(link.reveal(), SOURCE, "r1")


async def test_a_cookie_of_a_link_s_secret_opens_nothing(sessions: Sessions, book: ThreadBook) -> None:
    """A link's thread is no session, although both are of one kind."""
    link, made = link_event("corp/carol", [], NOW)
    await book.append(made)
    begun = (await sessions.begin(CAROL, SOURCE, "r1", via="provider")).reveal()
    with pytest.raises(InvalidToken):
        await sessions.redeem(begun.partition(".")[0], SOURCE, "r2")
    assert isinstance(link, Secret)
    assert rfc3339(NOW + LINK_LIFE) == made.details["until"]


@pytest.mark.parametrize("link", ["", "a", "a" * 500, "no such/thing", "\u0661" * 43])
async def test_what_is_no_link_signs_nobody_in(sessions: Sessions, link: str) -> None:
    with pytest.raises(InvalidToken) as refused:
        await sessions.redeem(link, SOURCE, "r1")
    assert refused.value.cause == "unknown_link"


async def test_without_a_cookie_nobody_is_known(sessions: Sessions) -> None:
    assert await refusal(sessions, "") == "missing"
