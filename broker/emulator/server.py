"""The embedded Lightsail as one object: start it, point AWS clients at its URL, stop it."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Final, Self

from aiohttp import web

from broker.emulator.access import AccessDesk
from broker.emulator.callers import AccessKey, Callers, Clock, utc_now
from broker.emulator.calls import Call
from broker.emulator.certificates import CertificateAuthority
from broker.emulator.endpoint import Endpoint, Service
from broker.emulator.estate import Estate, prepare
from broker.emulator.faults import Faults
from broker.emulator.fixture import Fixture
from broker.emulator.keys import KeyPool
from broker.emulator.lightsail import Lightsail
from broker.emulator.paging import Pages
from broker.emulator.security_tokens import SecurityTokens

_GRACE: Final = 1.0  # seconds for calls under way when it stops


class Emulator:
    """An embedded Lightsail and STS, on a loopback address.

    Use it as `async with Emulator(fixture) as emulator:` or by `start` and `stop`. It starts once.

    Args:
        fixture: What it serves.
        clock: Owns its time: certificate windows, sessions, signatures' clock.
        key_pool: How many RSA keys for SSH answers are made ahead, in the background.
        fresh_keys: False lets the same `key_pool` keys go round: no key is made per call, only a certificate.
        reuse_answers: For how long an SSH answer is given again; more than nothing only where speed is measured.
    """

    def __init__(
        self,
        fixture: Fixture,
        *,
        clock: Clock = utc_now,
        key_pool: int = 2,
        fresh_keys: bool = True,
        reuse_answers: timedelta = timedelta(0),
    ) -> None:
        self.fixture = fixture
        self.faults = Faults(fixture.faults)
        self.url = ""
        self.ssh_ca_line = ""
        self._clock = clock
        self._key_pool = key_pool
        self._fresh_keys = fresh_keys
        self._reuse = reuse_answers
        self._keys: KeyPool | None = None
        self._endpoint: Endpoint | None = None
        self._runner: web.AppRunner | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Make or read all keys and listen; port 0 lets the system choose. `url` and `ssh_ca_line` hold from then on.

        Raises:
            ValueError: The host is not a loopback address.
            FixtureError: A file of the fixture cannot be used.
            OSError: The port cannot be had.
        """
        address = _loopback(host)
        authority = await asyncio.to_thread(CertificateAuthority.in_file, self.fixture.ssh_ca)
        estate = await asyncio.to_thread(prepare, self.fixture, self._clock())
        self.ssh_ca_line = authority.public_line
        self._keys = KeyPool(self._key_pool, fresh=self._fresh_keys)
        self._endpoint = self._assembled(estate, AccessDesk(authority, self._keys, self._clock, self._reuse))
        try:
            await self._listen(self._endpoint, address, port)
        except OSError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop listening and let go of everything; harmless when it never started."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._keys is not None:
            await asyncio.to_thread(self._keys.close)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def calls(self) -> Sequence[Call]:
        """What was called so far, oldest first; the list is bounded."""
        return () if self._endpoint is None else tuple(self._endpoint.calls)

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables that point every AWS client at this emulator."""
        return {
            "AWS_ACCESS_KEY_ID": self.fixture.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.fixture.secret_access_key,
            "AWS_ENDPOINT_URL": self.url,
        }

    def _assembled(self, estate: Estate, access: AccessDesk) -> Endpoint:
        callers = Callers(_configured_key(self.fixture), self._clock)
        services: dict[str, Service] = {
            "lightsail": Lightsail(estate, access, Pages(self.fixture.page_size)),
            "sts": SecurityTokens(callers, self._clock),
        }
        return Endpoint(services, callers, self.faults, self._clock)

    async def _listen(self, endpoint: Endpoint, address: str, port: int) -> None:
        self._runner = web.AppRunner(endpoint.application(), access_log=None, shutdown_timeout=_GRACE)
        await self._runner.setup()
        await web.TCPSite(self._runner, address, port).start()
        bound_to, bound_port = self._runner.addresses[0][:2]
        self.url = f"http://[{bound_to}]:{bound_port}" if ":" in bound_to else f"http://{bound_to}:{bound_port}"


def _loopback(host: str) -> str:
    address = "127.0.0.1" if host == "localhost" else host
    try:
        is_loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ValueError("the embedded Lightsail listens on loopback addresses only")
    return address


def _configured_key(fixture: Fixture) -> AccessKey:
    return AccessKey(
        access_key_id=fixture.access_key_id,
        secret=fixture.secret_access_key,
        account_id=fixture.account_id,
        arn=f"arn:aws:iam::{fixture.account_id}:user/emulator",
        user_id="AIDAEMULATOR",
    )
