"""The way to AWS KMS, for a master key that never leaves it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aioboto3

from broker.lightsail.quiet import silence_sdk_logging
from broker.lightsail.session import Tuning, bare_session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from types_aiobotocore_kms import KMSClient


@asynccontextmanager
async def key_service(region: str, endpoint_url: str = "") -> AsyncIterator[KMSClient]:
    """Answer a client of KMS in one region, alive as long as the context; `endpoint_url` is a test server's."""
    silence_sdk_logging()
    session = aioboto3.Session(botocore_session=bare_session(Tuning().config()))
    async with session.client("kms", region, endpoint_url=endpoint_url or None) as client:
        yield client
