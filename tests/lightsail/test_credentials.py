import asyncio
from datetime import timedelta

import pytest
from botocore.credentials import ReadOnlyCredentials

from broker.errors import BrokerError, UpstreamError
from broker.lightsail.credentials import Loaded, RenewableCredentials
from tests.doubles.lightsail import ManualClock


class Issuer:
    """Hands out credentials that hold for an hour, numbered."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.issued = 0
        self.asked = 0
        self.failure: Exception | None = None

    async def __call__(self) -> Loaded:
        self.asked += 1
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        self.issued += 1
        now = self.clock()
        return Loaded(ReadOnlyCredentials(f"key-{self.issued}", "secret", "token"), now, now + timedelta(hours=1))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def issuer(clock: ManualClock) -> Issuer:
    return Issuer(clock)


@pytest.fixture
def credentials(issuer: Issuer, clock: ManualClock) -> RenewableCredentials:
    return RenewableCredentials(issuer, clock)


async def key(credentials: RenewableCredentials) -> str:
    return str((await credentials.get_frozen_credentials()).access_key)


async def test_a_crowd_makes_one_call(credentials: RenewableCredentials, issuer: Issuer) -> None:
    assert set(await asyncio.gather(*(key(credentials) for _ in range(100)))) == {"key-1"}
    assert issuer.asked == 1


async def test_they_are_renewed_early_and_nobody_waits_for_it(
    credentials: RenewableCredentials, issuer: Issuer, clock: ManualClock
) -> None:
    await key(credentials)
    clock.pass_by(minutes=44)
    await key(credentials)
    await asyncio.sleep(0.01)
    assert issuer.asked == 1
    clock.pass_by(minutes=2)
    assert {await key(credentials) for _ in range(10)} == {"key-1"}
    await asyncio.sleep(0.01)
    assert await key(credentials) == "key-2"
    assert issuer.asked == 2


async def test_while_they_cannot_be_renewed_they_serve_until_their_end(
    credentials: RenewableCredentials, issuer: Issuer, clock: ManualClock
) -> None:
    await key(credentials)
    issuer.failure = OSError("the metadata service is down")
    for _ in range(13):
        clock.pass_by(minutes=4.5)
        assert await key(credentials) == "key-1"
        await asyncio.sleep(0.01)
    clock.pass_by(minutes=1.2)
    with pytest.raises(BrokerError):
        await key(credentials)
    issuer.failure = None
    clock.pass_by(seconds=6)
    assert await key(credentials) == "key-2"


async def test_a_failure_is_not_asked_for_again_by_every_caller(
    credentials: RenewableCredentials, issuer: Issuer, clock: ManualClock
) -> None:
    issuer.failure = UpstreamError("AssumeRole: AccessDenied", upstream_code="AccessDenied")
    for _ in range(50):
        with pytest.raises(UpstreamError):
            await key(credentials)
    assert issuer.asked == 1
    clock.pass_by(seconds=6)
    with pytest.raises(UpstreamError):
        await key(credentials)
    assert issuer.asked == 2


async def test_an_early_renewal_that_fails_is_left_alone_for_a_while(
    credentials: RenewableCredentials, issuer: Issuer, clock: ManualClock
) -> None:
    await key(credentials)
    issuer.failure = OSError("down")
    clock.pass_by(minutes=46)
    for _ in range(20):
        await key(credentials)
        await asyncio.sleep(0.001)
    assert issuer.asked == 2


async def test_what_was_discarded_is_renewed_once_however_many_discard_it(
    credentials: RenewableCredentials, issuer: Issuer
) -> None:
    seen = await credentials.ready()
    for _ in range(5):
        credentials.discard(seen)
        assert await key(credentials) == "key-2"
    assert issuer.asked == 2


async def test_a_waiter_that_leaves_takes_nobody_with_it(credentials: RenewableCredentials, issuer: Issuer) -> None:
    first = asyncio.create_task(key(credentials))
    second = asyncio.create_task(key(credentials))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == "key-1"
    assert issuer.asked == 1


async def test_their_text_shows_no_key(credentials: RenewableCredentials) -> None:
    loaded = await credentials.ready()
    assert "secret" not in repr(loaded) + repr(credentials)
