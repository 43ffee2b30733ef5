from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from broker.model import Secret, utc_now
from broker.outbound.notices import trial
from broker.outbound.webhooks import BadSecret, Fate, Outcome, connected, headers, load_secret
from tests.doubles.outbound import SECRET, Inbox, inbox

NOTICE = trial("test_1", "2026-01-31T09:30:00.000Z", "broker.example/audit")


@pytest.fixture
async def site() -> AsyncIterator[Inbox]:
    async with inbox() as opened:
        yield opened


async def outcome(site: Inbox) -> Outcome:
    async with connected(site.receiver("*"), utc_now) as send:
        return await send(NOTICE)


@given(st.binary(min_size=24, max_size=64), st.text("abc-_0123456789", min_size=1), st.integers(0, 2**33), st.text())
def test_the_signature_is_that_of_the_reference_library(key: bytes, message_id: str, when: int, text: str) -> None:
    secret = f"whsec_{base64.b64encode(key).decode()}"
    signed = headers(Secret(secret), message_id, when, text.encode("utf-8", "replace"))
    text = text.encode("utf-8", "replace").decode()
    assert signed["webhook-signature"] == Webhook(secret).sign(message_id, datetime.fromtimestamp(when, UTC), text)
    assert (signed["webhook-id"], signed["webhook-timestamp"]) == (message_id, str(when))


def test_the_signature_is_that_of_the_example_of_the_specification() -> None:
    """The example values of the reference implementations of Standard Webhooks."""
    secret = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = headers(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signed["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_a_notice_is_taken_when_its_signature_holds_and_the_answer_is_2xx(site: Inbox) -> None:
    site.answers = [200, 201, 204]
    for status in (200, 201, 204):
        assert await outcome(site) == Outcome(Fate.TAKEN, f"status {status}")
    assert site.received[0] == {
        "type": "notify.test",
        "timestamp": "2026-01-31T09:30:00.000Z",
        "data": {"log": "broker.example/audit", "message": "This is a test of the broker's notices."},
    }


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 404, 429, 500, 503])
async def test_any_other_answer_is_a_failure_and_a_redirect_is_one(site: Inbox, status: int) -> None:
    site.answers = [status]
    site.headers = {"Location": site.url}
    assert await outcome(site) == Outcome(Fate.FAILED, f"status {status}")
    assert len(site.received) == 1


async def test_410_is_goodbye(site: Inbox) -> None:
    site.answers = [410]
    assert (await outcome(site)).fate is Fate.GONE


@pytest.mark.parametrize(
    ("said", "seconds"), [("7", 7), ("999999", 600), ("soon", 0), ("-1", 0), ("9" * 50, 600), ("٣", 0)]
)
async def test_a_receiver_can_ask_to_be_left_alone_for_a_while(site: Inbox, said: str, seconds: int) -> None:
    site.answers, site.headers = [503], {"Retry-After": said}
    assert (await outcome(site)).retry_after == seconds


async def test_a_receiver_in_a_private_network_must_be_allowed(site: Inbox) -> None:
    receiver = site.receiver("*")
    stranger = type(receiver)(receiver.name, receiver.url, receiver.secret, receiver.selection)
    async with connected(stranger, utc_now) as send:
        assert await send(NOTICE) == Outcome(Fate.FAILED, "a private address, which is not allowed")
    assert site.received == []


@pytest.mark.parametrize("newline", ["", "\n"])
def test_a_secret_is_read_from_a_private_file_or_the_environment(tmp_path: Path, newline: str) -> None:
    path = tmp_path / "secret"
    path.write_text(SECRET + newline)
    path.chmod(0o600)
    environment = {"HOOK": SECRET + newline}
    secrets = [load_secret(f"file:{path}"), load_secret("env:HOOK", environment)]
    assert environment == {}
    assert [headers(secret, "a", 1, b"") for secret in secrets] == [headers(Secret(SECRET), "a", 1, b"")] * 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "whsec_",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_c2hvcnQ=",
        "whsec_not base64",
        "whsec_" + "A" * 92,
        "\xff",
    ],
)
def test_what_is_no_secret_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    path = tmp_path / "secret"
    path.write_text(text, encoding="latin-1")
    path.chmod(0o600)
    for source in (f"file:{path}", "env:HOOK"):
        with pytest.raises(BadSecret) as problem:
            load_secret(source, {"HOOK": text})
        assert len(text) < 7 or text not in str(problem.value)


def test_a_secret_that_others_can_read_or_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    with pytest.raises(BadSecret, match="No such file"):
        load_secret(f"file:{path}")
    path.write_text(SECRET)
    path.chmod(0o640)
    with pytest.raises(BadSecret, match="chmod 600"):
        load_secret(f"file:{path}")
    with pytest.raises(BadSecret, match="HOOK holds no secret"):
        load_secret("env:HOOK", {})
