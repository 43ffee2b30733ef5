from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from botocore.exceptions import ClientError

from broker.lightsail.gateway import Gateway
from broker.lightsail.minting import Minter, Tally
from broker.lightsail.session import AccountSession
from broker.model import Protocol, utc_now
from tests.doubles.lightsail import QUICK, WilfulAws, account, body, error, instance

DETAILS = {
    "instanceName": "web-1",
    "protocol": "ssh",
    "username": "ec2-user",
    "privateKey": "-----BEGIN RSA PRIVATE KEY-----\nMIIBOgIBAAJBAK\n-----END RSA PRIVATE KEY-----\n",
    "certKey": "ssh-rsa-cert-v01@openssh.com AAAAHHNzaC1yc2EtY2VydC12MDFAb3BlbnNzaC5jb20=",
}
OF_ONE_CALL = {"x-amz-date", "authorization", "amz-sdk-invocation-id", "amz-sdk-request", "content-length"}


class Sleeper:
    """Waits no time, and remembers how long it should have."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture
async def session(aws: WilfulAws) -> AsyncIterator[AccountSession]:
    running = AccountSession(account(aws.url), QUICK, utc_now)
    yield running
    await running.close()


async def test_what_is_sent_is_what_the_sdk_sends(aws: WilfulAws, session: AccountSession, wilful: Gateway) -> None:
    sent: list[tuple[str, str, bytes]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        sent.append((request.method, request.path_qs, await request.read()))
        return await body({"accessDetails": DETAILS})(request)

    aws.will_answer(answer)
    client, _ = (await session.start())["eu-west-1"]
    await client.get_instance_access_details(instanceName="web-1", protocol="ssh")
    await wilful.access_details(instance(), Protocol.SSH)

    (method, path, their_body), (our_method, our_path, our_body) = sent
    assert (our_method, our_path) == (method, path)
    assert our_body == their_body.replace(b" ", b"")
    of_sdk, of_ours = (
        {name.lower(): value for name, value in headers.items() if name.lower() not in OF_ONE_CALL}
        for headers in aws.requests
    )
    assert of_sdk.pop("user-agent").startswith(of_ours.pop("user-agent"))
    assert of_ours == of_sdk
    theirs, ours = ({name.lower(): value for name, value in headers.items()} for headers in aws.requests)
    assert ours["authorization"].partition("Signature=")[0] == theirs["authorization"].partition("Signature=")[0]


async def test_waits_between_attempts_grow_and_are_never_the_same(aws: WilfulAws, session: AccountSession) -> None:
    aws.will_answer(error("ThrottlingException"))
    sleeper = Sleeper()
    minter = Minter(*(await session.start())["eu-west-1"], session.credentials, "broker", utc_now, sleeper)
    for _ in range(20):
        with pytest.raises(ClientError):
            await minter.mint("web-1", Protocol.SSH, Tally())
    first, second = sleeper.seconds[::2], sleeper.seconds[1::2]
    assert max(first) <= 1 < max(second) <= 2
    assert len(set(sleeper.seconds)) == len(sleeper.seconds) == 40


async def test_when_aws_refuses_everything_retries_end_and_come_back_with_good_answers(
    aws: WilfulAws, session: AccountSession
) -> None:
    aws.will_answer(error("ThrottlingException"))
    minter = Minter(*(await session.start())["eu-west-1"], session.credentials, "broker", utc_now, Sleeper())
    tally = Tally()
    for _ in range(60):
        with pytest.raises(ClientError):
            await minter.mint("web-1", Protocol.SSH, tally)
    assert tally.attempts == len(aws.requests) == 60 + 100

    good = body({"accessDetails": DETAILS})
    aws.will_answer(*(good for _ in range(5)), error("ThrottlingException"), good)
    for _ in range(6):
        assert await minter.mint("web-1", Protocol.SSH, Tally())
