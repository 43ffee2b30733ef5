"""Doubles of what the lightsail room talks to: a source of lists, and an AWS that sends whatever a test wants."""

import json
import ssl
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta

from aiohttp import web

from broker.emulator import Call, Emulator, parse_faults
from broker.errors import BrokerError
from broker.lightsail.listings import InstanceRecord, KeyPair
from broker.lightsail.session import Account, Tuning
from broker.model import Blueprint, Bundle, Instance, InstanceRef, Platform

Place = tuple[str, str]
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

QUICK = Tuning(deadline=5.0, connect_timeout=0.5, read_timeout=1.0)
LINUX = {"region": "eu-west-1", "blueprint": "amazon_linux_2023", "bundle": "nano_3_0"}
WINDOWS = {"region": "eu-west-1", "blueprint": "windows_server_2022", "bundle": "medium_win_3_0"}


def account(url: str, *regions: str, role_arn: str = "", external_id: str = "") -> Account:
    """Answer the account `main`, reached at an emulator's URL."""
    where = regions or ("eu-west-1",)
    return Account(name="main", regions=where, endpoint_url=url, role_arn=role_arn, external_id=external_id)


def instance(name: str = "web-1", platform: Platform = Platform.LINUX_UNIX, region: str = "eu-west-1") -> Instance:
    """Answer an instance as the inventory would, by its name."""
    return Instance(ref=InstanceRef("main", region, name), platform=platform, blueprint="", bundle="", state="running")


class ManualClock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, **amount: float) -> None:
        self.now += timedelta(**amount)


class WatchedEmulator:
    """An embedded Lightsail from now on: what was called, and what is to go wrong."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._seen = len(emulator.calls)
        self.url = emulator.url

    @property
    def calls(self) -> tuple[Call, ...]:
        return tuple(self._emulator.calls[self._seen :])

    @property
    def counts(self) -> Counter[str]:
        return Counter(call.operation for call in self.calls)

    def fault(self, kind: str, *, operation: str = "GetInstanceAccessDetails", times: int = 0) -> None:
        self._emulator.faults.add(parse_faults({"operation": operation, "kind": kind, "times": times}))

    def mend(self) -> None:
        self._emulator.faults.clear()


def record(name: str, place: Place = ("main", "eu-west-1"), **changes: str) -> InstanceRecord:
    """Answer an instance as GetInstances tells of it."""
    return InstanceRecord(
        ref=InstanceRef(*place, name),
        blueprint=changes.get("blueprint", "debian_12"),
        bundle=changes.get("bundle", "nano_3_0"),
        state="running",
        tags={},
        key_pair="LightsailDefaultKeyPair",
        arn="",
    )


def blueprint(
    blueprint_id: str, platform: Platform = Platform.LINUX_UNIX, min_power: int = 0, *, is_active: bool = True
) -> Blueprint:
    """Answer a blueprint of which only these things matter."""
    return Blueprint(
        blueprint_id=blueprint_id,
        name=blueprint_id,
        group=blueprint_id,
        type="os",
        description="",
        is_active=is_active,
        min_power=min_power,
        version="1",
        version_code="1",
        product_url="",
        license_url="",
        platform=platform,
    )


def bundle(bundle_id: str, *platforms: Platform, power: int = 500, is_active: bool = True) -> Bundle:
    """Answer a bundle of which only these things matter."""
    return Bundle(
        bundle_id=bundle_id,
        name=bundle_id,
        instance_type="nano",
        is_active=is_active,
        price=5.0,
        cpu_count=2,
        ram_size_in_gb=0.5,
        disk_size_in_gb=20,
        transfer_per_month_in_gb=1024,
        power=power,
        supported_platforms=platforms or (Platform.LINUX_UNIX,),
    )


class ListSource:
    """What the inventory asks, without AWS: lists to set, failures to set, calls to count."""

    def __init__(self, *places: Place) -> None:
        self.places = places or (("main", "eu-west-1"),)
        self.records: dict[Place, list[InstanceRecord]] = {place: [] for place in self.places}
        self.all_blueprints = [blueprint("debian_12"), blueprint("windows_server_2022", Platform.WINDOWS, 1000)]
        self.all_bundles = {place: [bundle("nano_3_0")] for place in self.places}
        self.failures: dict[Place, BrokerError] = {}
        self.all_key_pairs: dict[Place, list[KeyPair]] = {place: [] for place in self.places}
        self.key_pairs_failure: BrokerError | None = None
        self.calls: Counter[str] = Counter()
        self.before_answer: Callable[[Place], Awaitable[None]] | None = None

    async def _answer(self, what: str, place: Place) -> None:
        self.calls[what] += 1
        self.calls[f"{what} {'/'.join(place)}"] += 1
        if self.before_answer is not None:
            await self.before_answer(place)
        if failure := self.failures.get(place):
            raise failure

    async def instances(self, account: str, region: str) -> tuple[InstanceRecord, ...]:
        await self._answer("instances", (account, region))
        return tuple(self.records[account, region])

    async def key_pairs(self, account: str, region: str) -> tuple[KeyPair, ...]:
        await self._answer("key_pairs", (account, region))
        if self.key_pairs_failure:
            raise self.key_pairs_failure
        return tuple(self.all_key_pairs[account, region])

    async def blueprints(self, account: str, region: str) -> tuple[Blueprint, ...]:
        await self._answer("blueprints", (account, region))
        return tuple(self.all_blueprints)

    async def bundles(self, account: str, region: str) -> tuple[Bundle, ...]:
        await self._answer("bundles", (account, region))
        return tuple(self.all_bundles[account, region])


class WilfulAws:
    """An AWS endpoint that checks nothing and answers as it was told to, call after call.

    `answers` are taken in order, the last one for ever; every call is kept in `requests`.
    """

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.requests: list[Mapping[str, str]] = []
        self.connections: set[object] = set()
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=tls).start()
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def will_answer(self, *answers: Answer) -> None:
        self.answers = list(answers)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(dict(request.headers))
        self.connections.add(request.transport)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await answer(request)


def body(content: object, status: int = 200) -> Answer:
    """Answer JSON, or bytes as they are."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()

    async def answer(_: web.Request) -> web.Response:
        headers = {"Content-Type": "application/x-amz-json-1.1", "x-amzn-RequestId": str(uuid.uuid4())}
        return web.Response(body=raw, status=status, headers=headers)

    return answer


def error(code: str, message: str = "", status: int = 400) -> Answer:
    """Answer one of AWS's errors."""
    return body({"__type": code, "message": message}, status)
