"""The fingerprints of an RSA key pair, in every form in which AWS is known to write one (pure)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

_DIGEST_SIZES: Final = (16, 20, 32)
_TEXT: Final = re.compile(r"\s*(?:(?P<prefix>MD5|SHA-?1|SHA-?256):)?(?P<body>[A-Za-z0-9+/=:]{22,128})\s*", re.ASCII)


def of(key: RSAPrivateKey) -> Mapping[str, bytes]:
    """Compute every known form: name of the form to digest.

    Pairs made by AWS: SHA-1 of the private key's PKCS#8 DER. Imported ones: MD5 of the public key's DER. The rest are
    OpenSSH's and the likely successors; Lightsail's documentation says no more than "the RSA fingerprint".
    """
    private = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    public = _public_der(key)
    wire = base64.b64decode(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()[1])
    return {
        "SHA-1 of PKCS#8": hashlib.sha1(private, usedforsecurity=False).digest(),
        "MD5 of the public key": hashlib.md5(public, usedforsecurity=False).digest(),
        "MD5 of the SSH public key": hashlib.md5(wire, usedforsecurity=False).digest(),
        "SHA-256 of the SSH public key": hashlib.sha256(wire).digest(),
        "SHA-256 of the public key": hashlib.sha256(public).digest(),
        "SHA-256 of PKCS#8": hashlib.sha256(private).digest(),
    }


def key_id(key: RSAPrivateKey) -> str:
    """Name a key by its public half: SHA-256 of the public key's DER, lower-case hex."""
    return hashlib.sha256(_public_der(key)).hexdigest()


def matching_form(key: RSAPrivateKey, text: str) -> str | None:
    """Name the form in which the text is this key's fingerprint; None when it is not."""
    digest = parse(text)
    return next((form for form, ours in of(key).items() if ours == digest), None)


def parse(text: str) -> bytes | None:
    """Read a fingerprint: hex with or without colons, or unpadded base64 after `SHA256:` as OpenSSH writes it.

    Returns:
        The digest, 16, 20 or 32 bytes; None when the text is no fingerprint.
    """
    found = _TEXT.fullmatch(text)
    if found is None:
        return None
    digest = _hex(found["body"]) or (_base64(found["body"]) if found["prefix"] else None)
    return digest if digest and len(digest) in _DIGEST_SIZES else None


def _hex(body: str) -> bytes | None:
    try:
        return bytes.fromhex(body.replace(":", ""))
    except ValueError:
        return None


def _base64(body: str) -> bytes | None:
    body = body.rstrip("=")
    try:
        return base64.b64decode(body + "=" * (-len(body) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _public_der(key: RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
