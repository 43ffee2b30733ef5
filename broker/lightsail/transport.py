"""How bytes go to AWS and back: aiobotocore's own HTTP session, with a bound on answers and without redirects."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import aiohttp
from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.httpsession import AIOHTTPSession
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from botocore.awsrequest import AWSPreparedRequest

MAX_ANSWER_BYTES = 8 * 1024 * 1024
"""A page of a list takes some hundred KiB; whatever sends more is not Lightsail."""


class AnswerTooLarge(Exception):
    """The body is longer than MAX_ANSWER_BYTES. Not one of botocore's, so it is not asked for again."""


class Redirected(Exception):
    """The answer came from another address than the one that was asked."""


class BoundedHttpSession(AIOHTTPSession):
    """Plugs into aiobotocore by its `http_session_cls` option, next to the two that it ships."""

    async def send(  # type: ignore[override]  # the stub's types are not those that aiobotocore passes
        self, request: AWSPreparedRequest
    ) -> AioAWSResponse:
        """Send one signed request and read its answer, as the base class does but for the bounds."""
        response, body = await self.exchange(request)
        response.raw = _Body(body)
        return response

    async def exchange(
        self, request: AWSPreparedRequest, note: Callable[[Mapping[str, str]], None] | None = None
    ) -> tuple[AioAWSResponse, bytes]:
        """Send one signed request; answer the answer and its body.

        `note` is told the answer's headers before its body is read, which may fail.
        """
        request.stream_output = True  # leaves the body for us to read
        response = await super().send(request)  # type: ignore[arg-type]  # as above
        raw = cast("aiohttp.ClientResponse", response.raw)
        if note:
            note(raw.headers)
        try:
            body = await _read(raw)
        except TimeoutError as failure:
            raise ReadTimeoutError(endpoint_url=request.url, error=failure) from failure
        except aiohttp.ClientError as failure:
            raise ConnectionClosedError(endpoint_url=request.url, error=failure) from failure
        finally:
            raw.close()  # does nothing to a connection that went back to the pool at the end of the body
        return cast("AioAWSResponse", response), body  # as above


async def _read(raw: aiohttp.ClientResponse) -> bytes:
    if raw.history:
        raise Redirected
    body = bytearray()
    async for chunk in raw.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise AnswerTooLarge
    return bytes(body)


class _Body:
    """A body that was read, in the shape in which AioAWSResponse reads it again."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self) -> bytes:
        return self._body
