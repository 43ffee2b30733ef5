from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from broker.emulator import Emulator
from tests.emulator.clients import Refusal, lightsail, post, signed_headers, sts
from tests.emulator.conftest import MovedClock

if TYPE_CHECKING:
    from types_aiobotocore_sts.type_defs import CredentialsTypeDef

ROLE = "arn:aws:iam::210987654321:role/ops/reader"


async def session_of(emulator: Emulator, **parameters: Any) -> CredentialsTypeDef:
    async with sts(emulator) as client:
        answer = await client.assume_role(RoleArn=ROLE, RoleSessionName="broker", **parameters)
    return answer["Credentials"]


def signing(credentials: CredentialsTypeDef) -> dict[str, str]:
    return {
        "key_id": credentials["AccessKeyId"],
        "secret": credentials["SecretAccessKey"],
        "token": credentials["SessionToken"],
    }


async def test_the_configured_key_is_a_user_of_the_account(emulator: Emulator) -> None:
    async with sts(emulator) as client:
        identity = await client.get_caller_identity()
    assert identity["Arn"] == "arn:aws:iam::123456789012:user/emulator"
    assert identity["Account"] == "123456789012"


async def test_any_role_can_be_assumed_and_then_calls(emulator: Emulator) -> None:
    credentials = await session_of(emulator)
    async with lightsail(emulator, **signing(credentials)) as client:
        assert (await client.get_instance(instanceName="web-1"))["instance"]["name"] == "web-1"
    async with sts(emulator, **signing(credentials)) as tokens:
        identity = await tokens.get_caller_identity()
    assert identity["Arn"] == "arn:aws:sts::210987654321:assumed-role/reader/broker"
    assert identity["Account"] == "210987654321"
    assert identity["UserId"].endswith(":broker")


async def test_the_source_identity_is_told_and_remembered(emulator: Emulator) -> None:
    async with sts(emulator) as client:
        answer = await client.assume_role(RoleArn=ROLE, RoleSessionName="broker", SourceIdentity="corp-alice")
    async with lightsail(emulator, **signing(answer["Credentials"])) as lightsail_client:
        await lightsail_client.get_instances()
    assert answer["SourceIdentity"] == "corp-alice"
    assert emulator.calls[-1].source_identity == "corp-alice"


async def test_a_source_identity_stays_through_a_chain(emulator: Emulator) -> None:
    credentials = await session_of(emulator, SourceIdentity="corp-alice")
    async with sts(emulator, **signing(credentials)) as client:
        chained = await client.assume_role(RoleArn=ROLE, RoleSessionName="next")
        with Refusal() as refusal:
            await client.assume_role(RoleArn=ROLE, RoleSessionName="next", SourceIdentity="corp-bob")
    assert chained["SourceIdentity"] == "corp-alice"
    assert refusal.code == "AccessDenied"


async def test_a_session_lasts_as_long_as_was_asked(emulator: Emulator, clock: MovedClock) -> None:
    usual = await session_of(emulator)
    short = await session_of(emulator, DurationSeconds=900)
    assert abs(usual["Expiration"] - clock() - timedelta(hours=1)) < timedelta(seconds=10)
    assert abs(short["Expiration"] - clock() - timedelta(minutes=15)) < timedelta(seconds=10)


async def test_an_expired_session_is_refused(emulator: Emulator, clock: MovedClock) -> None:
    credentials = await session_of(emulator, DurationSeconds=900)
    clock.ahead = timedelta(minutes=16)
    async with lightsail(emulator, **signing(credentials)) as client:
        with Refusal() as refusal:
            await client.get_instances()
    async with sts(emulator, **signing(credentials)) as tokens:
        with Refusal() as of_sts:
            await tokens.get_caller_identity()
    assert (refusal.code, refusal.status) == ("ExpiredTokenException", 400)
    assert of_sts.code == "ExpiredToken"


async def test_the_token_of_another_session_is_refused(emulator: Emulator) -> None:
    one, other = await session_of(emulator), await session_of(emulator)
    async with lightsail(emulator, **signing(one) | {"token": other["SessionToken"]}) as client:
        with Refusal() as refusal:
            await client.get_instances()
    assert refusal.code == "UnrecognizedClientException"


async def test_a_temporary_key_without_its_token_is_refused(emulator: Emulator) -> None:
    credentials = await session_of(emulator)
    async with lightsail(emulator, key_id=credentials["AccessKeyId"], secret=credentials["SecretAccessKey"]) as client:
        with Refusal() as refusal:
            await client.get_instances()
    assert refusal.code == "UnrecognizedClientException"


@pytest.mark.parametrize(
    "parameters",
    [
        {"RoleArn": "arn:aws:iam::210987654321:user/nobody"},
        {"RoleArn": "reader-role-without-arn"},
        {"RoleSessionName": "has space"},
        {"DurationSeconds": 43201},
        {"ExternalId": "with space"},
        {"SourceIdentity": "corp/alice"},
    ],
)
async def test_what_aws_would_not_take_is_refused(emulator: Emulator, parameters: dict[str, Any]) -> None:
    async with sts(emulator) as client:
        with Refusal() as refusal:
            await client.assume_role(**{"RoleArn": ROLE, "RoleSessionName": "broker"} | parameters)
    assert (refusal.code, refusal.status) == ("ValidationError", 400)


async def test_a_chained_session_lasts_an_hour_at_most(emulator: Emulator) -> None:
    credentials = await session_of(emulator)
    async with sts(emulator, **signing(credentials)) as client:
        with Refusal() as refusal:
            await client.assume_role(RoleArn=ROLE, RoleSessionName="next", DurationSeconds=3601)
    assert refusal.code == "ValidationError"


@pytest.mark.parametrize(
    "form", [b"Action=GetSessionToken&Version=2011-06-15", b"Action=AssumeRole&Version=2000-01-01", b""]
)
async def test_another_action_of_sts_is_unknown(emulator: Emulator, form: bytes) -> None:
    kind = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    status, _, answer = await post(
        emulator, form, signed_headers(emulator, form, kind, datetime.now(UTC), service="sts")
    )
    assert status == 400
    assert b"<Code>InvalidAction</Code>" in answer


@pytest.mark.parametrize(
    "members", ["DurationSeconds=899", "DurationSeconds=-900", "DurationSeconds=soon", "RoleSessionName=", "RoleArn="]
)
async def test_what_the_sdk_would_not_send_is_refused_too(emulator: Emulator, members: str) -> None:
    form = f"Action=AssumeRole&Version=2011-06-15&RoleArn={ROLE}&RoleSessionName=broker&{members}".encode()
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    headers = signed_headers(emulator, form, kind, datetime.now(UTC), service="sts")
    status, _, answer = await post(emulator, form, headers)
    assert status == 400
    assert b"<Code>ValidationError</Code>" in answer
