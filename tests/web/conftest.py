"""A hall with doubles behind its doors, reached over a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import pytest
import structlog
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from broker.errors import BrokerError
from broker.model import Action, Caller, Health, Instance
from broker.observability import Metrics, configure_logging
from broker.web import openapi
from broker.web.app import Edge
from broker.web.credentials import Credentials
from broker.web.doors import Admission, Doors
from broker.web.health import Description, TrustedIssuer
from broker.web.instances import Instances
from broker.web.rates import RateLimit
from broker.web.routes import AnyRoute
from tests.doubles.issuing import CALLER, NOW, Padlocks, TablePolicies, instance
from tests.doubles.web import CatalogueInventory, GivingDesk, ListedTokens

GOOD = {"Authorization": "Bearer good"}


@dataclass
class Hall:
    """The edge and what a test may turn."""

    desk: GivingDesk = field(default_factory=GivingDesk)
    health: list[Health] = field(default_factory=lambda: [Health("audit", ready=True)])
    admission: Admission = field(default_factory=lambda: Admission(8))
    rate: RateLimit = field(default_factory=lambda: RateLimit(1000))
    locks: Padlocks = field(default_factory=Padlocks)
    tokens: dict[str, Caller] = field(default_factory=lambda: {"good": CALLER})
    instances: list[Instance] = field(default_factory=lambda: [instance(f"web-{n}") for n in range(5)])
    inventory_error: BrokerError | None = None
    policies: TablePolicies = field(
        default_factory=lambda: TablePolicies(
            [(Action.LIST, f"web-{n}") for n in range(4)] + [(Action.SSH, "web-0"), (Action.SSH, "web-1")]
        )
    )
    body_seconds: float = 10
    handler_seconds: float = 10

    def server(self) -> TestServer:
        """Put the application behind a test server."""
        return TestServer(self.application())

    def document(self) -> Mapping[str, Any]:
        """Describe what is mounted."""
        return openapi.document(self.routes()[0])

    def application(self) -> web.Application:
        """Build the application."""
        routes, metrics = self.routes()
        doors = Doors(ListedTokens(self.tokens), self.rate, self.locks, self.admission)
        edge = Edge(
            doors,
            metrics,
            body_seconds=self.body_seconds,
            handler_seconds=self.handler_seconds,
        )
        return edge.application(routes)

    def routes(self) -> tuple[list[AnyRoute[Any, Any]], Metrics]:
        """Build every route but those of the auditor, which have a hall of their own."""
        inventory = CatalogueInventory(*self.instances, error=self.inventory_error)
        metrics = Metrics()
        routes: list[AnyRoute[Any, Any]] = [
            *Credentials(self.desk).routes(),
            *Instances(inventory, self.policies, lambda: NOW).routes(),
        ]
        description = Description(
            [lambda: self.health[0]],
            metrics,
            [CORP],
            lambda: openapi.document(routes),
        )
        routes += description.routes()
        return routes, metrics


CORP = TrustedIssuer(
    name="corp",
    issuer="https://id.example.com",
    audience="lightsail-broker",
    require_binding=False,
    cli_client_id="cli",
    cli_scopes=("openid", "creds"),
    cli_resource="https://broker.example.com",
)


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
