from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from broker.emulator import Emulator
from broker.emulator.errors import AwsError
from broker.emulator.signatures import SignedCall, read_authorization, verify_signature
from tests.emulator.clients import KEY_ID, Refusal, lightsail, post, signed_headers, sts

BODY = b'{"instanceName": "web-1"}'
TARGET = {"X-Amz-Target": "Lightsail_20161128.GetInstance", "Content-Type": "application/x-amz-json-1.1"}


async def refusal_of(emulator: Emulator, headers: dict[str, str], body: bytes = BODY) -> str:
    _, _, answer = await post(emulator, body, headers)
    return answer.decode()


def test_the_published_example_of_a_signature_is_accepted() -> None:
    call = SignedCall(
        method="GET",
        path="/",
        query="",
        headers={
            "host": "example.amazonaws.com",
            "x-amz-date": "20150830T123600Z",
            "authorization": "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
            "SignedHeaders=host;x-amz-date, "
            "Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        },
        body=b"",
    )
    signed_at = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
    secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
    authorization = read_authorization(call, "service")
    verify_signature(call, authorization, secret, signed_at)
    with pytest.raises(AwsError, match="InvalidSignatureException"):
        verify_signature(call, authorization, secret.lower(), signed_at)


async def test_a_signed_call_is_let_in(emulator: Emulator) -> None:
    status, _, _ = await post(emulator, BODY, signed_headers(emulator, BODY, TARGET, datetime.now(UTC)))
    assert status == 200


async def test_another_secret_is_refused(emulator: Emulator) -> None:
    async with lightsail(emulator, secret="other") as client:
        with Refusal() as refusal:
            await client.get_instances()
    assert (refusal.code, refusal.status) == ("InvalidSignatureException", 400)


async def test_an_unknown_key_is_refused(emulator: Emulator) -> None:
    async with lightsail(emulator, key_id="AKIDUNKNOWN") as client:
        with Refusal() as refusal:
            await client.get_instances()
    assert refusal.code == "UnrecognizedClientException"


async def test_a_token_with_the_long_lived_key_is_refused(emulator: Emulator) -> None:
    async with lightsail(emulator, token="made-up") as client:
        with Refusal() as refusal:
            await client.get_instances()
    assert refusal.code == "UnrecognizedClientException"


async def test_sts_has_its_own_names_for_the_same_refusals(emulator: Emulator) -> None:
    async with sts(emulator, secret="other") as client:
        with Refusal() as wrong:
            await client.get_caller_identity()
    async with sts(emulator, key_id="AKIDUNKNOWN") as client:
        with Refusal() as unknown:
            await client.get_caller_identity()
    assert (wrong.code, wrong.status) == ("SignatureDoesNotMatch", 403)
    assert (unknown.code, unknown.status) == ("InvalidClientTokenId", 403)


async def test_a_call_without_a_signature_is_refused(emulator: Emulator) -> None:
    assert "MissingAuthenticationTokenException" in await refusal_of(emulator, TARGET)


async def test_another_scheme_of_authorization_is_refused(emulator: Emulator) -> None:
    assert "InvalidSignatureException" in await refusal_of(emulator, TARGET | {"Authorization": f"Basic {KEY_ID}"})


async def test_a_changed_body_is_refused(emulator: Emulator) -> None:
    headers = signed_headers(emulator, BODY, TARGET, datetime.now(UTC))
    assert "InvalidSignatureException" in await refusal_of(emulator, headers, BODY.replace(b"1", b"2"))


async def test_a_changed_operation_is_refused(emulator: Emulator) -> None:
    headers = signed_headers(emulator, BODY, TARGET, datetime.now(UTC))
    headers["X-Amz-Target"] += "State"
    assert "InvalidSignatureException" in await refusal_of(emulator, headers)


async def test_a_scope_of_another_service_is_refused(emulator: Emulator) -> None:
    headers = signed_headers(emulator, BODY, TARGET, datetime.now(UTC), service="ec2")
    assert "correct service" in await refusal_of(emulator, headers)


async def test_a_date_that_is_not_signed_is_refused(emulator: Emulator) -> None:
    headers = signed_headers(emulator, BODY, TARGET, datetime.now(UTC))
    headers["Authorization"] = headers["Authorization"].replace("x-amz-date;", "")
    assert "must be signed" in await refusal_of(emulator, headers)


async def test_a_token_that_is_not_signed_is_refused(emulator: Emulator) -> None:
    headers = signed_headers(emulator, BODY, TARGET, datetime.now(UTC)) | {"X-Amz-Security-Token": "slipped in"}
    assert "must be signed" in await refusal_of(emulator, headers)


async def test_a_hash_of_another_body_is_refused(emulator: Emulator) -> None:
    headers = signed_headers(emulator, BODY, TARGET | {"X-Amz-Content-SHA256": "0" * 64}, datetime.now(UTC))
    assert "InvalidSignatureException" in await refusal_of(emulator, headers)


@pytest.mark.parametrize(
    ("minutes", "says"), [(-16, "Signature expired"), (16, "Signature not yet current"), (-14, ""), (14, "")]
)
async def test_a_clock_may_be_wrong_by_a_quarter_of_an_hour(emulator: Emulator, minutes: int, says: str) -> None:
    when = datetime.now(UTC) + timedelta(minutes=minutes)
    status, _, answer = await post(emulator, BODY, signed_headers(emulator, BODY, TARGET, when))
    assert (status == 200) is (says == "")
    assert says in answer.decode()


async def test_a_day_in_the_scope_that_is_not_the_date_s_is_refused(emulator: Emulator) -> None:
    now = datetime.now(UTC)
    headers = signed_headers(emulator, BODY, TARGET, now)
    headers["Authorization"] = headers["Authorization"].replace(f"{now:%Y%m%d}", "20200101")
    assert "does not match" in await refusal_of(emulator, headers)


async def test_header_bytes_that_are_no_text_are_refused(emulator: Emulator) -> None:
    headers = signed_headers(emulator, BODY, TARGET, datetime.now(UTC))
    headers["X-Amz-Target"] = "Lightsail_20161128.GetInstance"
    headers["Authorization"] = headers["Authorization"].replace("x-amz-date;", "x-amz-date;x-amz-security-token;")
    headers["X-Amz-Security-Token"] = "\udcff"
    status, _, _ = await post(emulator, BODY, headers)
    assert status == 400
