"""The one call that mints, GetInstanceAccessDetails: every attempt stands here, and none follows one that was served.

It goes with the SDK's credentials, over the connections of the SDK's own client, by the names in the SDK's model of
Lightsail; what it leaves out is the machinery between them, which hides how often a call is sent and takes three times
as long as the call. Lists go through the client as usual.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import orjson
from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import ClientError
from botocore.parsers import create_parser
from botocore.retries.quota import RetryQuota

from broker.errors import BrokerError
from broker.lightsail.faults import is_transient, never_sent
from broker.lightsail.responses import sound_request_id
from broker.lightsail.signing import RequestSigner

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from types_aiobotocore_lightsail import LightsailClient

    from broker.lightsail.credentials import RenewableCredentials
    from broker.lightsail.transport import BoundedHttpSession
    from broker.model import Clock, Protocol

OPERATION: Final = "GetInstanceAccessDetails"
TOTAL_ATTEMPTS: Final = 3
_RETRY_COST: Final = 5
"""Of the SDK's quota of 500: a hundred retries, then each answer that is good earns a part of one."""
_FAILED: Final = 300


@dataclass(slots=True)
class Tally:
    """What is known of one call. `attempts`: how often AWS may have received it; `request_id`: the last it told."""

    attempts: int = 0
    request_id: str = ""

    def note(self, headers: Mapping[str, str]) -> None:
        """Keep `x-amzn-RequestId`, also when the body that follows cannot be read: it may be a credential."""
        self.request_id = sound_request_id(headers.get("x-amzn-requestid")) or self.request_id


@contextlib.contextmanager
def tallied() -> Iterator[Tally]:
    """Tally the minting call that is made inside; a BrokerError carries the tally out."""
    tally = Tally()
    try:
        yield tally
    except BrokerError as failure:
        failure.attempts, failure.upstream_request_id = tally.attempts, tally.request_id
        raise


class Minter:
    """Mints in one region.

    Args:
        client: The SDK's client of that region, for what it knows of Lightsail.
        http: Its connections, which its lists keep warm.
        credentials: What to sign with.
        user_agent: What CloudTrail shows as the caller's program.
        clock: Tells the time of a signature.
        sleep: Waits so many seconds.
    """

    def __init__(
        self,
        client: LightsailClient,
        http: BoundedHttpSession,
        credentials: RenewableCredentials,
        user_agent: str,
        clock: Clock,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        model = client.meta.service_model
        self._url = f"{client.meta.endpoint_url.rstrip('/')}/"
        self._signer = RequestSigner(
            host=urlsplit(self._url).netloc,
            service=model.signing_name,
            region=client.meta.region_name,
            content_type=f"application/x-amz-json-{model.metadata['jsonVersion']}",
            target=f"{model.metadata['targetPrefix']}.{OPERATION}",
        )
        self._user_agent = {"user-agent": user_agent}
        self._shape = model.shape_for(f"{OPERATION}Result")
        self._errors = create_parser(model.metadata["protocol"])
        self._http = http
        self._credentials = credentials
        self._clock = clock
        self._sleep = sleep
        self._quota = RetryQuota()

    async def mint(self, instance: str, protocol: Protocol, tally: Tally) -> object:
        """Answer AWS's answer as JSON, not looked at yet.

        Throttling, 5xx answers and connections that were never made are waited out as the SDK's standard mode does;
        what was sent and not answered is not sent again, since AWS may have minted.

        Raises:
            ClientError: AWS refused, also the last time.
            Exception: whatever else the SDK's transport, credentials or a body that is no JSON raise.
        """
        body = orjson.dumps({"instanceName": instance, "protocol": protocol.value})
        tried = spent = 0
        while True:
            tried += 1
            try:
                answer = await self._attempt(body, tally)
            except Exception as failure:
                again = tried < TOTAL_ATTEMPTS and (is_transient(failure) or never_sent(failure))
                if not again or not self._quota.acquire(_RETRY_COST):
                    raise
            else:
                self._quota.release(spent or 1)
                return answer
            spent = _RETRY_COST
            await self._sleep(random.random() * 2 ** (tried - 1))  # noqa: S311 - jitter is no secret

    async def _attempt(self, body: bytes, tally: Tally) -> object:
        credentials = await self._credentials.get_frozen_credentials()
        headers = self._signer.headers(credentials, body, self._clock()) | self._user_agent
        request = AWSPreparedRequest("POST", self._url, headers, body, True)  # type: ignore[arg-type] # noqa: FBT003 - any mapping does
        tally.attempts += 1
        try:
            response, content = await self._http.exchange(request, tally.note)
        except Exception as failure:
            tally.attempts -= never_sent(failure)
            raise
        if response.status_code < _FAILED:
            return orjson.loads(content)
        told = {"status_code": response.status_code, "headers": response.headers, "body": content}
        raise ClientError(self._errors.parse(told, self._shape), OPERATION)
