"""How often one may come: each caller, and each address from which nonsense comes."""

from __future__ import annotations

import asyncio

import pytest

from broker.errors import AuditUnavailable, InvalidToken, RateLimited
from broker.identity.faults import Fault
from broker.model import Caller, Presented, Source
from broker.web.doors import Admission, Doors
from broker.web.rates import Buckets, Rate, RateLimit, SharedRateLimit, network_of
from tests.doubles.issuing import CALLER, NOW, Padlocks
from tests.doubles.web import ListedTokens, MemoryTally


def caller(subject: str) -> Caller:
    return Caller(issuer="corp", subject=subject, kind="user", token_expires_at=NOW)


async def admitted(rate: Rate, times: int) -> int:
    count = 0
    for _ in range(times):
        try:
            await rate.spend(CALLER)
        except RateLimited:
            continue
        count += 1
    return count


async def test_a_caller_may_spend_a_minute_at_once_and_then_one_each_interval() -> None:
    now = [0.0]
    rate = RateLimit(6, lambda: now[0])
    assert await admitted(rate, 6) == 6
    with pytest.raises(RateLimited) as refused:
        await rate.spend(CALLER)
    assert refused.value.retry_after is not None
    now[0] += refused.value.retry_after
    assert await admitted(rate, 2) == 1
    now[0] += 60
    assert await admitted(rate, 7) == 6


async def test_one_caller_s_haste_is_not_another_s() -> None:
    rate = RateLimit(1, lambda: 0.0)
    await rate.spend(caller("alice"))
    await rate.spend(caller("bob"))
    with pytest.raises(RateLimited):
        await rate.spend(caller("alice"))


async def test_two_brokers_count_together() -> None:
    now = [0.0]
    tally = MemoryTally(lambda: now[0])
    first, second = (SharedRateLimit(6, tally, lambda: now[0]) for _ in range(2))
    assert await admitted(first, 4) + await admitted(second, 4) == 6
    with pytest.raises(RateLimited) as refused:
        await second.spend(CALLER)
    assert refused.value.retry_after == 10
    now[0] += 10
    assert await admitted(second, 2) == 1


async def test_without_the_database_each_counts_by_itself_and_asks_again_later() -> None:
    now = [0.0]
    tally = MemoryTally(lambda: now[0])
    first, second = (SharedRateLimit(6, tally, lambda: now[0]) for _ in range(2))
    tally.error = AuditUnavailable("the database is away")
    assert await admitted(first, 10) == 6
    assert await admitted(second, 10) == 6
    assert tally.asked == 2
    tally.error = None
    now[0] += 60
    assert await admitted(first, 4) + await admitted(second, 4) == 6


async def test_a_database_that_hangs_holds_up_one_request_and_not_the_next() -> None:
    tally = MemoryTally(lambda: 0.0)
    tally.hangs = True
    rate = SharedRateLimit(6, tally, lambda: 0.0)
    async with asyncio.timeout(5):
        assert await admitted(rate, 10) == 6
    assert tally.asked == 1


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::", "2001:db8:1:2::"),
        ("2001:db8:1:3::1", "2001:db8:1:3::"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("fe80::1%eth0", "fe80::"),
        ("nobody", "nobody"),
    ],
)
def test_a_host_with_a_whole_network_is_one_stranger(address: str, network: str) -> None:
    assert network_of(address) == network


def doors(strangers: Buckets, tokens: ListedTokens) -> Doors:
    return Doors(tokens, RateLimit(1000), Padlocks(), Admission(8), strangers=strangers)


async def knock(at: Doors, token: str, address: str) -> str:
    presented = Presented(authorization=(f"Bearer {token}",))
    try:
        return (await at.admit(presented, Source(ip=address, user_agent=""), "r" * 32, "/v1/whoami")).subject
    except (InvalidToken, RateLimited) as refused:
        return refused.code


async def test_from_where_too_much_was_refused_only_tokens_are_looked_at_that_held_before() -> None:
    now = [0.0]
    tokens = ListedTokens({"good": CALLER})
    at = doors(Buckets(3, lambda: now[0]), tokens)
    heard = [await knock(at, f"forged-{n}", f"2001:db8::{n}") for n in range(5)]  # one host, five addresses
    assert heard == ["invalid_token"] * 3 + ["rate_limited"] * 2
    assert tokens.failures == {Fault.TOO_MANY_FAILURES: 2}
    assert await knock(at, "good", "2001:db8::9") == CALLER.subject
    assert await knock(at, "forged", "2001:db8:0:1::1") == "invalid_token"  # a neighbour is another one
    now[0] += 20
    assert await knock(at, "forged", "2001:db8::1") == "invalid_token"


async def test_an_issuer_out_of_reach_is_held_against_nobody() -> None:
    tokens = ListedTokens({})
    for cause in (Fault.KEYS_UNAVAILABLE, Fault.NONCE_NEEDED):
        tokens.cause = cause.value
        at = doors(Buckets(1, lambda: 0.0), tokens)
        assert {await knock(at, "any", "203.0.113.7") for _ in range(5)} == {"invalid_token"}
