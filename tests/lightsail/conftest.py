from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from broker.emulator import Emulator, Fixture
from broker.lightsail.gateway import Gateway
from tests.doubles.lightsail import LINUX, QUICK, WINDOWS, WatchedEmulator, WilfulAws, account

KEY_PAIRS = [
    {"name": "team-key", "region": "eu-west-1", "private_key": "team-key.pem"},
    {"name": "LightsailDefaultKeyPair", "region": "eu-west-1", "private_key": "default.pem"},
]
INSTANCES = [
    LINUX | {"name": "web-1", "tags": {"env": "prod"}},
    WINDOWS | {"name": "win-1", "key_pair": "team-key", "password": "S3cret-Admin-Pw!"},
    WINDOWS | {"name": "win-2", "password": "An0ther-Admin-Pw"},
]

Emulating = Callable[..., AbstractAsyncContextManager[Emulator]]


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the SDK the emulator's keys, and nothing of this machine's."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEMULATOR")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "emulator-secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")


@pytest.fixture(scope="session")
def key_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where emulators keep their keys; made once, since making them is what takes time."""
    return tmp_path_factory.mktemp("keys")


@pytest.fixture
def emulating(key_directory: Path) -> Emulating:
    """Answer what starts an embedded Lightsail of these instances."""

    @asynccontextmanager
    async def start(*instances: Mapping[str, object], page_size: int = 5) -> AsyncIterator[Emulator]:
        values = {"instances": list(instances), "page_size": page_size, "key_pairs": KEY_PAIRS}
        async with Emulator(Fixture.of(values, key_directory), key_pool=1, fresh_keys=False) as emulator:
            yield emulator

    return start


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def company(key_directory: Path) -> AsyncIterator[Emulator]:
    """An embedded Lightsail with a Linux instance and two Windows ones, for all tests of a module."""
    values = {"instances": INSTANCES, "key_pairs": KEY_PAIRS}
    async with Emulator(Fixture.of(values, key_directory), key_pool=1, fresh_keys=False) as emulator:
        yield emulator


@pytest.fixture
def emulator(company: Emulator) -> WatchedEmulator:
    """The same, without what earlier tests did to it."""
    company.faults.clear()
    return WatchedEmulator(company)


@pytest_asyncio.fixture(loop_scope="module")
async def gateway(emulator: WatchedEmulator) -> AsyncIterator[Gateway]:
    async with Gateway([account(emulator.url)], QUICK) as running:
        yield running


@pytest.fixture
async def aws() -> AsyncIterator[WilfulAws]:
    double = WilfulAws()
    await double.start()
    yield double
    await double.stop()


@pytest.fixture
async def wilful(aws: WilfulAws) -> AsyncIterator[Gateway]:
    """A gateway that talks to the AWS that answers as it is told to."""
    async with Gateway([account(aws.url)], QUICK) as running:
        yield running
