"""A hall with doubles behind its doors, reached over a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from io import BytesIO

import pytest
import structlog
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from broker.model import Action, Health
from broker.observability import Metrics, configure_logging
from broker.web import openapi
from broker.web.app import Edge
from broker.web.credentials import Credentials
from broker.web.doors import Admission, Doors, RateLimit
from broker.web.health import Description, TrustedIssuer
from broker.web.instances import Instances
from tests.doubles.issuing import NOW, TablePolicies, instance
from tests.doubles.web import CatalogueInventory, GivingDesk, OneTokenAuthenticator

GOOD = {"Authorization": "Bearer good"}


@dataclass
class Hall:
    """The edge and what a test may turn."""

    desk: GivingDesk = field(default_factory=GivingDesk)
    health: list[Health] = field(default_factory=lambda: [Health("audit", ready=True)])
    admission: Admission = field(default_factory=lambda: Admission(8))
    rate: RateLimit = field(default_factory=lambda: RateLimit(1000))
    body_seconds: float = 10

    def server(self) -> TestServer:
        """Put the application behind a test server."""
        return TestServer(self.application())

    def application(self) -> web.Application:
        """Build the application."""
        instances = [instance(f"web-{n}") for n in range(5)]
        policies = TablePolicies(
            [(Action.LIST, f"web-{n}") for n in range(4)] + [(Action.SSH, "web-0"), (Action.SSH, "web-1")]
        )
        metrics = Metrics()
        routes = [
            *Credentials(self.desk).routes(),
            *Instances(CatalogueInventory(*instances), policies, lambda: NOW).routes(),
        ]
        description = Description(
            [lambda: self.health[0]],
            metrics,
            [TrustedIssuer("corp", "https://id.example.com", "cli")],
            lambda: openapi.document(routes),
        )
        routes += description.routes()
        doors = Doors(OneTokenAuthenticator(), self.rate, self.admission)
        return Edge(doors, metrics, body_seconds=self.body_seconds).application(routes)


@pytest.fixture(autouse=True)
def log() -> Iterator[BytesIO]:
    """Collect the log lines of a test."""
    stream = BytesIO()
    configure_logging(stream)
    yield stream
    structlog.reset_defaults()


@pytest.fixture
def hall() -> Hall:
    return Hall()


@pytest.fixture
async def client(hall: Hall) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    async with TestClient(hall.server()) as client:
        yield client
