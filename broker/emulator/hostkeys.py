"""The keys by which instances prove themselves: SSH host keys and RDP certificates."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key
from cryptography.x509.oid import NameOID

_CERTIFICATE_LIFETIME: Final = timedelta(days=183)
_PARTS_OF_A_LINE: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class HostKey:
    """One host key in AWS's words; the two moments only with an RDP certificate."""

    algorithm: str
    public_key: str
    sha1: str
    sha256: str
    not_before: datetime | None = None
    not_after: datetime | None = None

    def described(self, witnessed_at: datetime) -> dict[str, object]:
        """Answer it in the shape of AWS's HostKeyAttributes."""
        key: dict[str, object] = {
            "algorithm": self.algorithm,
            "publicKey": self.public_key,
            "witnessedAt": witnessed_at,
            "fingerprintSHA1": self.sha1,
            "fingerprintSHA256": self.sha256,
        }
        if self.not_before is not None:
            key |= {"notValidBefore": self.not_before, "notValidAfter": self.not_after}
        return key


def ssh_host_key(line: str) -> HostKey:
    """Read one line of a public key file, such as `ssh-ed25519 AAAA… comment`; raises ValueError."""
    words = line.split()
    if len(words) < _PARTS_OF_A_LINE:
        raise ValueError("not a public key in OpenSSH's format")
    load_ssh_public_key(" ".join(words[:2]).encode())
    blob = base64.b64decode(words[1], validate=True)
    return HostKey(
        algorithm=words[0],
        public_key=words[1],
        sha1=f"SHA1:{_unpadded(hashlib.sha1(blob, usedforsecurity=False).digest())}",
        sha256=f"SHA256:{_unpadded(hashlib.sha256(blob).digest())}",
    )


def ssh_host_key_file(path: Path) -> HostKey:
    """Read a public key file; raises OSError or ValueError."""
    return ssh_host_key(path.read_text("ascii"))


def rdp_certificate(certificate: x509.Certificate) -> HostKey:
    """Describe the certificate of an RDP server: base64 DER (an assumption), fingerprints in lower-case colon hex."""
    der = certificate.public_bytes(Encoding.DER)
    return HostKey(
        algorithm="x509-cert",
        public_key=base64.b64encode(der).decode(),
        sha1=hashlib.sha1(der, usedforsecurity=False).digest().hex(":"),
        sha256=hashlib.sha256(der).digest().hex(":"),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def rdp_certificate_file(path: Path) -> HostKey:
    """Read a PEM certificate; raises OSError or ValueError."""
    return rdp_certificate(x509.load_pem_x509_certificate(path.read_bytes()))


def new_ssh_host_key() -> HostKey:
    """Make an Ed25519 host key, for an instance that nobody connects to."""
    public_key = ed25519.Ed25519PrivateKey.generate().public_key()
    return ssh_host_key(public_key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())


def new_rdp_certificate(name: str, now: datetime) -> HostKey:
    """Make a self-signed certificate, for an instance that nobody connects to."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + _CERTIFICATE_LIFETIME)
        .sign(key, SHA256())
    )
    return rdp_certificate(certificate)


def _unpadded(digest: bytes) -> str:
    return base64.b64encode(digest).decode().rstrip("=")
