"""Proofs of possession, judged by PyJWT, and by RFC 7638's own arithmetic."""

import base64
import hashlib
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from broker.client.errors import Misconfigured
from broker.client.proofs import ProofKey

URL = "https://broker.example.com/v1/credentials"
TOKEN = "header.claims.signature"


@pytest.fixture(scope="module")
def key() -> ProofKey:
    return ProofKey(ec.generate_private_key(ec.SECP256R1()), lambda: 1_800_000_000.9)


def taken_apart(proof: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Verify by the key that the proof itself brings."""
    header = jwt.get_unverified_header(proof)
    public = jwt.PyJWK(header["jwk"], algorithm="ES256")
    return header, jwt.decode(proof, public.key, algorithms=["ES256"], options={"verify_iat": False})


def test_a_proof_says_what_it_is_for(key: ProofKey) -> None:
    header, claims = taken_apart(key.proof("POST", URL, token=TOKEN, nonce="n-1"))
    assert (header["typ"], header["alg"]) == ("dpop+jwt", "ES256")
    assert "d" not in header["jwk"]
    ath = base64.urlsafe_b64encode(hashlib.sha256(TOKEN.encode()).digest()).rstrip(b"=").decode()
    assert len(claims.pop("jti")) == 22
    assert claims == {"htm": "POST", "htu": URL, "iat": 1_800_000_000, "ath": ath, "nonce": "n-1"}


def test_query_and_fragment_are_left_out(key: ProofKey) -> None:
    _, claims = taken_apart(key.proof("GET", f"{URL}?cursor=secret#part"))
    assert claims["htu"] == URL
    assert not {"ath", "nonce"} & claims.keys()


def test_no_proof_is_like_another(key: ProofKey) -> None:
    ids = {taken_apart(key.proof("GET", URL))[1]["jti"] for _ in range(50)}
    assert len(ids) == 50


def test_the_thumbprint_is_that_of_the_key_in_the_proof(key: ProofKey) -> None:
    jwk = taken_apart(key.proof("GET", URL))[0]["jwk"]
    needed = json.dumps({name: jwk[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":"))
    digest = hashlib.sha256(needed.encode()).digest()
    assert key.thumbprint == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def test_a_key_that_was_kept_is_the_same_key(key: ProofKey) -> None:
    assert ProofKey.from_pem(key.pem(), "x").thumbprint == key.thumbprint


@pytest.mark.parametrize("content", ["", "no key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_key_is_refused_by_its_place(content: str) -> None:
    with pytest.raises(Misconfigured, match=r"the-file does not hold a P-256 private key"):
        ProofKey.from_pem(content, "the-file")


def test_a_key_of_another_kind_is_refused() -> None:
    for other in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())):
        pem = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        with pytest.raises(Misconfigured):
            ProofKey.from_pem(pem, "the-file")
