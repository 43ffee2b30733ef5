"""The edge: what never gets to a handler, and what every answer carries."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient

from broker import errors
from broker.model import Health
from broker.web.doors import Admission
from broker.web.rates import RateLimit
from tests.doubles.web import PASSWORD, PRIVATE_KEY
from tests.web.conftest import GOOD, Hall

Client = TestClient[Any, Any]
BODY = {"instance": "web-1"}


async def problem_of(response: ClientResponse) -> dict[str, Any]:
    assert response.content_type == "application/problem+json"
    document = await response.json(content_type=None)
    assert {"type", "title", "status", "detail", "code", "request_id"} <= set(document)
    assert document["status"] == response.status
    assert document["request_id"] == response.headers["X-Request-Id"]
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Authorization", "Bearer bad")],
        [("Authorization", "Bearer good"), ("Authorization", "Bearer good")],
        [("Cookie", "token=good")],
    ],
)
async def test_whoever_is_not_vouched_for_gets_one_and_the_same_401(
    client: Client, headers: list[tuple[str, str]]
) -> None:
    response = await client.post("/v1/credentials", json=BODY, headers=headers)
    document = await problem_of(response)
    assert (response.status, document["code"]) == (401, "invalid_token")
    document.pop("request_id")
    assert document == {
        "type": "urn:lightsail-credential-broker:problem:invalid_token",
        "title": errors.InvalidToken.sentence,
        "detail": errors.InvalidToken.sentence,
        "status": 401,
        "code": "invalid_token",
    }
    bearer, dpop = response.headers.getall("WWW-Authenticate")
    metadata = f'resource_metadata="{client.make_url("/.well-known/oauth-protected-resource")}"'
    assert bearer == f'Bearer error="invalid_token", {metadata}'
    assert dpop == f'DPoP error="invalid_token", algs="ES256 ES384 EdDSA Ed25519 RS256 PS256", {metadata}'


async def test_a_token_in_the_query_is_not_looked_at(client: Client, hall: Hall) -> None:
    response = await client.get("/v1/instances?access_token=good")
    assert response.status == 401
    assert not hall.desk.asked


BAD_BODIES = {
    "not JSON": b"{",
    "a list": b"[]",
    "text": b'"web-1"',
    "a duplicate member": b'{"instance": "web-1", "instance": "web-2"}',
    "an unknown member": b'{"instance": "web-1", "sudo": true}',
    "a wrong type": b'{"instance": 7}',
    "a text for a truth value": b'{"instance": "web-1", "break_glass": "yes"}',
    "a number for a truth value": b'{"instance": "web-1", "break_glass": 1}',
    "no instance": b"{}",
    "nothing": b"",
    "NaN": b'{"instance": NaN}',
    "a trailing comma": b'{"instance": "web-1",}',
    "a comment": b'{"instance": "web-1"} // x',
    "a byte order mark": b'\xef\xbb\xbf{"instance": "web-1"}',
    "UTF-16": '{"instance": "web-1"}'.encode("utf-16"),
    "broken UTF-8": b'{"instance": "web-\xff"}',
    "a lone surrogate": b'{"instance": "web-1", "reason": "\\ud800"}',
    "a line break in the reason": b'{"instance": "web-1", "reason": "a\\nb"}',
    "great depth": b"[" * 8000 + b"]" * 8000,
    "a deep member": b'{"instance": "web-1", "seal_to": ' + b'{"a":' * 500 + b"1" + b"}" * 501,
    "an unknown protocol": b'{"instance": "web-1", "protocol": "telnet"}',
    "a long reason": json.dumps({"instance": "web-1", "reason": "x" * 501}).encode(),
    "a private key to seal to": b'{"instance":"web-1","seal_to":{"kty":"EC","crv":"P-256","x":"a","y":"b","d":"c"}}',
    "an empty key to seal to": b'{"instance": "web-1", "seal_to": {}}',
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES.keys())
async def test_a_bad_body_is_a_400_that_repeats_nothing_of_it(client: Client, hall: Hall, body: bytes) -> None:
    response = await client.post("/v1/credentials", data=body, headers={**GOOD, "Content-Type": "application/json"})
    document = await problem_of(response)
    assert (response.status, document["code"]) == (400, "invalid_request")
    assert "sudo" not in json.dumps(document)
    assert not hall.desk.asked


async def test_a_body_over_16_kib_is_a_413(client: Client) -> None:
    response = await client.post(
        "/v1/credentials", data=b" " * (16 * 1024 + 1), headers={**GOOD, "Content-Type": "application/json"}
    )
    assert response.status == 413
    assert (await problem_of(response))["code"] == "invalid_request"


async def test_a_slow_body_takes_nobody_s_place(hall: Hall) -> None:
    hall.admission = Admission(1, patience=0.01)
    arrived, others_are_served = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b'{"instance":'
        arrived.set()
        await others_are_served.wait()
        yield b' "web-1"}'

    async with TestClient(hall.server()) as client:
        headers = {**GOOD, "Content-Type": "application/json"}
        slow = asyncio.create_task(client.post("/v1/credentials", data=slowly(), headers=headers))
        await arrived.wait()
        assert {(await client.get("/v1/instances", headers=GOOD)).status for _ in range(10)} == {200}
        others_are_served.set()
        assert (await slow).status == 201


async def test_only_json_is_read(client: Client) -> None:
    response = await client.post(
        "/v1/credentials", data=b'{"instance": "web-1"}', headers={**GOOD, "Content-Type": "text/plain"}
    )
    assert response.status == 400


@pytest.mark.parametrize("query", ["?colour=blue", "?limit=1&limit=2", "?limit=many", "?limit=0", "?cursor=%00"])
async def test_a_bad_query_is_a_400(client: Client, query: str) -> None:
    response = await client.get(f"/v1/instances{query}", headers=GOOD)
    assert response.status == 400, await response.text()
    await problem_of(response)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
async def test_credentials_are_made_by_post_alone(client: Client, hall: Hall, method: str) -> None:
    response = await client.request(method, "/v1/credentials", headers=GOOD)
    assert response.status == 405
    assert response.headers["Allow"] == "POST"
    assert not hall.desk.asked


async def test_a_route_that_is_not_there_is_a_404_problem(client: Client) -> None:
    assert (await problem_of(await client.get("/v1/nothing")))["code"] == "not_found"


async def test_every_answer_has_an_id_of_our_own_and_no_banner(client: Client) -> None:
    ids = set()
    for path in ("/healthz", "/v1/nothing", "/v1/instances"):
        response = await client.get(path, headers={"X-Request-Id": "mine"})
        ids.add(response.headers["X-Request-Id"])
        assert "Server" not in response.headers
        assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert len(ids) == 3
    assert all(re.fullmatch("[0-9a-f]{32}", request_id) for request_id in ids)


@pytest.mark.parametrize("sent", ["x" * 8000, "a\"b'\\c", "<script>", "\u00ff\u00fe", "0" * 32])
async def test_an_id_that_comes_along_is_not_taken_whatever_it_is(client: Client, log: BytesIO, sent: str) -> None:
    response = await client.get("/healthz", headers={"X-Request-Id": sent})
    assert re.fullmatch("[0-9a-f]{32}", response.headers["X-Request-Id"])
    assert response.headers["X-Request-Id"] != sent
    assert json.loads(log.getvalue())["request_id"] == response.headers["X-Request-Id"]


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_no_other_origin_is_let_in_and_nothing_is_compressed(client: Client, method: str) -> None:
    asked = {
        **GOOD,
        "Origin": "https://elsewhere.example",
        "Access-Control-Request-Method": "POST",
        "Accept-Encoding": "gzip, deflate, br, zstd",
    }
    for path in ("/v1/credentials", "/v1/blueprints", "/openapi.json", "/healthz"):
        response = await client.request(method, path, headers=asked)
        assert not [name for name in response.headers if name.lower().startswith("access-control-")]
        assert "Content-Encoding" not in response.headers


async def test_nothing_under_v1_is_stored(client: Client) -> None:
    for path in ("/v1/instances", "/v1/nothing", "/v1/blueprints"):
        assert (await client.get(path, headers=GOOD)).headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.Denied("secret cause"), 403),
        (errors.StepUpRequired(next_step="Log in."), 401),
        (errors.ReasonRequired(), 403),
        (errors.PasswordNotReady(retry_after=30), 409),
        (errors.AmbiguousInstance(choices=("a/b/web-1",)), 409),
        (errors.KeyNotHeld(), 422),
        (errors.PasswordUndecryptable(), 422),
        (errors.UpstreamError(upstream_code="AccessDeniedException"), 502),
        (errors.UpstreamUnavailable(retry_after=5), 503),
        (errors.AuditUnavailable(), 503),
    ],
)
async def test_every_error_of_the_desk_has_its_status_and_code(
    client: Client, hall: Hall, error: errors.BrokerError, status: int
) -> None:
    hall.desk.error = error
    response = await client.post("/v1/credentials", json=BODY, headers=GOOD)
    document = await problem_of(response)
    assert (response.status, document["code"]) == (status, error.code)
    assert document.get("upstream_code", "") == error.upstream_code
    assert response.headers.get("Retry-After") == (str(error.retry_after) if error.retry_after else None)
    assert "secret cause" not in json.dumps(document)


async def test_an_unexpected_failure_is_a_500_that_tells_nothing(client: Client, hall: Hall, log: BytesIO) -> None:
    hall.desk.error = KeyError(PASSWORD)  # type: ignore[assignment] # what nobody planned for
    response = await client.post("/v1/credentials", json=BODY, headers=GOOD)
    document = await problem_of(response)
    assert (response.status, document["code"]) == (500, "internal_error")
    assert PASSWORD not in json.dumps(document)
    failure, request = map(json.loads, log.getvalue().splitlines())
    assert failure["error"] == "KeyError"
    assert any("broker.web" in frame for frame in failure["frames"])
    assert request["status"] == 500
    assert PASSWORD.encode() not in log.getvalue()


async def test_more_at_once_than_fit_are_turned_away_and_the_others_served(hall: Hall) -> None:
    hall.desk.gate.clear()
    async with TestClient(hall.server()) as client:
        running = [asyncio.create_task(client.post("/v1/credentials", json=BODY, headers=GOOD)) for _ in range(8)]
        await hall.desk.has_been_asked(8)
        turned_away = await client.post("/v1/credentials", json=BODY, headers=GOOD)
        assert (turned_away.status, turned_away.headers["Retry-After"]) == (503, "1")
        assert (await client.get("/healthz")).status == 200
        hall.desk.gate.set()
        assert [response.status for response in await asyncio.gather(*running)] == [201] * 8
        assert (await client.post("/v1/credentials", json=BODY, headers=GOOD)).status == 201


async def test_whoever_is_still_being_asked_who_they_are_takes_nobodys_place(hall: Hall) -> None:
    async with TestClient(hall.server()) as client:
        strangers = [
            asyncio.create_task(client.get("/v1/blueprints", headers={"Authorization": "Bearer slow"}))
            for _ in range(20)
        ]
        await asyncio.sleep(0.2)
        assert (await client.post("/v1/credentials", json=BODY, headers=GOOD)).status == 201
        for stranger in strangers:
            stranger.cancel()


async def test_who_asks_too_often_is_told_when_to_come_back(hall: Hall) -> None:
    now = [0.0]
    hall.rate = RateLimit(3, lambda: now[0])
    async with TestClient(hall.server()) as client:
        statuses = [(await client.get("/v1/blueprints", headers=GOOD)).status for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        response = await client.get("/v1/blueprints", headers=GOOD)
        assert (await problem_of(response))["code"] == "rate_limited"
        now[0] += int(response.headers["Retry-After"])
        assert (await client.get("/v1/blueprints", headers=GOOD)).status == 200


async def test_readiness_names_what_does_not_work_and_life_goes_on(client: Client, hall: Hall) -> None:
    assert (await client.get("/readyz")).status == 200
    hall.health[0] = Health("audit", ready=False, detail="the disk is full")
    response = await client.get("/readyz")
    assert response.status == 503
    assert (await response.json())["components"]["audit"] == {"ready": False, "detail": "the disk is full"}
    assert (await client.get("/healthz")).status == 200
    assert 'broker_component_ready{component="audit"} 0.0' in await (await client.get("/metrics")).text()


async def test_metrics_hold_route_templates_and_no_names(client: Client) -> None:
    await client.get("/v1/instances/main/eu-west-1/web-0", headers=GOOD)
    await client.get("/nobody-knows-this")
    page = await (await client.get("/metrics")).text()
    assert 'route="/v1/instances/{account}/{region}/{name}"' in page
    assert "web-0" not in page
    assert "nobody" not in page


async def test_the_private_key_is_in_the_answer_and_nowhere_else(client: Client, log: BytesIO) -> None:
    response = await client.post("/v1/credentials", json=BODY, headers=GOOD)
    assert (await response.json())["ssh"]["private_key"] == PRIVATE_KEY
    assert json.loads(log.getvalue())["route"] == "/v1/credentials"
    assert b"not a key" not in log.getvalue()
    assert "not a key" not in await (await client.get("/metrics")).text()


async def test_the_metadata_say_how_tokens_may_be_bound_and_how_to_log_in(client: Client) -> None:
    document = await (await client.get("/.well-known/oauth-protected-resource")).json()
    assert document["dpop_signing_alg_values_supported"][0] == "ES256"
    assert document["dpop_bound_access_tokens_required"] is False
    assert document["tls_client_certificate_bound_access_tokens"] is False
    assert document["issuers"] == [
        {
            "name": "corp",
            "issuer": "https://id.example.com",
            "audience": "lightsail-broker",
            "require_binding": False,
            "cli_client_id": "cli",
            "scopes": ["openid", "creds"],
            "resource": "https://broker.example.com",
        }
    ]
