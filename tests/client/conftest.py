"""A service double over real TLS, and what a client needs to find it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker.client import Access, Broker
from tests.doubles.client import Authority, ServiceDouble

TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2VjcmV0LXNpZ25hdHVyZQ"


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def service(authority: Authority) -> Iterator[ServiceDouble]:
    with ServiceDouble(authority.server_context()) as double:
        yield double


@pytest.fixture
def environment(service: ServiceDouble, authority: Authority) -> dict[str, str]:
    return {"BROKER_URL": service.url, "BROKER_TOKEN": TOKEN, "BROKER_CA_FILE": authority.ca_file}


@pytest.fixture
def connect(environment: dict[str, str]) -> Iterator[Callable[..., Broker]]:
    """Connect with changed or, when None, without some of the variables."""
    brokers = []

    def connected(**changes: str | None) -> Broker:
        variables = {name: value for name, value in (environment | changes).items() if value is not None}
        brokers.append(Broker(Access.from_environment(variables)))
        return brokers[-1]

    yield connected
    for broker in brokers:
        broker.close()


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.touch(0o600)
    path.write_text(f"{TOKEN}\n")
    return path
