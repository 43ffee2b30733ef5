"""The way to Amazon Lightsail: one long-lived client per account and region, and only BrokerErrors out of it.

Whoever is let in here must have been decided upon: `access_details` mints. AWS's answer names the instance but not
its ARN, so an instance that was replaced under the same name since it was listed is not told apart here; the
inventory bounds how old a listing can be.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self, TypeVar

from broker.errors import UpstreamError
from broker.lightsail import listings, minting, responses
from broker.lightsail.breaker import Breaker
from broker.lightsail.faults import translate
from broker.lightsail.members import Members
from broker.lightsail.minting import Minter
from broker.lightsail.quiet import silence_sdk_logging
from broker.lightsail.session import Account, AccountSession, Identity, Tuning, signed, user_agent
from broker.model import Measure, utc_now

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable, Iterator, Sequence

    from types_aiobotocore_lightsail import LightsailClient

    from broker.lightsail.credentials import RenewableCredentials
    from broker.lightsail.listings import InstanceRecord, KeyPair
    from broker.model import AccessDetails, Blueprint, Bundle, Clock, Instance, Protocol

MAX_PAGES = 200
_MAX_ITEMS = 5_000

_log = logging.getLogger(__name__)
Answer = TypeVar("Answer")
Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class _Line:
    """What one region is called by."""

    client: LightsailClient
    minter: Minter
    credentials: RenewableCredentials
    breaker: Breaker


@dataclass(frozen=True, slots=True)
class _List:
    """What is listed, where, by which operation, and the member that holds it."""

    account: str
    region: str
    operation: str
    member: str


class Gateway:
    """Asks AWS. Use it as an asynchronous context, or call `start` and `close`.

    Args:
        accounts: Where instances live.
        tuning: Deadline, timeouts and sizes.
        clock: Tells when credentials of ours end.
    """

    def __init__(self, accounts: Sequence[Account], tuning: Tuning | None = None, clock: Clock = utc_now) -> None:
        self._tuning = tuning or Tuning()
        self._clock = clock
        self._sessions = {account.name: AccountSession(account, self._tuning, clock) for account in accounts}
        self._lines: dict[tuple[str, str], _Line] = {}
        self.places = tuple((account.name, region) for account in accounts for region in account.regions)
        """Every account and region that is configured, in the order of the settings."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Create the clients; does not call AWS yet, so it succeeds while AWS is out of reach."""
        silence_sdk_logging()
        for name, session in self._sessions.items():
            for region, (client, http) in (await session.start()).items():
                minter = Minter(client, http, session.credentials, user_agent(), self._clock)
                breaker = Breaker(self._tuning.max_connections)
                self._lines[name, region] = _Line(client, minter, session.credentials, breaker)
        silence_sdk_logging()  # the clients' modules were loaded meanwhile, and so were their loggers

    async def close(self) -> None:
        """Close all connections."""
        self._lines.clear()
        for session in self._sessions.values():
            await session.close()

    def measures(self) -> Iterator[Measure]:
        """Answer how each region is called."""
        for place, line in self._lines.items():
            yield Measure("lightsail_breaker_open", float(line.breaker.is_open), place)
            yield Measure("lightsail_calls", line.breaker.in_flight, place)

    async def access_details(self, instance: Instance, protocol: Protocol) -> AccessDetails:
        """Mint the credential of an instance (GetInstanceAccessDetails). Its answer is never kept.

        It is not sent again after AWS may have served it. What is raised carries `attempts` and
        `upstream_request_id` as the answer does.

        Raises:
            InstanceNotRunning: It is pending, stopping or stopped.
            PasswordNotReady: Windows has not made its password yet.
            Denied: AWS knows no such instance any more.
            UpstreamError: AWS refused, or its answer is not to be trusted.
            UpstreamUnavailable: Throttled, broken, out of reach, or too slow.
        """
        ref = instance.ref
        with minting.tallied() as tally:
            answer = await self._call(
                ref.account, ref.region, minting.OPERATION, lambda line: line.minter.mint(ref.name, protocol, tally)
            )
            return responses.access_details(answer, ref, protocol, attempts=tally.attempts, request_id=tally.request_id)

    async def instances(self, account: str, region: str) -> tuple[InstanceRecord, ...]:
        """Answer all instances of a region (GetInstances). One that cannot be read is left out, and logged."""
        place = _List(account, region, "GetInstances", "instances")
        read = partial(listings.instance, account=account, region=region)
        return await self._list(place, read, lambda client: client.get_paginator("get_instances").paginate())

    async def blueprints(self, account: str, region: str) -> tuple[Blueprint, ...]:
        """Answer all blueprints of a region, inactive ones too (GetBlueprints): instances outlive their blueprint."""
        return await self._list(
            _List(account, region, "GetBlueprints", "blueprints"),
            listings.blueprint,
            lambda client: client.get_paginator("get_blueprints").paginate(includeInactive=True),
        )

    async def bundles(self, account: str, region: str) -> tuple[Bundle, ...]:
        """Answer all bundles of a region, inactive ones too (GetBundles)."""
        return await self._list(
            _List(account, region, "GetBundles", "bundles"),
            listings.bundle,
            lambda client: client.get_paginator("get_bundles").paginate(includeInactive=True),
        )

    async def key_pairs(self, account: str, region: str) -> tuple[KeyPair, ...]:
        """Answer all key pairs of a region, the default one too (GetKeyPairs)."""
        return await self._list(
            _List(account, region, "GetKeyPairs", "keyPairs"),
            listings.key_pair,
            lambda client: client.get_paginator("get_key_pairs").paginate(includeDefaultKeyPair=True),
        )

    async def caller_identity(self, account: str) -> Identity:
        """Answer whom AWS takes us for (STS GetCallerIdentity)."""
        session = self._sessions.get(account)
        if session is None:
            raise UpstreamError("this account is not configured")
        return await self._bounded("GetCallerIdentity", session.identity)

    async def _list(
        self,
        what: _List,
        read: Callable[[object], Record],
        pages: Callable[[LightsailClient], AsyncIterable[object]],
    ) -> tuple[Record, ...]:
        def fetch(line: _Line) -> Awaitable[tuple[list[Record], list[str]]]:
            return _read_all(pages(line.client), what.member, read)

        records, faults = await self._call(what.account, what.region, what.operation, fetch)
        for fault in faults:
            _log.warning("%s in %s/%s: a record was left out: %s", what.operation, what.account, what.region, fault)
        return tuple(records)

    async def _call(
        self, account: str, region: str, operation: str, call: Callable[[_Line], Awaitable[Answer]]
    ) -> Answer:
        line = self._lines.get((account, region))
        if line is None:
            raise UpstreamError("this account and region are not configured, or the gateway is closed")
        with line.breaker.call():
            return await self._bounded(operation, partial(signed, line.credentials, partial(call, line)))

    async def _bounded(self, operation: str, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """Bound the call in time and translate its failure, which itself goes no further: it may hold a body."""
        try:
            async with asyncio.timeout(self._tuning.deadline):
                return await call()
        except Exception as failure:  # noqa: BLE001 - whatever the SDK raises, only BrokerErrors leave
            error = translate(failure, operation)
        raise error


async def _read_all(
    pages: AsyncIterable[object], member: str, read: Callable[[object], Record]
) -> tuple[list[Record], list[str]]:
    """Read the items of all pages, each page as it comes, so that a long list does not hold the event loop.

    Answers the records, and what was wrong with those that cannot be read. The SDK's paginator ends on an empty token
    and fails on a repeated one.
    """
    records: list[Record] = []
    faults: list[str] = []
    number = 0
    async for page in pages:
        number += 1
        sound, unsound = listings.readable(Members(page, "answer").items(member, limit=_MAX_ITEMS), read)
        records += sound
        faults += unsound
        if number >= MAX_PAGES or len(records) + len(faults) > _MAX_ITEMS:
            raise UpstreamError(f"{member}: the list does not end")
    return records, faults
