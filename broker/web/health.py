"""What describes the service and how it is: health, metrics, OpenAPI, and the metadata of RFC 9728."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from pydantic import BaseModel

from broker.identity.binding import ALGORITHMS
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


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedIssuer:
    """What a client may know about an issuer."""

    name: str
    issuer: str
    audience: str
    require_binding: bool
    cli_client_id: str
    cli_scopes: tuple[str, ...]
    cli_resource: str


class IssuerOut(Output):
    """An issuer that is trusted here, and how the command line logs in at it: the public OAuth client, what to ask for.

    `resource` is the resource indicator (RFC 8707) to ask with, "" for none.
    """

    name: str
    issuer: str
    audience: str
    require_binding: bool
    cli_client_id: str
    scopes: list[str]
    resource: str


class ResourceMetadata(Output):
    """OAuth 2.0 protected resource metadata (RFC 9728), and in `issuers` what the command line needs."""

    resource: str
    authorization_servers: list[str]
    bearer_methods_supported: list[str]
    dpop_signing_alg_values_supported: list[str]
    dpop_bound_access_tokens_required: bool
    tls_client_certificate_bound_access_tokens: bool
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
        *,
        client_certificates: bool = False,
    ) -> None:
        self._components = components
        self._metrics = metrics
        self._issuers = issuers
        self._openapi = cache(openapi)
        self._client_certificates = client_certificates

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
        issuers = self._issuers
        bound_always = all(issuer.require_binding for issuer in issuers)
        return Answer(
            ResourceMetadata(
                resource=visit.service,
                authorization_servers=[issuer.issuer for issuer in issuers],
                bearer_methods_supported=["header"],
                dpop_signing_alg_values_supported=list(ALGORITHMS),
                dpop_bound_access_tokens_required=bound_always and not self._client_certificates,
                tls_client_certificate_bound_access_tokens=self._client_certificates,
                issuers=[
                    IssuerOut(
                        name=issuer.name,
                        issuer=issuer.issuer,
                        audience=issuer.audience,
                        require_binding=issuer.require_binding,
                        cli_client_id=issuer.cli_client_id,
                        scopes=list(issuer.cli_scopes),
                        resource=issuer.cli_resource,
                    )
                    for issuer in issuers
                ],
            )
        )
