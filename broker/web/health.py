"""What describes the service and how it is: health, metrics, OpenAPI, and the metadata of RFC 9728."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from pydantic import BaseModel

from broker.model import Health
from broker.observability import Metrics
from broker.web.routes import Answer, AnyRoute, Nothing, Open, Output, Visit


class Alive(Output):
    """The process answers."""

    status: Literal["ok"]


class ComponentOut(Output):
    """How one component is."""

    ready: bool
    detail: str


class Readiness(Output):
    """Whether the service can issue, and each component by name."""

    ready: bool
    components: dict[str, ComponentOut]


@dataclass(frozen=True, slots=True)
class TrustedIssuer:
    """What a client may know about an issuer."""

    name: str
    issuer: str
    cli_client_id: str


class IssuerOut(Output):
    """An issuer that is trusted here, and the public OAuth client that the command line logs in with."""

    name: str
    issuer: str
    cli_client_id: str


class ResourceMetadata(Output):
    """OAuth 2.0 protected resource metadata (RFC 9728)."""

    resource: str
    authorization_servers: list[str]
    bearer_methods_supported: list[str]
    issuers: list[IssuerOut]


class Document(BaseModel):
    """An OpenAPI 3.1 document."""

    openapi: str


class Page(BaseModel):
    """Text for Prometheus."""


class Description:
    """The open doors."""

    def __init__(
        self,
        components: Sequence[Callable[[], Health]],
        metrics: Metrics,
        issuers: Sequence[TrustedIssuer],
        openapi: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._components = components
        self._metrics = metrics
        self._issuers = issuers
        self._openapi = cache(openapi)

    def routes(self) -> list[AnyRoute[Any, Any]]:
        """Answer the routes."""

        def get(path: str, summary: str, answer: type[BaseModel], handler: Any, **more: Any) -> Open[Nothing, Nothing]:  # noqa: ANN401 - passed on as they are
            return Open(
                method="GET",
                path=path,
                summary=summary,
                query=Nothing,
                body=Nothing,
                answer=answer,
                handler=handler,
                **more,
            )

        return [
            get("/healthz", "Tell that the process answers", Alive, self.alive),
            get(
                "/readyz",
                "Tell whether credentials can be issued, by component",
                Readiness,
                self.ready,
                also={503: "Something does not work"},
            ),
            get("/metrics", "Numbers for Prometheus", Page, self.metrics, answer_type="text/plain"),
            get("/openapi.json", "This description", Document, self.openapi),
            get(
                "/.well-known/oauth-protected-resource",
                "Who may vouch for a caller",
                ResourceMetadata,
                self.resource_metadata,
            ),
        ]

    async def alive(self, _: Visit[Nothing, Nothing]) -> Answer:
        """Answer 200 while the process runs."""
        return Answer(Alive(status="ok"))

    async def ready(self, _: Visit[Nothing, Nothing]) -> Answer:
        """Answer 200 when every component works, else 503; both name each component."""
        healths = [component() for component in self._components]
        ready = all(health.ready for health in healths)
        components = {h.component: ComponentOut(ready=h.ready, detail=h.detail) for h in healths}
        return Answer(Readiness(ready=ready, components=components), status=200 if ready else 503)

    async def metrics(self, _: Visit[Nothing, Nothing]) -> Answer:
        """Answer the page that Prometheus reads."""
        page = self._metrics.page(component() for component in self._components)
        return Answer(page, content_type=self._metrics.content_type)

    async def openapi(self, _: Visit[Nothing, Nothing]) -> Answer:
        """Answer the OpenAPI document."""
        return Answer(self._openapi())

    async def resource_metadata(self, visit: Visit[Nothing, Nothing]) -> Answer:
        """Answer where tokens for this service come from."""
        return Answer(
            ResourceMetadata(
                resource=visit.origin,
                authorization_servers=[issuer.issuer for issuer in self._issuers],
                bearer_methods_supported=["header"],
                issuers=[
                    IssuerOut(name=issuer.name, issuer=issuer.issuer, cli_client_id=issuer.cli_client_id)
                    for issuer in self._issuers
                ],
            )
        )
