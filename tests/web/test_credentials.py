"""`POST /v1/credentials`: the answer to the letter, sealed answers, and retries that are safe."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient
from joserfc import jwe
from joserfc.jwk import ECKey, OKPKey

from broker import errors
from broker.web.credentials import CredentialBody, Credentials
from broker.web.routes import Nothing, Visit
from tests.doubles.issuing import CALLER, SOURCE
from tests.doubles.web import PASSWORD, PRIVATE_KEY
from tests.web.conftest import GOOD, Hall

Client = TestClient[web.Request, web.Application]
KEYED = {**GOOD, "Idempotency-Key": "k1"}


async def ask(client: Client, headers: dict[str, str] | None = None, **body: Any) -> ClientResponse:
    return await client.post("/v1/credentials", json={"instance": "web-1", **body}, headers=headers or GOOD)


COMMON: dict[str, Any] = {
    "lease": {"id": "l1", "issued_at": "2026-03-01T12:00:00.000Z", "expires_at": "2026-03-01T12:13:00.000Z"},
    "host": "203.0.113.7",
    "ipv6_addresses": [],
    "revocable": False,
    "warnings": ["A warning."],
    "decision": {"policies": ["ops-ssh"]},
    "audit": {"index": 1, "leaf_hash": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="},
}


async def test_an_ssh_credential_is_answered_to_the_letter(client: Client) -> None:
    response = await ask(client)
    assert response.status == 201
    assert response.content_type == "application/json"
    assert await response.json() == {
        **COMMON,
        "instance": {"account": "main", "region": "eu-west-1", "name": "web-1", "platform": "LINUX_UNIX"},
        "protocol": "ssh",
        "port": 22,
        "username": "ec2-user",
        "ssh": {
            "private_key": PRIVATE_KEY,
            "certificate": "CERT",
            "known_hosts": ["203.0.113.7 ssh-ed25519 AAAA"],
            "expires_at": "2026-03-01T12:13:00.000Z",
        },
    }


async def test_an_rdp_credential_is_answered_to_the_letter(client: Client) -> None:
    response = await ask(client, protocol="rdp")
    assert response.status == 201
    assert await response.json() == {
        **COMMON,
        "instance": {"account": "main", "region": "eu-west-1", "name": "win-1", "platform": "WINDOWS"},
        "protocol": "rdp",
        "port": 3389,
        "username": "Administrator",
        "rdp": {
            "password": PASSWORD,
            "certificate_sha256": ["ab:cd"],
            "file": "full address:s:x\r\n",
            "expires_at": None,
        },
    }


KEYS: dict[str, ECKey | OKPKey] = {"P-256": ECKey.generate_key("P-256"), "X25519": OKPKey.generate_key("X25519")}


def public(key: ECKey | OKPKey) -> dict[str, Any]:
    return {name: value for name, value in key.as_dict(private=False).items() if name in {"kty", "crv", "x", "y"}}


@pytest.mark.parametrize("curve", KEYS)
@pytest.mark.parametrize("protocol", ["ssh", "rdp"])
async def test_a_sealed_answer_holds_the_same_object_and_nothing_of_it_in_clear(
    client: Client, curve: str, protocol: str
) -> None:
    in_clear = (await (await ask(client, protocol=protocol)).json())[protocol]
    response = await ask(client, protocol=protocol, seal_to=public(KEYS[curve]))
    text = await response.text()
    document = json.loads(text)
    assert set(document) == {*COMMON, "instance", "protocol", "port", "username", "sealed"}
    opened = jwe.decrypt_compact(document["sealed"], KEYS[curve], algorithms=["ECDH-ES", "A256GCM"])
    assert opened.headers()["alg"] == "ECDH-ES"
    assert opened.headers()["enc"] == "A256GCM"
    assert opened.plaintext is not None
    assert json.loads(opened.plaintext) == in_clear
    assert not any(line in text for line in (PASSWORD, "not a key", "known_hosts"))


@pytest.mark.parametrize("seal_to", [{}, {"seal_to": public(KEYS["X25519"])}], ids=["open", "sealed"])
async def test_the_length_of_an_answer_tells_nothing_of_the_password_s(
    client: Client, hall: Hall, seal_to: dict[str, Any]
) -> None:
    lengths = set()
    for hall.desk.password in ("p" * 8, "p" * 64, '"\\' * 31, "p" * 127):
        response = await ask(client, protocol="rdp", **seal_to)
        assert seal_to or (await response.json())["rdp"]["password"] == hall.desk.password
        lengths.add(len(await response.read()))
    assert len(lengths) == 1


async def test_a_key_that_is_no_point_of_its_curve_is_refused_before_anything_is_issued(
    client: Client, hall: Hall
) -> None:
    point = public(KEYS["P-256"])
    response = await ask(client, seal_to={**point, "y": point["x"]})
    assert response.status == 400
    assert not hall.desk.asked


async def test_two_requests_at_once_under_one_key_are_one_issue(client: Client, hall: Hall) -> None:
    hall.desk.gate.clear()
    first = asyncio.create_task(ask(client, KEYED))
    await hall.desk.has_been_asked(1)
    second = asyncio.create_task(ask(client, KEYED))
    await asyncio.sleep(0.05)
    hall.desk.gate.set()
    answers = [await (await task).json() for task in (first, second)]
    assert answers[0] == answers[1]
    assert len(hall.desk.asked) == 1


async def test_a_request_without_a_key_joins_nothing(client: Client, hall: Hall) -> None:
    hall.desk.gate.clear()
    running = [asyncio.create_task(ask(client, headers)) for headers in (KEYED, GOOD, GOOD)]
    await hall.desk.has_been_asked(3)
    hall.desk.gate.set()
    assert [(await task).status for task in running] == [201] * 3


async def test_who_asks_first_may_leave_and_the_other_still_gets_it(client: Client, hall: Hall) -> None:
    hall.desk.gate.clear()
    first = asyncio.create_task(ask(client, KEYED))
    await hall.desk.has_been_asked(1)
    second = asyncio.create_task(ask(client, KEYED))
    await asyncio.sleep(0.05)
    first.cancel()
    await asyncio.sleep(0.05)
    hall.desk.gate.set()
    assert (await second).status == 201
    assert len(hall.desk.asked) == 1


async def test_a_joined_call_goes_on_when_the_one_that_began_it_is_cancelled(hall: Hall) -> None:
    credentials = Credentials(hall.desk)
    visit = Visit(
        request_id="r1",
        source=SOURCE,
        service="https://broker",
        path={},
        query=Nothing(),
        body=CredentialBody(instance="web-1"),
        idempotency_key="k1",
    )
    hall.desk.gate.clear()
    first = asyncio.create_task(credentials.create(visit, CALLER))
    await hall.desk.has_been_asked(1)
    second = asyncio.create_task(credentials.create(visit, CALLER))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    hall.desk.gate.set()
    assert (await second).status == 201
    assert first.cancelled()
    assert len(hall.desk.asked) == 1


async def test_what_is_wrong_with_a_reason_is_said_plainly(client: Client) -> None:
    refusal = await (await ask(client, reason="a\tb")).json(content_type=None)
    assert refusal["detail"] == "reason: use printable characters on one line"


async def test_another_body_under_the_same_key_is_refused(client: Client, hall: Hall) -> None:
    hall.desk.gate.clear()
    first = asyncio.create_task(ask(client, KEYED))
    await hall.desk.has_been_asked(1)
    other = await ask(client, KEYED, reason="another")
    assert (other.status, (await other.json(content_type=None))["code"]) == (400, "invalid_request")
    hall.desk.gate.set()
    assert (await first).status == 201
    assert len(hall.desk.asked) == 1


OTHERS = {
    "another person": replace(CALLER, subject="bob"),
    "another issuer's alice": replace(CALLER, issuer="other"),
    "alice with another token": replace(CALLER, token_id="fedcba9876543210"),
    "alice without her second factor": replace(CALLER, mfa=not CALLER.mfa),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS.keys())
async def test_the_same_key_of_somebody_else_is_another_key(client: Client, hall: Hall, other: Any) -> None:
    hall.tokens["other"] = other
    hall.desk.gate.clear()
    mine = asyncio.create_task(ask(client, KEYED))
    theirs = asyncio.create_task(ask(client, {**KEYED, "Authorization": "Bearer other"}, reason="another"))
    async with asyncio.timeout(5):
        await hall.desk.has_been_asked(2)
    hall.desk.gate.set()
    assert [(await task).status for task in (mine, theirs)] == [201, 201]
    assert {asking.caller for asking in hall.desk.asked} == {CALLER, other}


async def test_a_failed_call_is_not_remembered(client: Client, hall: Hall) -> None:
    hall.desk.error = errors.UpstreamUnavailable(retry_after=1)
    assert (await ask(client, KEYED)).status == 503
    hall.desk.error = None
    assert (await ask(client, KEYED)).status == 201
    assert len(hall.desk.asked) == 2


async def test_everybody_who_joined_learns_of_the_failure(client: Client, hall: Hall) -> None:
    hall.desk.gate.clear()
    running = [asyncio.create_task(ask(client, KEYED)) for _ in range(3)]
    await hall.desk.has_been_asked(1)
    await asyncio.sleep(0.05)
    hall.desk.error = errors.AuditUnavailable()
    hall.desk.gate.set()
    assert [(await task).status for task in running] == [503] * 3
    assert len(hall.desk.asked) == 1


async def test_a_credential_is_not_kept_for_a_later_retry(client: Client, hall: Hall) -> None:
    first, second = [(await (await ask(client, KEYED)).json())["audit"]["index"] for _ in range(2)]
    assert (first, second) == (1, 2)
    assert len(hall.desk.asked) == 2


async def test_a_decision_says_what_would_be(client: Client) -> None:
    response = await client.post("/v1/decisions", json={"instance": "web-1"}, headers=GOOD)
    assert (response.status, await response.json()) == (
        200,
        {"decision": "allow", "policies": ["ops-ssh"], "obligations": []},
    )


async def test_the_desk_hears_who_asks_for_what_and_under_which_id(client: Client, hall: Hall) -> None:
    response = await ask(client, {**GOOD, "User-Agent": 'x"\\\u00e9y'}, reason="r", ticket="t", break_glass=True)
    (asking,) = hall.desk.asked
    assert asking.caller == CALLER
    assert asking.request_id == response.headers["X-Request-Id"]
    assert (asking.request.reason, asking.request.ticket, asking.request.break_glass) == ("r", "t", True)
    assert (asking.source.ip, asking.source.user_agent) == ("127.0.0.1", "xy")
