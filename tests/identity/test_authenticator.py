import logging
import traceback
from dataclasses import replace
from datetime import timedelta

import pytest

from broker.errors import InvalidToken
from broker.identity import authenticator
from broker.identity.authenticator import Authenticator
from broker.identity.faults import Fault
from broker.identity.keys import KeySet
from broker.model import Presented
from tests.doubles.identity import (
    CORP,
    CallersByToken,
    HeldKeys,
    Mint,
    SigningKey,
    StillClock,
    accepted,
    bearer,
    cause_of,
)


@pytest.fixture
def counted(mint: Mint) -> HeldKeys:
    return HeldKeys(mint.key)


@pytest.fixture
def counting_door(counted: HeldKeys, clock: StillClock) -> Authenticator:
    return Authenticator([CORP], counted, clock)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
async def test_the_scheme_is_bearer_in_any_case(door: Authenticator, mint: Mint, scheme: str) -> None:
    assert str(await door.authenticate(Presented(authorization=(f"{scheme} {mint.token()}",)))) == "corp/alice"


async def test_the_header_holds_one_token_after_one_space_and_nothing_else(door: Authenticator, mint: Mint) -> None:
    token = mint.token()
    good = f"Bearer {token}"
    bad = [
        [good, good],
        [good, ""],
        [""],
        ["Bearer"],
        ["Bearer "],
        [token],
        [f"Bearer  {token}"],
        [f"Bearer\t{token}"],
        [f" {good}"],
        [f"{good} "],
        [f"{good}, {good}"],
        [f"Basic {token}"],
        [f"Bearer:{token}"],
        [f'Bearer token="{token}"'],
        [f"Bearer\u00a0{token}"],
        [f"Bear\u0435r {token}"],
        [f"{good}\udcff"],
        [f"{good}\n"],
        [f"{good}\x00"],
    ]
    for values in bad:
        with pytest.raises(InvalidToken) as refusal:
            await door.authenticate(Presented(authorization=tuple(values)))
        assert refusal.value.cause in {"bad_authorization", "malformed"}
    with pytest.raises(InvalidToken, match="missing"):
        await door.authenticate(Presented())


async def test_refusals_are_counted_by_cause_until_they_are_drained(door: Authenticator, mint: Mint) -> None:
    for _ in range(3):
        await cause_of(door, mint.token(aud="other"))
    await cause_of(door, "x")
    await accepted(door, mint.token())
    assert door.drain_failures() == {"wrong_audience": 3, "malformed": 1}
    assert door.drain_failures() == {}


async def test_every_cause_is_one_of_the_listed_words(door: Authenticator, mint: Mint) -> None:
    hostile = ["", "x", mint.token({"alg": "none"}), mint.token({"kid": "no"}), mint.token(exp=1), mint.token(iss="x")]
    for token in hostile:
        await cause_of(door, token)
    assert set(door.drain_failures()) <= {fault.value for fault in Fault}


