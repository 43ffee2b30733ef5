"""Seal a secret to the caller's own key: compact JWE, ECDH-ES with A256GCM (RFC 7516, RFC 7518 4.6, RFC 8037)."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey

from broker.errors import InvalidRequest

_NEEDED: Final = {
    ("EC", "P-256"): frozenset({"kty", "crv", "x", "y"}),
    ("OKP", "X25519"): frozenset({"kty", "crv", "x"}),
}
_ABOUT: Final = {"use": "enc", "alg": "ECDH-ES"}
"""What a key may say about itself beside its `kid`, and what it must say then."""
_COORDINATE_BYTES: Final = 32
_MAX_KID: Final = 128


@dataclass(frozen=True, slots=True)
class Recipient:
    """A public key that was checked: a secret may be sealed to it."""

    key: ECKey | OKPKey = field(repr=False)
    kid: str = ""


def recipient(jwk: Mapping[str, str]) -> Recipient:
    """Check the public key of a caller, before anything is issued for it.

    Args:
        jwk: A P-256 or X25519 public JWK (RFC 7517); beside what it needs only `kid`, `use: enc`, `alg: ECDH-ES`.

    Raises:
        InvalidRequest: It is of another kind, holds a private part, or is no point on its curve.
    """
    needed = _NEEDED.get((jwk.get("kty", ""), jwk.get("crv", "")))
    if needed is None:
        raise _unusable("a P-256 or X25519 public key is expected")
    if "d" in jwk:
        raise _unusable("it holds a private part, which belongs to nobody else")
    if not needed <= jwk.keys() or not jwk.keys() <= needed | {"kid", *_ABOUT}:
        raise _unusable("members are missing or unknown")
    if any(jwk.get(name, value) != value for name, value in _ABOUT.items()):
        raise _unusable("it is for another use")
    kid = jwk.get("kid", "")
    if len(kid) > _MAX_KID or not (kid.isascii() and (kid.isprintable() or not kid)):
        raise _unusable("its kid is odd")
    if not all(_is_coordinate(jwk[name]) for name in needed - {"kty", "crv"}):
        raise _unusable("its coordinates are not 32 bytes each as base64url")
    return Recipient(_on_curve({name: jwk[name] for name in needed}), kid)


def seal(secret: Mapping[str, object], to: Recipient, spaces: int = 0) -> str:
    """Encrypt a JSON object to a recipient.

    Args:
        secret: The object.
        to: Who can open it.
        spaces: How many follow it, so that its length tells nothing: encryption hides all else.

    Returns:
        A compact JWE whose plaintext is the object as UTF-8 JSON.
    """
    header = {"alg": "ECDH-ES", "enc": "A256GCM", "cty": "json", **({"kid": to.kid} if to.kid else {})}
    plaintext = json.dumps(secret, separators=(",", ":")).encode() + b" " * spaces
    return jwe.encrypt_compact(header, plaintext, to.key, algorithms=["ECDH-ES", "A256GCM"])


def _is_coordinate(text: str) -> bool:
    """Tell whether this is base64url of 32 bytes in the one canonical spelling."""
    try:
        value = base64.b64decode(text + "=", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return False
    return len(value) == _COORDINATE_BYTES and base64.urlsafe_b64encode(value).rstrip(b"=").decode() == text


def _on_curve(members: Mapping[str, str]) -> ECKey | OKPKey:
    """Load the key; a point off the curve, or one of low order, would give the shared secret away."""
    try:
        if members["kty"] == "EC":
            return ECKey.import_key(dict(members))
        okp = OKPKey.import_key(dict(members))
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(_bytes(members["x"])))
    except (ValueError, JoseError):
        raise _unusable("it is no point on its curve") from None
    return okp


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=")


def _unusable(why: str) -> InvalidRequest:
    return InvalidRequest("seal_to", detail=f"The key in `seal_to` cannot be used: {why}.")
