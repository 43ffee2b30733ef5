"""Callers of the embedded Lightsail: the unmodified SDK, and bare HTTP requests signed by botocore."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Self

import aioboto3
import aiohttp
from aiobotocore.config import AioConfig
from botocore.auth import SIGV4_TIMESTAMP, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from broker.emulator import Emulator

if TYPE_CHECKING:
    from types_aiobotocore_lightsail import LightsailClient
    from types_aiobotocore_sts import STSClient

KEY_ID = "AKIDEMULATOR"
SECRET = "emulator-secret"
REGION = "eu-west-1"
NO_RETRIES = AioConfig(retries={"mode": "standard", "total_max_attempts": 1})


@cache
def _session() -> aioboto3.Session:
    """Answer one session for all tests: it holds the models, whose loading takes most of the time."""
    return aioboto3.Session()


@asynccontextmanager
async def lightsail(
    emulator: Emulator, *, region: str = REGION, key_id: str = KEY_ID, secret: str = SECRET, token: str | None = None
) -> AsyncIterator[LightsailClient]:
    async with _session().client(
        "lightsail",
        endpoint_url=emulator.url,
        config=NO_RETRIES,
        region_name=region,
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        aws_session_token=token,
    ) as client:
        yield client


@asynccontextmanager
async def sts(
    emulator: Emulator, *, key_id: str = KEY_ID, secret: str = SECRET, token: str | None = None
) -> AsyncIterator[STSClient]:
    async with _session().client(
        "sts",
        endpoint_url=emulator.url,
        config=NO_RETRIES,
        region_name=REGION,
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        aws_session_token=token,
    ) as client:
        yield client


class Refusal:
    """What the SDK says to a refused call: `with Refusal() as refusal: …`, then its code and status."""

    def __init__(self) -> None:
        self.code = ""
        self.status = 0
        self.message = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        assert isinstance(error, ClientError), f"the call was not refused: {error!r}"
        self.code = error.response["Error"]["Code"]
        self.message = error.response["Error"]["Message"]
        self.status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        return True


class _Signer(SigV4Auth):
    """botocore's signer, at a time of our choosing."""

    def sign(self, request: AWSRequest, when: datetime) -> None:
        request.context["timestamp"] = when.strftime(SIGV4_TIMESTAMP)
        request.headers["X-Amz-Date"] = request.context["timestamp"]
        signature = self.signature(self.string_to_sign(request, self.canonical_request(request)), request)
        names = self.signed_headers(self.headers_to_sign(request))
        request.headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.scope(request)}, SignedHeaders={names}, Signature={signature}"
        )


def signed_headers(
    emulator: Emulator,
    body: bytes,
    headers: Mapping[str, str],
    when: datetime,
    *,
    service: str = "lightsail",
) -> dict[str, str]:
    """Answer the headers of a signed request."""
    request = AWSRequest("POST", f"{emulator.url}/", headers=dict(headers), data=body)
    _Signer(Credentials(KEY_ID, SECRET), service, REGION).sign(request, when)
    return dict(request.headers.items())


async def post(emulator: Emulator, body: bytes, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
    """Send a bare request; answer status, headers and body."""
    async with aiohttp.ClientSession() as session, session.post(emulator.url, data=body, headers=headers) as response:
        return response.status, response.headers, await response.read()
