"""Proof that the sender holds the key that a token is bound to (pure; RFC 9449, RFC 8705).

What is proved of a DPoP proof, in this order; each number stands beside its code.

 1. There is exactly one, and it is a strict compact JWS of the type `dpop+jwt`.
 2. Its nonce is one of ours, and fresh. Nothing before this has cost anything.
 3. Its algorithm is asymmetric, and its key a public one that is made for it.
 4. That key signed exactly these bytes.
 5. It was made for this method and this address.
 6. It was made now.
 7. It was made for this very token.
 8. Its key is the one that the token is bound to.

That it is used once only is for whoever calls: `ReplayCache` remembers that. Of a TLS client certificate, the handshake
has proved that the sender holds its key; here it is compared with the one that the token is bound to.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from broker.identity.base64url import decode, encode
from broker.identity.faults import Fault, refused
from broker.identity.keys import UnusableKey, VerificationKey, read_key
from broker.identity.preparser import MAX_NAME, is_numeric_date, json_object

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from broker.model import Presented

ALGORITHMS: Final = ("ES256", "ES384", "EdDSA", "Ed25519", "RS256", "PS256")
"""By which a proof may be signed."""
WINDOW: Final = timedelta(minutes=5)
"""By how much a sender's clock may differ from ours; the nonce says more exactly when a proof was made."""
MAX_PROOF: Final = 4096
"""Bytes of a proof. A longer one is refused unread."""

_SEGMENTS: Final = 3
_TYPE: Final = "dpop+jwt"
_HEADER: Final = frozenset({"typ", "alg", "jwk"})
_SHA256: Final = 32
_USUAL_PORTS: Final = {"https": 443, "http": 80}
_THUMBPRINTED: Final = {"EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x"), "RSA": ("e", "kty", "n")}


@dataclass(frozen=True, slots=True)
class Binding:
    """What a token is bound to: both must hold where both are there."""

    key: str | None = None
    """Thumbprint of a key (`jkt`; RFC 7638), to be proved by DPoP."""
    certificate: bytes | None = field(default=None, repr=False)
    """SHA-256 of a TLS client certificate (`x5t#S256`)."""

    def __bool__(self) -> bool:
        return self.key is not None or self.certificate is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnverifiedProof:
    """A well-formed proof whose signature nobody has checked: worth nothing yet."""

    algorithm: str
    key: Mapping[str, object] = field(repr=False)
    claims: Mapping[str, object] = field(repr=False)
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    @property
    def nonce(self) -> str:
        """What the sender took for our newest nonce; "" when there is none."""
        nonce = self.claims.get("nonce", "")
        return nonce if isinstance(nonce, str) else ""


def binding_of(claims: Mapping[str, object]) -> Binding:
    """Read what a verified token is bound to; an empty binding when to nothing.

    Raises:
        InvalidToken: it is bound to something that cannot be proved here.
    """
    if "cnf" not in claims:
        return Binding()
    confirmation = claims["cnf"]
    # What is not understood might be the stronger half of the binding, so nothing of it is left out.
    if not isinstance(confirmation, dict) or not confirmation or not confirmation.keys() <= {"jkt", "x5t#S256"}:
        raise refused(Fault.BINDING_UNPROVED)
    digests = {name: decode(text) if isinstance(text, str) else None for name, text in confirmation.items()}
    if any(digest is None or len(digest) != _SHA256 for digest in digests.values()):
        raise refused(Fault.BINDING_UNPROVED)
    return Binding(confirmation.get("jkt"), digests.get("x5t#S256"))


def check_certificate(binding: Binding, presented: Presented) -> None:
    """Check that the TLS client certificate is the one that the token is bound to, if it is bound to one.

    Raises:
        InvalidToken: it is another, or there is none.
    """
    wanted = binding.certificate
    if wanted is not None and not hmac.compare_digest(wanted, presented.certificate_sha256):
        raise refused(Fault.BINDING_UNPROVED)