async def test_all_refusals_look_the_same_outside_and_show_nothing_of_the_token(
    door: Authenticator, mint: Mint, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    faces = set()
    tokens = [
        mint.token(sub="s3cret-name", aud="x"),
        mint.raw(b'{"alg":"RS256"}', b'{"sub":"s3cret-name",}'),
        "s3cret-name",
    ]
    for token in tokens:
        with pytest.raises(InvalidToken) as refusal:
            await door.authenticate(bearer(token))
        fault = refusal.value
        faces.add((fault.code, fault.detail, fault.next_step, fault.retry_after))
        told = "".join(traceback.format_exception(fault)) + repr(vars(fault)) + repr(fault.__context__) + caplog.text
        assert "s3cret" not in told
        assert token[:20] not in told
        assert not hasattr(fault.__context__, "doc")
    assert len(faces) == 1


async def test_uses_of_one_token_share_its_id_and_other_tokens_do_not(door: Authenticator, mint: Mint) -> None:
    first, second = mint.token(jti="1"), mint.token(jti="2")
    ids = [(await accepted(door, token)).token_id for token in (first, first, second)]
    assert ids[0] == ids[1] != ids[2]
    assert ids[0] not in first


async def test_a_verified_token_is_not_verified_again_for_a_minute(
    counting_door: Authenticator, counted: HeldKeys, mint: Mint, clock: StillClock
) -> None:
    token = mint.token()
    for seconds, verifications in [(0, 1), (59, 1), (1, 2), (30, 2), (30, 3)]:
        clock.forward(seconds=seconds)
        await accepted(counting_door, token)
        assert counted.asked == verifications


async def test_a_remembered_token_ends_with_its_exp(
    counting_door: Authenticator, mint: Mint, clock: StillClock
) -> None:
    token = mint.token(exp=int(clock().timestamp()) + 20)
    await accepted(counting_door, token)
    clock.forward(seconds=50)
    assert await cause_of(counting_door, token) == "expired"


async def test_a_remembered_token_ends_with_its_max_age(counted: HeldKeys, mint: Mint, clock: StillClock) -> None:
    door = Authenticator([replace(CORP, max_token_age=timedelta(seconds=10))], counted, clock)
    token = mint.token()
    await accepted(door, token)
    clock.forward(seconds=40)
    assert await cause_of(door, token) == "too_old"


async def test_a_remembered_token_ends_with_the_key_set(
    counting_door: Authenticator, counted: HeldKeys, mint: Mint
) -> None:
    token = mint.token()
    await accepted(counting_door, token)
    counted.replace(SigningKey("RS256", "rsa-2", generation=1))
    assert await cause_of(counting_door, token) == "unknown_key"
    counted.replace()
    assert await cause_of(counting_door, token) == "keys_unavailable"


class SlowKeys(HeldKeys):
    """Keys that take an hour to come, of which the clock knows."""

    def __init__(self, key: SigningKey, clock: StillClock) -> None:
        super().__init__(key)
        self.clock = clock

    async def for_token(self, issuer: str, key_id: str | None) -> KeySet | None:
        self.clock.forward(hours=1)
        return await super().for_token(issuer, key_id)


async def test_a_token_that_expires_while_its_keys_are_fetched_is_expired(mint: Mint, clock: StillClock) -> None:
    assert await cause_of(Authenticator([CORP], SlowKeys(mint.key, clock), clock), mint.token()) == "expired"


@pytest.mark.parametrize(("hours", "cause"), [(2, "expired"), (-2, "not_yet_valid")])
async def test_a_jump_of_the_clock_does_not_carry_a_remembered_token_along(
    counting_door: Authenticator, mint: Mint, clock: StillClock, hours: int, cause: str
) -> None:
    token = mint.token()
    await accepted(counting_door, token)
    clock.forward(hours=hours)
    assert await cause_of(counting_door, token) == cause


async def test_refused_tokens_are_not_remembered_and_verified_ones_are_bounded(
    counting_door: Authenticator, ed_key: SigningKey, counted: HeldKeys, clock: StillClock
) -> None:
    counted.replace(ed_key)
    mint = Mint(clock, ed_key)
    first = mint.token(jti="first")
    await accepted(counting_door, first)
    for number in range(authenticator._MAX_REMEMBERED):  # noqa: SLF001 - the bound itself is what is tested
        await cause_of(counting_door, mint.token(jti=str(number), aud="x")) if number < 50 else None
        await accepted(counting_door, mint.token(jti=str(number)))
    assert len(counting_door._verified) == authenticator._MAX_REMEMBERED  # noqa: SLF001 - same
    verified_before = counted.asked
    await accepted(counting_door, first)
    assert counted.asked == verified_before + 1


def test_two_issuers_cannot_share_a_name_or_an_identifier(keys: HeldKeys) -> None:
    for twin in (replace(CORP, name="other"), replace(CORP, issuer="https://other.example.com")):
        with pytest.raises(ValueError, match="share"):
            Authenticator([CORP, twin], keys)


async def test_the_double_for_other_rooms_behaves_like_the_door(door: Authenticator, mint: Mint) -> None:
    token = mint.token()
    double = CallersByToken({token: await accepted(door, token)})
    assert await double.authenticate(Presented(authorization=(f"bearer {token}",))) == await accepted(door, token)
    for values in ([], [f"Bearer {token}x"], [f"Bearer {token}"] * 2):
        with pytest.raises(InvalidToken):
            await double.authenticate(Presented(authorization=tuple(values)))
    assert double.health().component == door.health().component


async def test_only_a_token_that_held_a_moment_ago_is_known(door: Authenticator, mint: Mint) -> None:
    token = mint.token()
    assert not door.is_known(bearer(token))
    await accepted(door, token)
    assert door.is_known(bearer(token))
    assert not door.is_known(bearer(mint.token(sub="bob")))
    assert not door.is_known(bearer(token + "x"))
    for odd in ((), ("",), (f"Basic {token}",), (f"Bearer {token}", f"Bearer {token}")):
        assert not door.is_known(Presented(authorization=odd))


async def test_who_was_refused_elsewhere_is_counted_too(door: Authenticator, mint: Mint) -> None:
    door.count_failure("too_many_failures")
    await cause_of(door, mint.token(aud="another"))
    assert door.drain_failures() == {"too_many_failures": 1, "wrong_audience": 1}
