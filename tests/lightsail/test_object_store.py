"""A bucket as an anchor, against moto's S3: locked objects, the newest with one call, and nothing hides it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import aioboto3
import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer
from types_aiobotocore_s3 import S3Client

from broker.errors import BrokerError, UpstreamError, UpstreamUnavailable
from broker.lightsail.object_store import Bucket, ObjectStore, object_store

REGION: Final = "eu-west-1"


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
async def client(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[S3Client]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDTEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
    async with aioboto3.Session().client("s3", REGION, endpoint_url=endpoint) as opened:
        yield opened


@pytest.fixture
async def bucket(endpoint: str, client: S3Client, request: pytest.FixtureRequest) -> Bucket:
    name = f"anchors-{abs(hash(request.node.name)):x}"
    await client.create_bucket(
        Bucket=name,
        ObjectLockEnabledForBucket=True,
        CreateBucketConfiguration={"LocationConstraint": REGION},
    )
    return Bucket(name=name, region=REGION, prefix="/broker/", endpoint_url=endpoint)


@asynccontextmanager
async def stored(bucket: Bucket, *sizes: int) -> AsyncIterator[ObjectStore]:
    async with object_store(bucket, now) as store:
        for size in sizes:
            await store.add(size, note(size), 0)
        yield store


def note(size: int) -> str:
    return f"broker.example.com/audit\n{size}\nAAAA\n\n\u2014 broker.example.com/audit AAAA\n"


async def test_an_empty_bucket_holds_no_note(bucket: Bucket) -> None:
    async with stored(bucket) as store:
        assert await store.newest() is None


async def test_the_newest_note_stands_first(bucket: Bucket, client: S3Client) -> None:
    async with stored(bucket, 1, 9, 10, 123_456) as store:
        assert await store.newest() == note(123456)
    listed = await client.list_objects_v2(Bucket=bucket.name, MaxKeys=1)
    assert listed["Contents"][0]["Key"] == "broker/9999999999876543-123456.note"


async def test_nobody_can_remove_a_note_before_its_time(bucket: Bucket, client: S3Client) -> None:
    async with stored(bucket, 5):
        kept = await client.head_object(Bucket=bucket.name, Key=bucket.key(5))
    assert kept["ObjectLockMode"] == "COMPLIANCE"
    assert abs(kept["ObjectLockRetainUntilDate"] - now() - timedelta(days=365)) < timedelta(minutes=5)
    with pytest.raises(ClientError, match="AccessDenied"):
        await client.delete_object(Bucket=bucket.name, Key=bucket.key(5), VersionId=kept["VersionId"])


@pytest.mark.parametrize("how", ["delete marker", "newer version", "junk beside it"])
async def test_a_note_that_somebody_hides_is_found(bucket: Bucket, client: S3Client, how: str) -> None:
    async with stored(bucket, 5, 8) as store:
        match how:
            case "delete marker":
                await client.delete_object(Bucket=bucket.name, Key=bucket.key(8))
            case "newer version":
                await client.put_object(Bucket=bucket.name, Key=bucket.key(8), Body=b"junk")
            case _:
                await client.put_object(Bucket=bucket.name, Key="broker/0000.note", Body=b"junk")
                await client.put_object(Bucket=bucket.name, Key="broker/0000000000000000-8.note", Body=b"junk")
        assert await store.newest() == note(8)


async def test_a_note_that_is_there_already_is_as_good_and_another_is_not(bucket: Bucket, client: S3Client) -> None:
    async with stored(bucket, 5) as store:
        await store.add(5, note(5), 0)
        with pytest.raises(UpstreamError, match="something else is at the place"):
            await store.add(5, "another note\n", 0)
    versions = await client.list_object_versions(Bucket=bucket.name)
    assert len(versions["Versions"]) == 1


async def test_a_bucket_that_is_not_there_is_named_as_a_fault(endpoint: str, client: S3Client) -> None:
    del client
    missing = Bucket(name="no-such-bucket", region=REGION, endpoint_url=endpoint)
    async with object_store(missing, now) as store:
        with pytest.raises(BrokerError) as told:
            await store.add(5, "note\n", 0)
        assert "NoSuchBucket" in told.value.cause
        with pytest.raises(BrokerError):
            await store.newest()


async def test_a_store_that_is_down_is_out_of_reach(client: S3Client) -> None:
    del client
    async with object_store(Bucket(name="b", region=REGION, endpoint_url="http://127.0.0.1:9"), now) as store:
        with pytest.raises(UpstreamUnavailable):
            await store.newest()


async def test_it_assumes_the_role_that_stands_in_the_settings(bucket: Bucket, client: S3Client) -> None:
    role = Bucket(
        name=bucket.name,
        region=REGION,
        endpoint_url=bucket.endpoint_url,
        role_arn="arn:aws:iam::123456789012:role/anchors",
        external_id="anchors",
    )
    async with stored(role, 3) as store:
        assert await store.newest() == note(3)
    assert (await client.head_object(Bucket=bucket.name, Key=role.key(3)))["ContentLength"] == len(note(3).encode())


async def test_an_older_note_at_the_place_of_a_newer_one_does_not_pass_for_the_newest(
    bucket: Bucket, client: S3Client
) -> None:
    async with stored(bucket, 5, 8) as store:
        await client.put_object(Bucket=bucket.name, Key=bucket.key(99), Body=note(5).encode())
        assert await store.newest() == "something else is at broker/9999999999999900-99.note"


async def test_logs_with_other_prefixes_in_one_bucket_do_not_meet(bucket: Bucket) -> None:
    for prefix in ("broker2", "broker/prod", ""):
        async with stored(replace(bucket, prefix=prefix), 9):
            pass
    async with stored(bucket) as store:
        assert await store.newest() is None


async def test_what_is_too_large_for_a_checkpoint_is_not_read(bucket: Bucket, client: S3Client) -> None:
    async with stored(bucket) as store:
        await client.put_object(Bucket=bucket.name, Key=bucket.key(9), Body=b"x" * 100_000)
        with pytest.raises(UpstreamError, match="no checkpoint"):
            await store.newest()


@given(*[st.integers(min_value=0, max_value=10**16 - 1)] * 2)
def test_keys_stand_in_the_order_of_their_sizes_the_greatest_first(one: int, other: int) -> None:
    bucket = Bucket(name="b", region=REGION, prefix="p")
    assert (bucket.key(one) < bucket.key(other)) == (one > other)
    assert bucket.is_key(bucket.key(one))
    assert bucket.fits(note(one), bucket.key(other)) == (one == other)
