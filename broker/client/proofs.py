"""Proof that a token is ours: a key of this client, and what it signs for each request (DPoP, RFC 9449)."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from urllib.parse import urlsplit

from broker.client.errors import Misconfigured

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

ALGORITHM = "ES256"
"""What every authorization server that knows DPoP takes, and the quickest to sign with."""

_COORDINATE = 32
_SECRET_BYTES = 16


class ProofKey:
    """A P-256 key that tokens are bound to; its private half never leaves the machine."""

    def __init__(self, key: EllipticCurvePrivateKey, clock: Callable[[], float] = time.time) -> None:
        self._key = key
        self._clock = clock
        numbers = key.public_key().public_numbers()
        self._public = {
            "crv": "P-256",
            "kty": "EC",
            "x": base64url(numbers.x.to_bytes(_COORDINATE)),
            "y": base64url(numbers.y.to_bytes(_COORDINATE)),
        }

    @classmethod
    def generate(cls) -> Self:
        """Make a new key."""
        from cryptography.hazmat.primitives.asymmetric import ec

        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_pem(cls, pem: str, source: str) -> Self:
        """Read a PKCS#8 or SEC 1 key without a passphrase; `source` names in an error where it was.

        Raises:
            Misconfigured: it is no P-256 private key.
        """
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            key = load_pem_private_key(pem.encode(), None)
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise Misconfigured(f"{source} does not hold a P-256 private key in PEM without a passphrase")
        return cls(key)

    def pem(self) -> str:
        """Write the private key as PKCS#8 PEM, for a place that only its owner can read."""
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    @property
    def thumbprint(self) -> str:
        """The SHA-256 of the public key as base64url, by which tokens name it (`jkt`; RFC 7638)."""
        return base64url(hashlib.sha256(_compact(self._public)).digest())

    def proof(self, method: str, url: str, *, token: str = "", nonce: str = "") -> str:
        """Sign for one request (RFC 9449, section 4.2).

        Args:
            method: of the request.
            url: of the request; query and fragment are left out, as the RFC says.
            token: the access token that goes with it; none at the authorization server.
            nonce: the newest that this server gave, if it gave one.
        """
        claims: dict[str, object] = {
            "jti": base64url(os.urandom(_SECRET_BYTES)),
            "htm": method,
            "htu": urlsplit(url)._replace(query="", fragment="").geturl(),
            "iat": int(self._clock()),
        }
        if token:
            claims["ath"] = base64url(hashlib.sha256(token.encode("ascii")).digest())
        if nonce:
            claims["nonce"] = nonce
        header = {"typ": "dpop+jwt", "alg": ALGORITHM, "jwk": self._public}
        signed = f"{base64url(_compact(header))}.{base64url(_compact(claims))}"
        return f"{signed}.{base64url(self._sign(signed.encode()))}"

    def _sign(self, content: bytes) -> bytes:
        """Sign as JWS does: r and s, 32 bytes each (RFC 7518, section 3.4)."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, utils

        r, s = utils.decode_dss_signature(self._key.sign(content, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(_COORDINATE) + s.to_bytes(_COORDINATE)


def base64url(content: bytes) -> str:
    """Write as base64url without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _compact(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
