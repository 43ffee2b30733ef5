import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from broker.identity import keysets
from broker.identity.authenticator import Authenticator
from broker.identity.keysets import KeyCache, KeyRing, Pace
from tests.doubles.identity import (
    CORP,
    Mint,
    ScriptedSource,
    SigningKey,
    StillClock,
    accepted,
    cause_of,
    key_set_document,
    unreachable,
)


class Seconds:
    """A monotonic clock that moves only when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class HeldUp(ScriptedSource):
    """A source that hangs until its gate is opened."""

    def __init__(self, answer: bytes | Exception) -> None:
        super().__init__(answer)
        self.gate.clear()


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def source(rsa_key: SigningKey) -> ScriptedSource:
    return ScriptedSource(key_set_document(rsa_key))


@pytest.fixture
async def cache(source: ScriptedSource, seconds: Seconds) -> AsyncIterator[KeyCache]:
    cache = KeyCache("corp", source, Pace(), seconds)
    yield cache
    await cache.close()


async def knows(cache: KeyCache, key_id: str | None) -> bool:
    keys = await cache.for_token(key_id)
    return keys is not None and keys.find(key_id) is not None


async def test_a_thousand_callers_at_a_cold_cache_cause_one_fetch(rsa_key: SigningKey, seconds: Seconds) -> None:
    source = HeldUp(key_set_document(rsa_key))
    cache = KeyCache("corp", source, Pace(), seconds)
    waiting = [asyncio.create_task(knows(cache, "rsa-1")) for _ in range(1000)]
    await asyncio.sleep(0.01)
    source.gate.set()
    assert all(await asyncio.gather(*waiting))
    assert source.loads == 1


async def test_a_thousand_callers_under_a_brand_new_key_cause_one_fetch(
    cache: KeyCache, source: ScriptedSource, ec_key: SigningKey
) -> None:
    assert await knows(cache, "rsa-1")
    cache._asked_at = float("-inf")  # noqa: SLF001 - as if the cool-down had passed
    source.answer = key_set_document(ec_key)
    assert all(await asyncio.gather(*(knows(cache, "ec-1") for _ in range(1000))))
    assert source.loads == 2


async def test_a_cancelled_caller_does_not_cancel_the_fetch_for_the_others(rsa_key: SigningKey) -> None:
    source = HeldUp(key_set_document(rsa_key))
    cache = KeyCache("corp", source, Pace())
    first, second = (asyncio.create_task(knows(cache, "rsa-1")) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.sleep(0)
    source.gate.set()
    assert await second
    assert first.cancelled()
    assert source.loads == 1


async def test_a_flood_of_unknown_key_ids_causes_one_fetch_per_cool_down(
    cache: KeyCache, source: ScriptedSource, seconds: Seconds
) -> None:
    assert await knows(cache, "rsa-1")
    for number in range(500):
        assert not await knows(cache, f"random-{number}")
    assert source.loads == 1
    seconds.now += 30
    for number in range(500):
        assert not await knows(cache, f"random-{number}")
    assert source.loads == 2


async def test_a_flood_cannot_starve_the_scheduled_refresh(
    source: ScriptedSource, ec_key: SigningKey, seconds: Seconds
) -> None:
    cache = KeyCache("corp", source, Pace(usual=0.02, shortest=0.02, longest=0.02), seconds)
    cache.start()
    for number in range(20):
        await knows(cache, f"random-{number}")
    source.answer = key_set_document(ec_key)
    deadline = time.monotonic() + 10
    while not await knows(cache, "ec-1"):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)
    assert not await knows(cache, "rsa-1")
    await cache.close()


async def test_the_same_unknown_key_id_is_asked_for_less_often_than_others(
    cache: KeyCache, source: ScriptedSource, seconds: Seconds
) -> None:
    assert not await knows(cache, "withdrawn")
    seconds.now += 31
    assert not await knows(cache, "withdrawn")
    assert source.loads == 1
    assert not await knows(cache, "another")
    assert source.loads == 2
    seconds.now += 31
    assert not await knows(cache, "withdrawn")
    assert source.loads == 3


async def test_the_memory_for_unknown_key_ids_is_bounded(source: ScriptedSource) -> None:
    cache = KeyCache("corp", source, Pace(cooldown=0.0))
    limit = keysets._MAX_UNKNOWN  # noqa: SLF001 - the bound itself is what is tested
    await cache.refresh()
    for number in range(0, limit + 200, 100):
        await asyncio.gather(*(knows(cache, f"random-{number + step}") for step in range(100)))
    assert len(cache._unknown) <= limit  # noqa: SLF001 - same


async def test_an_unknown_key_id_is_not_held_against_a_token_while_the_issuer_is_down(
    cache: KeyCache, source: ScriptedSource, ec_key: SigningKey, seconds: Seconds
) -> None:
    await cache.refresh()
    source.answer = unreachable()
    assert not await knows(cache, "ec-1")
    source.answer = key_set_document(ec_key)
    seconds.now += 31
    assert await knows(cache, "ec-1")


async def test_the_last_good_set_outlives_an_outage_for_a_day(
    cache: KeyCache, source: ScriptedSource, seconds: Seconds
) -> None:
    await cache.refresh()
    source.answer = unreachable()
    for hours in (1, 22.9):
        seconds.now += hours * 3600
        await cache.refresh()
        assert await knows(cache, "rsa-1")
    assert "last fetch failed (ClientConnectorError)" in cache.trouble
    seconds.now += 3600
    assert cache.current is None
    assert not await knows(cache, "rsa-1")
    assert cache.trouble == "no keys (ClientConnectorError)"


async def test_a_bad_document_keeps_the_last_good_set(
    cache: KeyCache, source: ScriptedSource, rsa_key: SigningKey
) -> None:
    await cache.refresh()
    good = cache.current
    for bad in (b"", b"null", b"[]", b"<html>", b'{"keys":[]}', key_set_document(rsa_key)[:-9]):
        source.answer = bad
        await cache.refresh()
        assert cache.current is good
        assert cache.trouble
    source.answer = key_set_document(rsa_key)
    await cache.refresh()
    assert cache.current is good, "the same document is the same set"
    assert not cache.trouble


async def test_what_nobody_foresaw_neither_ends_the_schedule_nor_reaches_a_caller(
    cache: KeyCache, source: ScriptedSource
) -> None:
    source.answer = RecursionError("deep")
    assert await cache.for_token("rsa-1") is None
    assert cache.trouble == "no keys (RecursionError)"


async def test_a_schedule_that_was_killed_is_started_again(source: ScriptedSource) -> None:
    cache = KeyCache("corp", source, Pace(usual=0.02, shortest=0.02, longest=0.02))
    cache.start()
    await asyncio.sleep(0.005)
    assert cache._schedule is not None  # noqa: SLF001 - killed on purpose
    cache._schedule.cancel()  # noqa: SLF001 - same
    await asyncio.sleep(0.005)
    assert await knows(cache, "rsa-1")
    loads = source.loads
    deadline = time.monotonic() + 10
    while source.loads == loads:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)
    await cache.close()


@pytest.mark.parametrize(
    ("max_age", "pause"), [(None, 150), (0, 30), (-50, 30), (60, 30), (600, 300), (3600, 1800), (315_360_000, 1800)]
)
async def test_the_pause_is_half_of_what_the_sender_allows_within_a_minute_and_an_hour(
    cache: KeyCache, source: ScriptedSource, max_age: int | None, pause: float
) -> None:
    source.max_age = max_age
    await cache.refresh()
    assert cache._pause() == pause  # noqa: SLF001 - waiting for it would take half an hour


async def test_after_failures_it_tries_again_soon_and_then_every_cool_down(source: ScriptedSource) -> None:
    cache = KeyCache("corp", source, Pace())
    source.answer = unreachable()
    pauses = []
    for _ in range(8):
        await cache.refresh()
        pauses.append(cache._pause())  # noqa: SLF001 - waiting for them would take minutes
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]


async def test_a_source_that_hangs_is_given_up(rsa_key: SigningKey) -> None:
    cache = KeyCache("corp", HeldUp(key_set_document(rsa_key)), Pace(patience=0.02))
    assert await cache.for_token("rsa-1") is None
    assert cache.trouble == "no keys (timeout)"


async def test_other_material_under_a_key_id_in_use_is_told_in_the_log(
    cache: KeyCache, source: ScriptedSource, caplog: pytest.LogCaptureFixture
) -> None:
    await cache.refresh()
    source.answer = key_set_document(SigningKey("RS256", "rsa-1", generation=1).jwk(), {"kty": "oct"})
    await cache.refresh()
    assert "other key material under a key id in use" in caplog.text
    assert "{'symmetric': 1}" in caplog.text


class TestKeysInAFile:
    @pytest.fixture
    async def path(self, tmp_path: Path, rsa_key: SigningKey) -> Path:
        path = tmp_path / "jwks.json"
        path.write_bytes(key_set_document(rsa_key))
        return path

    async def test_a_new_file_is_taken_at_once_and_a_withdrawn_key_is_gone(
        self, path: Path, mint: Mint, ec_key: SigningKey, clock: StillClock
    ) -> None:
        issuer = replace(CORP, jwks_file=path)
        ring = KeyRing([issuer])
        door = Authenticator([issuer], ring, clock)
        await door.start()
        old = mint.token()
        await accepted(door, old)
        await asyncio.to_thread(path.write_bytes, key_set_document(ec_key))
        await ring.refresh()
        await accepted(door, Mint(clock, ec_key).token())
        assert await cause_of(door, old) == "unknown_key"
        await door.close()

    async def test_a_missing_or_broken_file_shows_in_health_and_stops_nothing(
        self, path: Path, mint: Mint, clock: StillClock
    ) -> None:
        issuer = replace(CORP, jwks_file=path)
        ring = KeyRing([issuer])
        good = await asyncio.to_thread(path.read_bytes)
        await asyncio.to_thread(path.unlink)
        door = Authenticator([issuer], ring, clock)
        await door.start()
        assert (door.health().ready, door.health().detail) == (
            False,
            f"corp: no keys ({path.name}: No such file or directory)",
        )
        assert await cause_of(door, mint.token()) == "keys_unavailable"
        await asyncio.to_thread(path.write_bytes, good)
        await ring.refresh()
        await accepted(door, mint.token())
        await asyncio.to_thread(path.write_bytes, good[:50])
        await ring.refresh()
        await accepted(door, mint.token())
        assert door.health().ready
        assert "last fetch failed" in door.health().detail
        await door.close()
