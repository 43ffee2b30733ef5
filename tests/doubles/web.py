"""Doubles of what stands behind the doors."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta

from broker.errors import BrokerError, InvalidToken, NotFound
from broker.issuing.desk import Asking
from broker.model import (
    Blueprint,
    Bundle,
    Caller,
    Credential,
    Decision,
    Instance,
    Issued,
    Lease,
    Platform,
    Presented,
    Protocol,
    RdpCredential,
    Receipt,
    Secret,
    SshCredential,
)
from broker.observability import AnsweredRequest
from broker.stages import Span
from tests.doubles.issuing import NOW, ListedInventory, instance

ANSWERED = AnsweredRequest(
    request_id="0" * 32,
    method="GET",
    route="/v1/instances",
    status=200,
    code="",
    began=1.0,
    ended=1.01,
    stages=[Span("record", 1.0, 1.001)],
)
PRIVATE_KEY = "-----BEGIN RSA PRIVATE KEY-----\nnot a key\n-----END RSA PRIVATE KEY-----\n"
PASSWORD = "S3cret-Admin-Pw!"


class ListedTokens:
    """Vouches for whoever brings one token of its list."""

    def __init__(self, tokens: Mapping[str, Caller]) -> None:
        self._tokens = tokens
        self.failures: Counter[str] = Counter()
        self.cause = ""

    async def authenticate(self, presented: Presented) -> Caller:
        if presented.authorization == ("Bearer slow",):
            await asyncio.sleep(30)  # as an issuer whose keys do not come
        for token, caller in self._tokens.items():
            if presented.authorization == (f"Bearer {token}",):
                return caller
        raise InvalidToken(self.cause or f"cause of {len(presented.authorization)}")

    def is_known(self, presented: Presented) -> bool:
        return any(presented.authorization == (f"Bearer {token}",) for token in self._tokens)

    def count_failure(self, cause: str) -> None:
        self.failures[cause] += 1

    def nonce(self) -> str:
        return "nonce"


class MemoryTally:
    """Counts as a database would; can be out of reach, or hang."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._free_at: dict[bytes, float] = {}
        self.error: BrokerError | None = None
        self.hangs = False
        self.asked = 0

    async def spend(self, caller: bytes, interval: float, burst: float) -> float:
        self.asked += 1
        if self.hangs:
            await asyncio.sleep(30)
        if self.error:
            raise self.error
        free_at = max(self._free_at.get(caller, 0.0), self._now())
        if (wait := free_at - self._now() - burst) > 0:
            return wait
        self._free_at[caller] = free_at + interval
        return 0.0


class GivingDesk:
    """Issues an SSH or RDP credential to anybody, or fails as it was told; can be held back."""

    def __init__(self, error: BrokerError | None = None) -> None:
        self.error = error
        self.password = PASSWORD
        self.asked: list[Asking] = []
        self._asked_again = asyncio.Condition()
        self.gate = asyncio.Event()
        self.gate.set()

    async def issue(self, asking: Asking) -> Issued:
        self.asked.append(asking)
        async with self._asked_again:
            self._asked_again.notify_all()
        await self.gate.wait()
        if self.error:
            raise self.error
        return issued(asking.request.protocol or Protocol.SSH, len(self.asked), self.password)

    async def has_been_asked(self, times: int) -> None:
        """Wait until so many have asked."""
        async with self._asked_again:
            await self._asked_again.wait_for(lambda: len(self.asked) >= times)

    async def preview(self, asking: Asking) -> Decision:
        self.asked.append(asking)
        return Decision(allowed=True, policies=("ops-ssh",))


def issued(protocol: Protocol, index: int, password: str = PASSWORD) -> Issued:
    """Answer an issued credential."""
    ends = NOW + timedelta(minutes=13)
    windows = protocol is Protocol.RDP
    secret: SshCredential | RdpCredential = SshCredential(
        private_key=Secret(PRIVATE_KEY),
        certificate="CERT",
        known_hosts=("203.0.113.7 ssh-ed25519 AAAA",),
        expires_at=ends,
    )
    if windows:
        secret = RdpCredential(password=Secret(password), certificate_sha256=("ab:cd",), file="full address:s:x\r\n")
    return Issued(
        credential=Credential(
            instance=instance(
                "win-1" if windows else "web-1", platform=Platform.WINDOWS if windows else Platform.LINUX_UNIX
            ),
            protocol=protocol,
            host="203.0.113.7",
            ipv6_addresses=(),
            port=3389 if windows else 22,
            username="Administrator" if windows else "ec2-user",
            secret=secret,
            warnings=("A warning.",),
        ),
        lease=Lease(id="l1", issued_at=NOW, expires_at=ends),
        decision=Decision(allowed=True, policies=("ops-ssh",)),
        receipt=Receipt(index, bytes(range(32)), NOW),
    )


class CatalogueInventory(ListedInventory):
    """Knows instances, and a blueprint with the bundle that fits, each with one that is no longer sold."""

    def __init__(self, *instances: Instance, error: BrokerError | None = None) -> None:
        super().__init__(*instances)
        self._all = instances
        self._error = error

    async def instances(self) -> tuple[Instance, ...]:
        if self._error:
            raise self._error
        return self._all

    async def blueprints(self, *, include_inactive: bool = False) -> tuple[Blueprint, ...]:
        old = replace(blueprint(), blueprint_id="amazon_linux_2", is_active=False)
        return (blueprint(), old) if include_inactive else (blueprint(),)

    async def bundles(self, blueprint_id: str | None = None, *, include_inactive: bool = False) -> tuple[Bundle, ...]:
        if blueprint_id not in {None, blueprint().blueprint_id}:
            raise NotFound
        old = replace(bundle(), bundle_id="nano_2_0", is_active=False)
        return (bundle(), old) if include_inactive else (bundle(),)


def blueprint() -> Blueprint:
    """Answer a Linux blueprint."""
    return Blueprint(
        blueprint_id="amazon_linux_2023",
        name="Amazon Linux 2023",
        group="amazon_linux_2023",
        type="os",
        description="",
        is_active=True,
        min_power=0,
        version="1",
        version_code="1",
        product_url="",
        license_url="",
        platform=Platform.LINUX_UNIX,
    )


def bundle() -> Bundle:
    """Answer a Linux bundle."""
    return Bundle(
        bundle_id="nano_3_0",
        name="Nano",
        instance_type="nano",
        is_active=True,
        price=5.0,
        cpu_count=2,
        ram_size_in_gb=0.5,
        disk_size_in_gb=20,
        transfer_per_month_in_gb=1024,
        power=298,
        supported_platforms=(Platform.LINUX_UNIX,),
        public_ipv4_address_count=1,
    )
