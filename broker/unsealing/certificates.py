"""Inspect what AWS answers for ssh: an OpenSSH certificate and its private key (pure).

The answer is hostile input until it held: PROTOCOL.certkeys of OpenSSH says what is in a certificate.
"""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificate,
    SSHCertificateType,
    SSHCertPublicKeyTypes,
    load_ssh_public_identity,
)

from broker.errors import UpstreamError
from broker.model import CredentialFacts, Opened, Secret, SshKeyPair
from broker.unsealing import pem

MAX_LIFETIME: Final = timedelta(days=1)
"""Longer than this no temporary certificate lives; Lightsail's has 780 seconds."""
CLOCK_LEEWAY: Final = timedelta(minutes=5)
"""How far AWS's clock may be ahead of ours."""
_MAX_CHARACTERS: Final = 16 * 1024
_LINE: Final = re.compile(r"[a-z0-9-]+-cert-v01@openssh\.com [A-Za-z0-9+/]+={0,2}(?: [!-~]{1,256})?", re.ASCII)
_KEY_ID: Final = re.compile(rb"[!-~]{0,256}", re.ASCII)
_SHA1_ALGORITHM: Final = b"\x00\x00\x00\x07ssh-rsa"

SHA1_WARNING: Final = (
    "The certificate authority signed by SHA-1: an OpenSSH server from 8.2 on refuses that "
    "unless `CASignatureAlgorithms +ssh-rsa` is set."
)


def inspect(pair: SshKeyPair, username: str, now: datetime) -> Opened:
    """Check that this key and certificate let `username` in now, and for how long.

    About 0.2 ms: the private key's parts are compared with the certificate, not validated against each other.

    Returns:
        Key (LF line ends, final newline) and certificate line as OpenSSH wants them. `expires_at` is the end of the
        certificate's own window, which is what counts; AWS's `expiresAt` is not looked at.

    Raises:
        UpstreamError: On any fault of the answer; nothing of it is in the error.
    """
    private_key, line = pem.normalise(pair.private_key.reveal()), pair.certificate.strip()
    if len(private_key) > _MAX_CHARACTERS or not pem.is_private_key(private_key):
        raise _bad("the private key is no single PEM block")
    if len(line) > _MAX_CHARACTERS or not _LINE.fullmatch(line):
        raise _bad("the certificate is no line as OpenSSH writes it")
    certificate = _load(line)
    _require_pair(private_key, certificate)
    _require_principal(certificate, username)
    return Opened(
        private_key=Secret(private_key),
        certificate=line,
        expires_at=_end_of_window(certificate, now),
        facts=_facts(certificate),
        warnings=_warnings(certificate, line),
    )


def _load(line: str) -> SSHCertificate:
    """Parse a certificate and verify its authority's signature; whom to trust is the business of sshd."""
    try:
        certificate = load_ssh_public_identity(line.encode("ascii"))
    except pem.PARSER_FAULTS:
        raise _bad("the certificate cannot be read") from None
    if not isinstance(certificate, SSHCertificate) or certificate.type is not SSHCertificateType.USER:
        raise _bad("not a user certificate")
    try:
        certificate.verify_cert_signature()
    except (InvalidSignature, *pem.PARSER_FAULTS):
        raise _bad("the certificate's signature does not hold") from None
    return certificate


def _require_pair(private_key: str, certificate: SSHCertificate) -> None:
    try:
        public = pem.load_private_key(private_key, validate=False).public_key()
    except pem.PARSER_FAULTS:
        raise _bad("the private key cannot be read") from None
    if public != certificate.public_key():
        raise _bad("the certificate is for another key")


def _require_principal(certificate: SSHCertificate, username: str) -> None:
    """No principal at all would mean everybody, and a second one somebody else."""
    if certificate.valid_principals != [username.encode()]:
        raise _bad("the certificate is for another user name")
    if not _KEY_ID.fullmatch(certificate.key_id):
        raise _bad("the certificate's key id is not printable")


def _end_of_window(certificate: SSHCertificate, now: datetime) -> datetime:
    after, before, moment = certificate.valid_after, certificate.valid_before, now.timestamp()
    if not after < before:
        raise _bad("the certificate's window is empty")
    if after > moment + CLOCK_LEEWAY.total_seconds():
        raise _bad("the certificate is not valid yet")
    if before <= moment:
        raise _bad("the certificate has expired")
    if before > moment + MAX_LIFETIME.total_seconds():
        raise _bad("the certificate lives too long to be a temporary one")
    return datetime.fromtimestamp(before, UTC)


def _facts(certificate: SSHCertificate) -> CredentialFacts:
    public = _wire(certificate.public_key())
    return CredentialFacts(
        certificate_serial=certificate.serial,
        key_id=certificate.key_id.decode("ascii"),
        public_key_sha256=base64.b64encode(hashlib.sha256(public).digest()).decode(),
    )


def _warnings(certificate: SSHCertificate, line: str) -> tuple[str, ...]:
    limits = sorted(name.decode("ascii", "replace") for name in certificate.critical_options)
    found = [SHA1_WARNING] if _is_signed_by_sha1(certificate, line) else []
    return (*found, f"The certificate is limited by: {', '.join(limits)}.") if limits else tuple(found)


def _is_signed_by_sha1(certificate: SSHCertificate, line: str) -> bool:
    """Tell which algorithm stands before the signature: at the end, and as long as the modulus, since it held."""
    authority = certificate.signature_key()
    if not isinstance(authority, RSAPublicKey):
        return False
    blob = base64.b64decode(line.split()[1])
    return blob[: -4 - (authority.key_size + 7) // 8].endswith(_SHA1_ALGORITHM)


def _wire(key: SSHCertPublicKeyTypes) -> bytes:
    return base64.b64decode(key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()[1])


def _bad(cause: str) -> UpstreamError:
    return UpstreamError(f"access details: {cause}", detail="AWS answered with SSH access details that do not hold.")
