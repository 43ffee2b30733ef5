"""The SDK, tuned: sessions, clients and the credentials behind them, for one account."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, TypeVar

import aioboto3
from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioCredentialResolver, create_credential_resolver
from aiobotocore.session import AioSession, get_session
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import ClientError, NoCredentialsError
from botocore.loaders import create_loader
from botocore.utils import parse_timestamp

from broker.errors import UpstreamError
from broker.lightsail.credentials import Loaded, RenewableCredentials
from broker.lightsail.faults import EXPIRED, error_code
from broker.lightsail.members import Members
from broker.lightsail.minting import TOTAL_ATTEMPTS
from broker.lightsail.transport import BoundedHttpSession

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from types_aiobotocore_lightsail import LightsailClient
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_sts import STSClient
    from types_aiobotocore_sts.type_defs import AssumeRoleRequestTypeDef

    from broker.model import Clock

Answer = TypeVar("Answer")

ROLE_SESSION = "lightsail-broker"
"""RoleSessionName and SourceIdentity: what CloudTrail shows beside every call of ours."""
ROLE_SECONDS = 3600
"""The longest that AWS grants when one role assumes another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One AWS account, by our own name for it, and the regions in which its instances live.

    `role_arn`, with `external_id`, is assumed through STS; without it the credentials of the usual AWS_* chain are
    used as they are. `endpoint_url` is an emulator's, for Lightsail and STS alike.
    """

    name: str
    regions: tuple[str, ...]
    role_arn: str = ""
    external_id: str = ""
    endpoint_url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """Seconds and sizes of the way to AWS. `deadline` bounds a whole call: credentials, retries, all pages."""

    deadline: float = 10.0
    connect_timeout: float = 1.0
    read_timeout: float = 3.0
    keepalive: float = 60.0
    """aiobotocore's own 12 s would make a quiet broker pay for DNS, TCP and TLS on every call."""
    max_connections: int = 256

    def config(self, http_session: type[BoundedHttpSession] | _Kept = BoundedHttpSession) -> AioConfig:
        """Answer the SDK's settings. Nothing in the environment adds a proxy or moves the endpoint."""
        return AioConfig(
            connector_args={"keepalive_timeout": self.keepalive},
            http_session_cls=http_session,  # type: ignore[arg-type]  # it is only ever called
            connect_timeout=self.connect_timeout,
            read_timeout=self.read_timeout,
            max_pool_connections=self.max_connections,
            retries={"mode": "standard", "total_max_attempts": TOTAL_ATTEMPTS},
            user_agent=user_agent(),
            parameter_validation=False,
            proxies={},
            ignore_configured_endpoint_urls=True,
        )


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom AWS takes us for (STS GetCallerIdentity): the 12 digits of the account, and an ARN."""

    account_id: str
    arn: str


def user_agent() -> str:
    """Answer the fixed User-Agent; a fixed one also spares the SDK a sixth of its work per call."""
    try:
        return f"lightsail-credential-broker/{version('lightsail-credential-broker')}"
    except PackageNotFoundError:
        return "lightsail-credential-broker/0"


class _Kept:
    """Makes the HTTP session of one client of the SDK, and keeps hold of it."""

    session: BoundedHttpSession

    def __call__(self, **options: Any) -> BoundedHttpSession:  # noqa: ANN401 - whatever the SDK says
        self.session = BoundedHttpSession(**options)
        return self.session


class AccountSession:
    """The clients of one account, and the credentials that they sign with."""

    def __init__(self, account: Account, tuning: Tuning, clock: Clock) -> None:
        self._account = account
        self._tuning = tuning
        self._config = tuning.config()
        self._deadline = tuning.deadline
        self._clock = clock
        self._stack = contextlib.AsyncExitStack()
        self._source = RenewableCredentials(self._load_chain, clock)
        self.credentials = RenewableCredentials(self._load_role, clock) if account.role_arn else self._source
        self._sts: STSClient | None = None

    async def start(self) -> dict[str, tuple[LightsailClient, BoundedHttpSession]]:
        """Answer one client per region, with its connections, alive until `close`; the first request opens one."""
        session = _session(self.credentials)
        clients = {}
        for region in self._account.regions:
            http = _Kept()
            config = self._tuning.config(http)
            creating = session.client("lightsail", region, endpoint_url=self._endpoint, config=config)
            clients[region] = await self._stack.enter_async_context(creating), http.session
        if self._account.role_arn:
            self._sts = await self._stack.enter_async_context(self._sts_client(self._source))
        return clients

    async def start_object_store(self) -> S3Client:
        """Answer, instead of all that, a client of S3 in the first region, alive until `close`."""
        if self._account.role_arn:
            self._sts = await self._stack.enter_async_context(self._sts_client(self._source))
        by_path = AioConfig(s3={"addressing_style": "path"}) if self._endpoint else AioConfig()
        config = self._config.merge(by_path)
        region = self._account.regions[0]
        creating = _session(self.credentials).client("s3", region, endpoint_url=self._endpoint, config=config)
        return await self._stack.enter_async_context(creating)

    async def close(self) -> None:
        """End renewals under way and close all connections."""
        await self.credentials.close()
        await self._source.close()
        await self._stack.aclose()

    async def identity(self) -> Identity:
        """Answer whom AWS takes us for."""
        async with self._sts_client(self.credentials) as sts:
            answer = Members(await signed(self.credentials, sts.get_caller_identity), "answer")
        return Identity(answer.text("Account", limit=12), answer.text("Arn", limit=2048))

    @property
    def _endpoint(self) -> str | None:
        return self._account.endpoint_url or None

    def _sts_client(self, credentials: RenewableCredentials) -> AbstractAsyncContextManager[STSClient]:
        region = self._account.regions[0]
        return _session(credentials).client("sts", region, endpoint_url=self._endpoint, config=self._config)

    async def _load_chain(self) -> Loaded:
        """Ask the usual chain anew: environment, files, container, instance metadata.

        What comes to an end is renewed by us. Left to itself, the SDK asks before each request while a source is away,
        and refuses what holds for less than ten minutes more.
        """
        async with asyncio.timeout(self._deadline):
            resolver: AioCredentialResolver = create_credential_resolver(bare_session(self._config))
            credentials = await resolver.load_credentials()
            if credentials is None:
                raise NoCredentialsError
            keys = await credentials.get_frozen_credentials()
        until: datetime | None = getattr(credentials, "_expiry_time", None)  # the SDK tells it nowhere else
        return Loaded(keys, self._clock(), until)

    async def _load_role(self) -> Loaded:
        """Assume the role (STS AssumeRole); the source identity stays with every call that is made with it."""
        async with asyncio.timeout(self._deadline):
            answer = Members(await signed(self._source, self._assume_role), "AssumeRole").inside("Credentials")
        until = answer.moment("Expiration")
        if until is None:
            answer.fault("Expiration", "is missing")
        keys = (answer.text(name, limit=4096) for name in ("AccessKeyId", "SecretAccessKey", "SessionToken"))
        return Loaded(ReadOnlyCredentials(*keys), self._clock(), until)

    async def _assume_role(self) -> object:
        if self._sts is None:
            raise UpstreamError("the session has not been started")
        request: AssumeRoleRequestTypeDef = {
            "RoleArn": self._account.role_arn,
            "RoleSessionName": ROLE_SESSION,
            "SourceIdentity": ROLE_SESSION,
            "DurationSeconds": ROLE_SECONDS,
        }
        if self._account.external_id:
            request["ExternalId"] = self._account.external_id
        return await self._sts.assume_role(**request)


async def signed(credentials: RenewableCredentials, call: Callable[[], Awaitable[Answer]]) -> Answer:
    """Make a call; when AWS says that the credentials have expired, renew them and make it once more."""
    seen = await credentials.ready()
    try:
        return await call()
    except ClientError as failure:
        if error_code(failure) not in EXPIRED:
            raise
    credentials.discard(seen)
    return await call()


def bare_session(config: AioConfig) -> AioSession:
    """Answer a session of the SDK: what it asks by itself, such as STS for a web identity, goes the way of `config`."""
    session = get_session()
    session.set_default_client_config(config)
    return session


class _Provider:
    """Takes the place of the SDK's own chain, so that its clients sign with what we renew."""

    def __init__(self, credentials: RenewableCredentials) -> None:
        self._credentials = credentials

    async def load_credentials(self) -> RenewableCredentials:
        return self._credentials


def _session(credentials: RenewableCredentials) -> aioboto3.Session:
    session = get_session()
    session.register_component("credential_provider", _Provider(credentials))
    session.register_component("data_loader", _descriptions(session.get_config_variable("data_path")))
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_moment)
    return aioboto3.Session(botocore_session=session)


_descriptions = cache(create_loader)
"""What describes AWS's services is read once for all accounts: each reading takes some 7 MB."""


def _moment(value: float | str) -> datetime:
    """Read a timestamp, in JSON seconds since 1970, as UTC: the SDK's own reader looks up the local zone each time."""
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    return parse_timestamp(value)
