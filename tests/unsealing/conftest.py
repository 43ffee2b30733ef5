import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aioboto3
import pytest
from moto.server import ThreadedMotoServer
from types_aiobotocore_kms import KMSClient

from broker.unsealing.masterkeys import LocalMasterKey


@pytest.fixture
def master() -> LocalMasterKey:
    return LocalMasterKey(os.urandom(32))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A place for keys, which the first key makes."""
    return tmp_path / "keys"


@pytest.fixture(scope="session")
def kms_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
async def kms(kms_endpoint: str) -> AsyncIterator[KMSClient]:
    session = aioboto3.Session(
        aws_access_key_id="AKIDTEST", aws_secret_access_key="test-secret", region_name="eu-west-1"
    )
    async with session.client("kms", endpoint_url=kms_endpoint) as client:
        yield client
