"""Keys, certificates and ciphertexts for the tests of `unsealing` and `delivery`: valid, and spoilt on demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Self

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    SSHCertificateBuilder,
    SSHCertificateType,
)

from broker.model import (
    AccessDetails,
    HostKey,
    InstanceRef,
    Protocol,
    SealedPassword,
    Secret,
    SshKeyPair,
)
from broker.unsealing import fingerprints
from broker.unsealing.keypairs import HeldKey, KeyPairId

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
TEAM_KEY = KeyPairId("main", "eu-west-1", "team-key")
WEB = InstanceRef("main", "eu-west-1", "web-1")
WIN = InstanceRef("main", "eu-west-1", "win-1")

PrivateKey = rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey


def rsa_key(which: int = 0, bits: int = 2048) -> rsa.RSAPrivateKey:
    """Answer the same key for the same number and size: making one takes a moment."""
    return _made(which, bits)


@cache
def _made(which: int, bits: int) -> rsa.RSAPrivateKey:
    del which
    return rsa.generate_private_key(65537, bits)


@cache
def ed25519_key() -> ed25519.Ed25519PrivateKey:
    """Answer one Ed25519 key."""
    return ed25519.Ed25519PrivateKey.generate()


def pem(key: PrivateKey, form: PrivateFormat = PrivateFormat.TraditionalOpenSSL) -> str:
    """Write a private key as PEM; PKCS#1 by default, as AWS does."""
    return key.private_bytes(Encoding.PEM, form, NoEncryption()).decode()


def held(which: int = 0, key_pair: KeyPairId = TEAM_KEY, bits: int = 2048) -> HeldKey:
    """Answer a key as custody holds it."""
    key = rsa_key(which, bits)
    return HeldKey(key_pair, fingerprints.key_id(key), aws_fingerprint(key), NOW, key)


def aws_fingerprint(key: rsa.RSAPrivateKey) -> str:
    """Write the fingerprint of a key pair that AWS made."""
    return fingerprints.of(key)["SHA-1 of PKCS#8"].hex(":")


def sealed(password: bytes, which: int = 0, key_pair: str = TEAM_KEY.name, bits: int = 2048) -> SealedPassword:
    """Encrypt as Lightsail does."""
    ciphertext = rsa_key(which, bits).public_key().encrypt(password, padding.PKCS1v15())
    return SealedPassword(ciphertext, key_pair)


@dataclass(frozen=True)
class CertificateMaker:
    """Issues SSH access as Lightsail does; every part can be made wrong by `but`."""

    username: str = "ec2-user"
    principals: Sequence[str] | None = None
    kind: SSHCertificateType = SSHCertificateType.USER
    valid_from: datetime = NOW
    lifetime: timedelta = timedelta(seconds=780)
    serial: int = 0
    key_id: bytes = b"-42:MDEyMzQ1Njc4OTAxMjM0NQ=="
    critical_options: Mapping[bytes, bytes] = field(default_factory=dict)
    authority: PrivateKey = field(default_factory=ed25519_key)
    key: PrivateKey = field(default_factory=rsa_key)
    private_key: str | None = None

    def but(self, **changes: object) -> Self:
        """Answer a maker that differs in these."""
        return replace(self, **changes)  # type: ignore[arg-type]  # the caller names fields

    def line(self) -> str:
        """Issue the certificate alone, as one line."""
        builder = (
            SSHCertificateBuilder()
            .public_key(self.key.public_key())
            .serial(self.serial)
            .type(self.kind)
            .key_id(self.key_id)
            .valid_after(int(self.valid_from.timestamp()))
            .valid_before(int((self.valid_from + self.lifetime).timestamp()))
            .add_extension(b"permit-pty", b"")
        )
        for name, value in self.critical_options.items():
            builder = builder.add_critical_option(name, value)
        principals = [self.username] if self.principals is None else self.principals
        if principals:
            return _sign(builder.valid_principals([name.encode() for name in principals]), self.authority)
        for_everybody = builder.valid_for_all_principals()  # type: ignore[no-untyped-call]  # the library has no `->`
        return _sign(for_everybody, self.authority)

    def pair(self) -> SshKeyPair:
        """Issue key and certificate."""
        return SshKeyPair(Secret(self.private_key or pem(self.key)), self.line(), None)


def _sign(builder: SSHCertificateBuilder, authority: PrivateKey) -> str:
    return builder.sign(authority).public_bytes().decode()


def access(material: SshKeyPair | SealedPassword | Secret, **changes: object) -> AccessDetails:
    """Answer access details around some material."""
    ssh = isinstance(material, SshKeyPair)
    details = AccessDetails(
        instance=WEB if ssh else WIN,
        protocol=Protocol.SSH if ssh else Protocol.RDP,
        username="ec2-user" if ssh else "Administrator",
        ip_address="203.0.113.7",
        ipv6_addresses=(),
        host_keys=(),
        material=material,
    )
    return replace(details, **changes)  # type: ignore[arg-type]  # the caller names fields


def windows_certificate() -> HostKey:
    """Answer an RDP host key; nobody parses its DER."""
    return HostKey(algorithm="x509-cert", public_key="AAAA", sha256="ab" * 32)


class BrokenKeyService:
    """A KMS that fails as botocore's client does, or answers nonsense."""

    def __init__(self, error: Exception | None = None, answer: Mapping[str, object] | None = None) -> None:
        """Raise this error, or answer this."""
        self.error = error
        self.answer = answer or {}

    async def encrypt(
        self,
        *,
        KeyId: str,  # noqa: N803 - AWS's own name
        Plaintext: bytes,  # noqa: N803 - AWS's own name
        EncryptionContext: Mapping[str, str],  # noqa: N803 - AWS's own name
    ) -> Mapping[str, object]:
        """Fail."""
        del KeyId, Plaintext, EncryptionContext
        return self._answer()

    async def decrypt(
        self,
        *,
        KeyId: str,  # noqa: N803 - AWS's own name
        CiphertextBlob: bytes,  # noqa: N803 - AWS's own name
        EncryptionContext: Mapping[str, str],  # noqa: N803 - AWS's own name
    ) -> Mapping[str, object]:
        """Fail."""
        del KeyId, CiphertextBlob, EncryptionContext
        return self._answer()

    def _answer(self) -> Mapping[str, object]:
        if self.error is not None:
            raise self.error
        return self.answer
