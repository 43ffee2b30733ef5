"""Host keys as Lightsail reports them (AWS HostKeyAttributes), checked against themselves (pure).

A record whose public key does not have the fingerprint that stands beside it refuses the whole answer: handing the
rest over would tell people to trust, or not to check, a host that AWS describes in two ways at once. No records at
all is fine, an instance that was just created has none.
"""

from __future__ import annotations

import base64
import hashlib
import re
import struct

from broker.errors import UpstreamError
from broker.lightsail.members import Members, strict_base64
from broker.model import HostKey

CERTIFICATE = "x509-cert"
MAX_HOST_KEYS = 32
_ALGORITHM = re.compile(r"[a-z0-9][a-z0-9@.-]{2,63}")
_FINGERPRINT = re.compile(r"[A-Za-z0-9+/=:]+")
_BASE64_OR_PEM = re.compile(r"[A-Za-z0-9+/=\s-]+")
_ARMOUR = re.compile(r"-----(BEGIN|END) CERTIFICATE-----|\s")
_MAX_KEY = 16 * 1024


def host_key(value: object) -> HostKey:
    """Read one record; raise UpstreamError when it contradicts itself."""
    members = Members(value, "hostKeys[]")
    algorithm = members.text("algorithm", _ALGORITHM)
    raw = _public_key(members, algorithm)
    sha1, sha256 = hashlib.sha1(raw, usedforsecurity=False), hashlib.sha256(raw)
    _agree(members, "fingerprintSHA1", sha1.digest())
    _agree(members, "fingerprintSHA256", sha256.digest())
    return HostKey(algorithm=algorithm, public_key=base64.b64encode(raw).decode(), sha256=sha256.hexdigest())


def _public_key(members: Members, algorithm: str) -> bytes:
    text = members.text("publicKey", _BASE64_OR_PEM, limit=_MAX_KEY)
    raw = strict_base64(_ARMOUR.sub("", text) if algorithm == CERTIFICATE else text)
    if not raw or not _is_of(algorithm, raw):
        members.fault("publicKey", "is not a key of its algorithm")
    return raw


def _is_of(algorithm: str, raw: bytes) -> bool:
    """An SSH blob begins with its own algorithm (RFC 4253, section 6.6), a DER certificate with a SEQUENCE."""
    if algorithm == CERTIFICATE:
        return raw[:1] == b"\x30"
    word = algorithm.encode()
    return raw.startswith(struct.pack(">I", len(word)) + word)


def _agree(members: Members, name: str, digest: bytes) -> None:
    """Compare with `SHA256:` and unpadded base64, or with hex and colons, whichever form the record has."""
    stated = members.text_or_empty(name, _FINGERPRINT)
    if not stated:
        return
    plain = stated.rpartition(":")[2].rstrip("=") if stated.startswith("SHA") else stated.replace(":", "").lower()
    if plain not in (base64.b64encode(digest).decode().rstrip("="), digest.hex()):
        raise UpstreamError(f"hostKeys[].{name} is not the fingerprint of its publicKey")