def parse_proof(values: Sequence[str]) -> UnverifiedProof:
    """Take the one DPoP header apart (1).

    Raises:
        InvalidToken: there is none, or several, or it is no strict proof. Nothing else is raised, whatever the input.
    """
    segments = values[0].split(".", _SEGMENTS) if len(values) == 1 and len(values[0]) <= MAX_PROOF else []
    if len(segments) != _SEGMENTS:
        raise refused(Fault.BAD_PROOF)
    header, claims, signature = json_object(segments[0]), json_object(segments[1]), decode(segments[2])
    key, algorithm = header.get("jwk"), header.get("alg")
    if header.keys() != _HEADER or header["typ"] != _TYPE or not isinstance(key, dict) or signature is None:
        raise refused(Fault.BAD_PROOF)
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:  # 3
        raise refused(Fault.BAD_PROOF)
    signing_input = f"{segments[0]}.{segments[1]}".encode("ascii")
    return UnverifiedProof(
        algorithm=algorithm, key=key, claims=claims, signing_input=signing_input, signature=signature
    )


def verify_proof(proof: UnverifiedProof, presented: Presented, token: str, binding: Binding, now: datetime) -> bytes:
    """Check that the sender of this request holds the key that the token is bound to.

    Args:
        proof: whose nonce (2) was found to be ours and fresh.
        presented: what the request brought, and where it came to.
        token: the text of the access token, already verified.
        binding: what it is bound to.
        now: the time.

    Returns:
        What names this proof among all others (32 bytes), to be remembered so that it is used once only.

    Raises:
        InvalidToken: any of the points 3 to 8 does not hold.
    """
    key = _key(proof)  # 3
    if not key.signed(proof.algorithm, proof.signing_input, proof.signature):  # 4
        raise refused(Fault.BAD_PROOF)
    _check_purpose(proof.claims, presented, token, now)  # 5, 6, 7
    thumbprint = thumbprint_of(proof.key)
    if binding.key is None or not hmac.compare_digest(binding.key.encode(), thumbprint.encode()):  # 8
        raise refused(Fault.BINDING_UNPROVED)
    return hashlib.sha256(f"{thumbprint} {proof.claims['jti']}".encode()).digest()


def thumbprint_of(jwk: Mapping[str, object]) -> str:
    """Answer the SHA-256 thumbprint of a public key that was read already, as base64url (RFC 7638)."""
    members = {name: jwk[name] for name in _THUMBPRINTED[str(jwk["kty"])]}
    return encode(hashlib.sha256(json.dumps(members, separators=(",", ":")).encode()).digest())


def _key(proof: UnverifiedProof) -> VerificationKey:
    try:
        key = read_key(proof.key)
    except UnusableKey:
        key = None
    if key is None or not key.fits(proof.algorithm):
        raise refused(Fault.BAD_PROOF)
    return key


def _check_purpose(claims: Mapping[str, object], presented: Presented, token: str, now: datetime) -> None:
    identifier, address = claims.get("jti"), claims.get("htu")
    if not isinstance(identifier, str) or not 0 < len(identifier) <= MAX_NAME:
        raise refused(Fault.BAD_PROOF)
    if claims.get("htm") != presented.method or not isinstance(address, str):  # 5
        raise refused(Fault.PROOF_FOR_ANOTHER)
    asked = _normal(presented.url)
    if asked is None or _normal(address) != asked:
        raise refused(Fault.PROOF_FOR_ANOTHER)
    made_at = claims.get("iat")
    if not is_numeric_date(made_at) or abs(now - datetime.fromtimestamp(int(str(made_at)), UTC)) > WINDOW:  # 6
        raise refused(Fault.PROOF_STALE)
    hashed = encode(hashlib.sha256(token.encode("ascii")).digest())
    if not isinstance(claims.get("ath"), str) or not hmac.compare_digest(str(claims["ath"]).encode(), hashed.encode()):
        raise refused(Fault.PROOF_FOR_ANOTHER)  # 7


def _normal(url: str) -> tuple[str, str, int | None, str] | None:
    """Spell an address as RFC 3986, section 6.2.3, has it, without query and fragment; None when it is none."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _USUAL_PORTS or not parts.hostname or "@" in parts.netloc:
        return None
    return parts.scheme, parts.hostname, _USUAL_PORTS[parts.scheme] if port is None else port, parts.path or "/"
