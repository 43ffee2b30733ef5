"""A bucket of S3, or of a store that speaks it, whose objects nobody can remove before their time (object lock).

The key of an object begins with its size, inverted, so that the newest stands first in a list. What somebody hides by a
delete marker, or by a newer version, is found all the same: the list is of versions, and the oldest of a key counts.
"""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from botocore.exceptions import ClientError

from broker.errors import UpstreamError
from broker.lightsail.faults import error_code, translate
from broker.lightsail.quiet import silence_sdk_logging
from broker.lightsail.session import Account, AccountSession, Tuning, signed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import GetObjectRequestTypeDef, ListObjectVersionsRequestTypeDef

    from broker.model import Clock

_DIGITS: Final = 16
_MAX_PAGES: Final = 20
_THERE_ALREADY: Final = "PreconditionFailed"
_MAX_NOTE: Final = 64 * 1024

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Where the objects lie, how long nobody may remove one, and as whom it is written."""

    name: str
    region: str
    prefix: str = ""
    retention: timedelta = timedelta(days=365)
    role_arn: str = ""
    external_id: str = ""
    endpoint_url: str = ""

    @property
    def folder(self) -> str:
        """What every key begins with."""
        folder = self.prefix.strip("/")
        return f"{folder}/" if folder else ""

    def key(self, size: int) -> str:
        """Answer the key of the checkpoint of so many events."""
        return f"{self.folder}{10**_DIGITS - 1 - size:0{_DIGITS}d}-{size}.note"

    def is_key(self, key: str) -> bool:
        """Tell whether this is a key as `key` makes them."""
        size = re.search(r"-([0-9]{1,16})\.note$", key)
        return size is not None and self.key(int(size[1])) == key

    def fits(self, note: str, key: str) -> bool:
        """Tell whether a note claims the size for which the key stands."""
        size = re.match(r"[^\n]+\n([0-9]{1,16})\n", note)
        return size is not None and self.key(int(size[1])) == key


class ObjectStore:
    """Keeps notes as objects; none of them is ever overwritten."""

    def __init__(self, bucket: Bucket, client: S3Client, session: AccountSession, clock: Clock) -> None:
        self._bucket = bucket
        self._client = client
        self._session = session
        self._clock = clock

    async def newest(self) -> str | None:
        """Answer the note of the greatest size that was ever kept; None when there is none.

        If something else is at its place, that is said instead: no older note must pass for the newest.

        Raises:
            BrokerError: it cannot be read; the cause says why.
        """
        found = await self._call("ListObjectVersions", self._newest_version)
        if found is None:
            return None
        note = await self._call("GetObject", partial(self._read, *found))
        return note if self._bucket.fits(note, found[0]) else f"something else is at {found[0]}"

    async def add(self, size: int, note: str, after: int) -> None:
        """Keep a note until its time is over. That it is there already is as good.

        Raises:
            BrokerError: it cannot be written, or something else is there.
        """
        del after
        key = self._bucket.key(size)
        if await self._call("PutObject", partial(self._put, key, note.encode())):
            return
        if await self._call("GetObject", partial(self._read, key, "")) != note:
            raise UpstreamError("PutObject: something else is at the place of the checkpoint")

    async def _newest_version(self) -> tuple[str, str] | None:
        """Answer key and id of the oldest version of the first key that is ours."""
        request: ListObjectVersionsRequestTypeDef = {"Bucket": self._bucket.name, "Prefix": self._bucket.folder}
        found: tuple[str, str] | None = None
        for _ in range(_MAX_PAGES):
            page = await self._client.list_object_versions(**request)
            for version in page.get("Versions", ()):
                key = version["Key"]
                if found and key != found[0]:
                    return found
                if self._bucket.is_key(key):
                    found = key, version["VersionId"]  # versions of one key come newest first
            if not page.get("IsTruncated"):
                return found
            request |= {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}
        raise UpstreamError("ListObjectVersions: too much lies there that is no checkpoint")

    async def _read(self, key: str, version: str) -> str:
        request: GetObjectRequestTypeDef = {"Bucket": self._bucket.name, "Key": key}
        if version:
            request["VersionId"] = version
        answer = await self._client.get_object(**request)
        async with answer["Body"] as body:
            if answer["ContentLength"] > _MAX_NOTE:
                raise UpstreamError("GetObject: this is no checkpoint")
            return (await body.read()).decode(errors="replace")

    async def _put(self, key: str, body: bytes) -> bool:
        """Write an object; False when there is one already."""
        try:
            await self._client.put_object(
                Bucket=self._bucket.name,
                Key=key,
                Body=body,
                ContentType="text/plain; charset=utf-8",
                ChecksumAlgorithm="SHA256",
                IfNoneMatch="*",
                ObjectLockMode="COMPLIANCE",
                ObjectLockRetainUntilDate=self._clock() + self._bucket.retention,
            )
        except ClientError as failure:
            if error_code(failure) == _THERE_ALREADY:
                return False
            raise
        return True

    async def _call(self, operation: str, call: Callable[[], Awaitable[Answer]]) -> Answer:
        try:
            return await signed(self._session.credentials, call)
        except Exception as failure:
            raise translate(failure, operation) from failure


@asynccontextmanager
async def object_store(bucket: Bucket, clock: Clock) -> AsyncIterator[ObjectStore]:
    """Open the way to a bucket, alive as long as the context. Nothing is sent yet."""
    silence_sdk_logging()
    account = Account(
        name=bucket.name,
        regions=(bucket.region,),
        role_arn=bucket.role_arn,
        external_id=bucket.external_id,
        endpoint_url=bucket.endpoint_url,
    )
    session = AccountSession(account, Tuning(), clock)
    try:
        yield ObjectStore(bucket, await session.start_object_store(), session, clock)
    finally:
        await session.close()
