"""Sealed delivery: a key for one answer, and the opening of what was sealed to it.

What stands between us and the service, such as a proxy that ends TLS, its log or its memory, then sees ciphertext only.
Compact JWE with ECDH-ES over X25519 and A256GCM (RFC 7516; RFC 7518, sections 4.6 and 5.3; RFC 8037). Written out
here because the library for it costs a command more time than all the rest of its work together.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json

from broker.client.errors import Untrusted
from broker.client.proofs import base64url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ALGORITHM, _ENCRYPTION = "ECDH-ES", "A256GCM"
_KEY_BITS = 256
_PARTS = 5
_IV, _TAG, _POINT = 12, 16, 32


class SealingKey:
    """An X25519 key for one answer; it is never written anywhere."""

    def __init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        self._key = X25519PrivateKey.generate()

    @property
    def jwk(self) -> dict[str, str]:
        """The public key, as the service takes it in `seal_to`."""
        return {"kty": "OKP", "crv": "X25519", "x": base64url(self._key.public_key().public_bytes_raw())}

    def open(self, sealed: object) -> dict[str, Any]:
        """Answer the JSON object that was sealed to this key.

        Raises:
            Untrusted: it is no such JWE, was sealed to another key, or was changed on its way.
        """
        from cryptography.exceptions import InvalidTag

        try:
            plaintext = self._decrypt(sealed if isinstance(sealed, str) else "")
            document = json.loads(plaintext)
        except (ValueError, InvalidTag, LookupError, TypeError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise Untrusted(
                "the credential cannot be opened: it was sealed to another key, or changed on its way to here"
            )
        return document

    def _decrypt(self, compact: str) -> bytes:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        protected, encrypted_key, *others = compact.split(".", _PARTS)
        iv, ciphertext, tag = map(_bytes, others)
        header = json.loads(_bytes(protected))
        # What is not understood is not ignored: `zip` and `crit` would change what the plaintext is.
        if (header["alg"], header["enc"], encrypted_key) != (_ALGORITHM, _ENCRYPTION, "") or {"zip", "crit"} & {
            *header
        }:
            raise ValueError("another kind of JWE")
        if (len(iv), len(tag)) != (_IV, _TAG):
            raise ValueError("another length")
        sender = header["epk"]
        if (sender["kty"], sender["crv"]) != ("OKP", "X25519"):
            raise ValueError("another curve")
        shared = self._key.exchange(X25519PublicKey.from_public_bytes(_bytes(sender["x"])))
        key = _content_key(shared, _bytes(header.get("apu", "")), _bytes(header.get("apv", "")))
        return AESGCM(key).decrypt(iv, ciphertext + tag, protected.encode("ascii"))


def _content_key(shared: bytes, apu: bytes, apv: bytes) -> bytes:
    """Derive the content key: one round of Concat KDF with SHA-256 (RFC 7518, section 4.6.2)."""
    named = b"".join(len(part).to_bytes(4) + part for part in (_ENCRYPTION.encode(), apu, apv))
    return hashlib.sha256((1).to_bytes(4) + shared + named + _KEY_BITS.to_bytes(4)).digest()


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("no base64url") from error
