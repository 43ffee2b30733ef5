"""Tokens that are bound to a key, against the whole service: our own client by itself, and thieves of every kind."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import http.client
import json
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession, TCPConnector
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate

from broker.client.proofs import ProofKey
from tests.doubles.client import Authority
from tests.doubles.identity import Prover
from tests.end_to_end.places import LINUX, Place, Running, a_place

CREDENTIALS = "/v1/credentials"


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    folder = tmp_path / "place"
    folder.mkdir()
    async with a_place(folder, [{**LINUX, "name": "web-1"}]) as place:
        yield place


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    (tmp_path / "authority").mkdir()
    return Authority(tmp_path / "authority")


def of_our_client(place: Place, service: Running, token: str, **more: str) -> dict[str, str]:
    return {
        "BROKER_URL": service.url,
        "BROKER_CA_FILE": str(place.folder / "ca.pem"),
        "BROKER_TOKEN": token,
        **more,
    }


async def test_our_client_proves_its_key_by_itself(place: Place, tmp_path: Path) -> None:
    (place.folder / "policies" / "all.cedar").write_text(
        '@id("bound-only")\npermit(principal, action, resource) when { context.bound };\n'
    )
    key, other = ProofKey.generate(), ProofKey.generate()
    for name, each in (("key.pem", key), ("other.pem", other)):
        (tmp_path / name).touch(0o600)
        (tmp_path / name).write_text(each.pem())
    token = place.token_with(cnf={"jkt": key.thumbprint})
    async with place.serving() as service:
        good = of_our_client(place, service, token, BROKER_DPOP_KEY=str(tmp_path / "key.pem"))
        listed = await place.broker("ls", "--format", "json", **good)
        issued = await place.broker("get", "web-1", **good)
        stolen = await place.broker("get", "web-1", **of_our_client(place, service, token))
        wrong = await place.broker("get", "web-1", **good | {"BROKER_DPOP_KEY": str(tmp_path / "other.pem")})
        bearer = await place.broker("get", "web-1", **of_our_client(place, service, place.token))
    assert (listed.code, issued.code) == (0, 0), listed.err + issued.err
    assert json.loads(issued.out)["decision"]["policies"] == ["bound-only"]
    assert (stolen.code, wrong.code) == (3, 3)
    assert "(invalid_token)" in stolen.err
    assert "(invalid_token)" in wrong.err
    assert (bearer.code, "(denied)" in bearer.err) == (3, True)


async def ask(service: Running, token: str, proof: str, **headers: str) -> ClientResponse:
    bound = {"Authorization": f"DPoP {token}", "DPoP": proof, **headers}
    async with service.session.post(service.url + CREDENTIALS, json={"instance": "web-1"}, headers=bound) as response:
        await response.read()
        return response


async def test_the_first_answer_names_the_nonce_with_which_the_next_one_holds(place: Place) -> None:
    nonces = [""]
    prover = Prover(lambda: datetime.now(UTC), lambda: nonces[-1])
    token = place.token_with(cnf={"jkt": prover.thumbprint})
    async with place.serving() as service:
        address = service.url + CREDENTIALS
        first = await ask(service, token, prover.proof(token, htu=address))
        assert first.status == 401
        bearer, dpop = first.headers.getall("WWW-Authenticate")
        assert bearer.startswith('Bearer error="invalid_token"')
        assert dpop.startswith('DPoP error="use_dpop_nonce", algs="ES256 ')
        nonces.append(first.headers["DPoP-Nonce"])
        proof = prover.proof(token, htu=address)
        second = await ask(service, token, proof)
        assert (second.status, bool(second.headers["DPoP-Nonce"])) == (201, True)
        replayed = await ask(service, token, proof)
        assert replayed.status == 401
        assert 'DPoP error="invalid_token"' in replayed.headers.getall("WWW-Authenticate")[1]
        elsewhere = await ask(service, token, prover.proof(token, htu="https://evil.test/v1/credentials"))
        assert elsewhere.status == 401
    assert "proof_replayed" in place.log
    assert token not in place.log
    assert proof not in place.log


async def test_a_proof_for_another_host_is_refused_though_the_request_names_that_host(place: Place) -> None:
    """As it would be sent on to us by whoever lured a caller to evil.test."""
    place.environment["BROKER__SERVER__TRUSTED_PROXIES"] = '["127.0.0.0/8"]'
    nonces = [""]
    prover = Prover(lambda: datetime.now(UTC), lambda: nonces[-1])
    token = place.token_with(cnf={"jkt": prover.thumbprint})
    says = [{"Host": "evil.test"}, {"X-Forwarded-Host": "evil.test"}, {"Forwarded": "host=evil.test;proto=https"}]
    async with place.serving() as service:
        address = f"{service.url}/v1/credentials"
        nonces.append((await ask(service, token, prover.proof(token, htu=address))).headers["DPoP-Nonce"])
        for headers in says:
            proof = prover.proof(token, htu="https://evil.test/v1/credentials")
            assert (await ask(service, token, proof, **headers)).status == 401
        lured = await service.session.get(f"{service.url}/.well-known/oauth-protected-resource", headers=says[0])
        assert "evil" not in await lured.text()
        assert (await ask(service, token, prover.proof(token, htu=address))).status == 201
    assert place.log.count("proof_for_another") == len(says)


async def test_behind_a_proxy_the_address_is_the_one_that_the_operator_names(place: Place) -> None:
    place.environment["BROKER__SERVER__PUBLIC_URLS"] = '["https://broker.example.com", "https://b.test:8443/"]'
    nonces = [""]
    prover = Prover(lambda: datetime.now(UTC), lambda: nonces[-1])
    token = place.token_with(cnf={"jkt": prover.thumbprint})
    first, second = (f"https://{host}/v1/credentials" for host in ("broker.example.com", "b.test:8443"))
    async with place.serving() as service:
        nonces.append((await ask(service, token, prover.proof(token, htu=first))).headers["DPoP-Nonce"])
        assert (await ask(service, token, prover.proof(token, htu=first))).status == 201
        assert (await ask(service, token, prover.proof(token, htu=second))).status == 401
        assert (await ask(service, token, prover.proof(token, htu=second), Host="b.test:8443")).status == 201
        assert (await ask(service, token, prover.proof(token, htu=f"{service.url}/v1/credentials"))).status == 401
        metadata = await service.session.get(f"{service.url}/.well-known/oauth-protected-resource")
        assert (await metadata.json())["resource"] == "https://broker.example.com"


def thumbprint(certificate: str) -> str:
    der = load_pem_x509_certificate(Path(certificate).read_bytes()).public_bytes(Encoding.DER)
    return base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()


async def test_a_token_bound_to_a_certificate_is_good_with_it_and_nowhere_else(
    place: Place, authority: Authority, tmp_path: Path
) -> None:
    certificate, key = authority.client
    (tmp_path / "second").mkdir()
    stranger = Authority(tmp_path / "second")
    place.environment["BROKER__SERVER__CLIENT_CA"] = authority.ca_file
    token = place.token_with(cnf={"x5t#S256": thumbprint(certificate)})
    async with place.serving() as service:
        good = of_our_client(place, service, token, BROKER_CLIENT_CERT=certificate, BROKER_CLIENT_KEY=key)
        issued = await place.broker("get", "web-1", **good)
        without = await place.broker("get", "web-1", **of_our_client(place, service, token))
        server = {"BROKER_CLIENT_CERT": stranger.client[0], "BROKER_CLIENT_KEY": stranger.client[1]}
        foreign = await place.broker("get", "web-1", **of_our_client(place, service, token, **server))
        status = await spoofed(service, place, token, certificate)
        resumed = await asyncio.to_thread(resumption, service, place, token, certificate, key)
        metadata: Any = (await service.ask("/.well-known/oauth-protected-resource"))[1]
    assert issued.code == 0, issued.err
    assert (without.code, "(invalid_token)" in without.err) == (3, True)
    assert foreign.code != 0
    assert status == 401
    assert resumed == [True, 200]
    assert metadata["tls_client_certificate_bound_access_tokens"] is True


async def spoofed(service: Running, place: Place, token: str, certificate: str) -> int:
    """Ask without a certificate, but with all the headers by which proxies tell of one."""
    pem = (await asyncio.to_thread(Path(certificate).read_text)).replace("\n", "")
    context = ssl.create_default_context(cafile=str(place.folder / "ca.pem"))
    headers = {"Authorization": f"Bearer {token}", "X-Client-Cert": pem, "X-Forwarded-Client-Cert": f'Cert="{pem}"'}
    async with (
        ClientSession(connector=TCPConnector(ssl=context)) as session,
        session.get(f"{service.url}/v1/whoami", headers=headers | {"Client-Cert": ":AAAA:"}) as response,
    ):
        return response.status


def resumption(service: Running, place: Place, token: str, certificate: str, key: str) -> list[object]:
    """Ask twice, the second time with the TLS session of the first; answer whether it was resumed, and the status."""
    context = ssl.create_default_context(cafile=str(place.folder / "ca.pem"))
    context.load_cert_chain(certificate, key)
    session: ssl.SSLSession | None = None
    found: list[object] = []
    for _ in range(2):
        port = int(service.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as plain:
            secured = context.wrap_socket(plain, server_hostname="127.0.0.1", session=session)
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.sock = secured
            connection.request("GET", "/v1/whoami", headers={"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            document = json.loads(answer.read())
            assert document["bound"] is True
            session, found = secured.session, [secured.session_reused, answer.status]
            connection.close()
    return found
