"""The description of the service: valid, complete, and kept by every answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from broker import errors
from broker.model import Health
from tests.web.conftest import GOOD, Hall

Client = TestClient[web.Request, web.Application]
Document = dict[str, Any]


class Description:
    """The OpenAPI document, and whether an answer keeps to it."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.seen: set[tuple[str, str, str]] = set()

    async def check(self, method: str, path: str, response: ClientResponse) -> None:
        """Fail when status, content type or content are not as described."""
        answers = self.document["paths"][path][method.lower()]["responses"]
        where = f"{method} {path} {response.status}"
        assert str(response.status) in answers, where
        self.seen.add((method, path, str(response.status)))
        content = answers[str(response.status)].get("content", {})
        body = await response.read()
        if not content:
            assert body == b"", where
            return
        assert response.content_type in content, where
        if "json" in response.content_type:
            schema = {**content[response.content_type]["schema"], "components": self.document["components"]}
            faults = [fault.message for fault in OAS31Validator(schema).iter_errors(json.loads(body))]
            assert faults == [], where


@pytest.fixture
async def description(client: Client) -> Description:
    return Description(await (await client.get("/openapi.json")).json())


def test_it_is_valid_openapi_3_1(hall: Hall) -> None:
    document = json.loads(json.dumps(hall.document()))
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()


def test_every_mounted_route_is_described_and_nothing_else(hall: Hall) -> None:
    document = hall.document()
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    mounted = {
        (route.method, route.resource.canonical)
        for route in hall.application().router.routes()
        if route.resource is not None
    }
    assert described == mounted
    identifiers = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(set(identifiers)) == len(identifiers)


def test_what_needs_a_token_says_so(hall: Hall) -> None:
    for path, item in hall.document()["paths"].items():
        for operation in item.values():
            assert bool(operation["security"]) is path.startswith("/v1/"), path
            assert ("401" in operation["responses"]) is path.startswith("/v1/"), path


PATHS = {
    "/healthz": "/healthz",
    "/metrics": "/metrics",
    "/openapi.json": "/openapi.json",
    "/.well-known/oauth-protected-resource": "/.well-known/oauth-protected-resource",
    "/v1/instances?limit=2": "/v1/instances",
    "/v1/instances?limit=0": "/v1/instances",
    "/v1/instances/main/eu-west-1/web-0": "/v1/instances/{account}/{region}/{name}",
    "/v1/instances/main/eu-west-1/web-4": "/v1/instances/{account}/{region}/{name}",
    "/v1/blueprints": "/v1/blueprints",
    "/v1/bundles?blueprint=amazon_linux_2023": "/v1/bundles",
    "/v1/bundles?blueprint=no-such": "/v1/bundles",
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("headers", [GOOD, {}], ids=["with a token", "without"])
async def test_what_is_read_answers_as_described(
    client: Client, description: Description, path: str, headers: dict[str, str]
) -> None:
    response = await client.get(path, headers=headers)
    await description.check("GET", PATHS[path], response)


async def test_what_has_not_changed_answers_as_described(client: Client, description: Description) -> None:
    for path in ("/v1/blueprints", "/v1/bundles"):
        etag = (await client.get(path, headers=GOOD)).headers["ETag"]
        await description.check("GET", path, await client.get(path, headers={**GOOD, "If-None-Match": etag}))
    assert {status for _, _, status in description.seen} == {"304"}


async def test_readiness_answers_as_described_whatever_it_is(
    client: Client, hall: Hall, description: Description
) -> None:
    for ready in (True, False):
        hall.health[0] = Health("audit", ready=ready)
        await description.check("GET", "/readyz", await client.get("/readyz"))
    assert {status for _, _, status in description.seen} == {"200", "503"}


@pytest.mark.parametrize("protocol", ["ssh", "rdp"])
async def test_credentials_and_decisions_answer_as_described(
    client: Client, description: Description, protocol: str
) -> None:
    body = {"instance": "web-1", "protocol": protocol}
    for path in ("/v1/credentials", "/v1/decisions"):
        await description.check("POST", path, await client.post(path, json=body, headers=GOOD))
    assert {status for _, _, status in description.seen} == {"200", "201"}


ERRORS = [
    *(errors.Denied, errors.StepUpRequired, errors.ReasonRequired, errors.TicketRequired, errors.ApprovalRequired),
    *(errors.AmbiguousInstance, errors.InstanceNotRunning, errors.PasswordNotReady, errors.ProtocolNotSupported),
    *(errors.KeyNotHeld, errors.PasswordUndecryptable, errors.UpstreamError, errors.UpstreamUnavailable),
    *(errors.AuditUnavailable, errors.PoliciesUnavailable, errors.KeysUnavailable, errors.HostKeyChanged),
    *(errors.BudgetExhausted, errors.BrokerError),
]


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.code)
async def test_every_refusal_of_the_desk_is_described_by_its_code(
    client: Client, hall: Hall, description: Description, kind: type[errors.BrokerError]
) -> None:
    hall.desk.error = kind(retry_after=3, next_step="Wait.", choices=("a/b/c",), upstream_code="X")
    response = await client.post("/v1/credentials", json={"instance": "web-1"}, headers=GOOD)
    await description.check("POST", "/v1/credentials", response)
    answers = description.document["paths"]["/v1/credentials"]["post"]["responses"]
    assert kind.code in answers[str(response.status)]["description"]


async def test_what_the_edge_refuses_is_described(client: Client, description: Description) -> None:
    json_headers = {**GOOD, "Content-Type": "application/json"}
    for body, headers in (
        (b"{", json_headers),
        (b" " * 20_000, json_headers),
        (b"{}", {}),
        (b"{}", {**json_headers, "Content-Encoding": "gzip"}),
    ):
        response = await client.post("/v1/credentials", data=body, headers=headers)
        await description.check("POST", "/v1/credentials", response)
    assert {status for _, _, status in description.seen} == {"400", "401", "413", "415"}
