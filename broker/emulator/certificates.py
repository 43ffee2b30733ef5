"""The emulator's own SSH certificate authority: user certificates laid out as Lightsail's."""

from __future__ import annotations

import base64
import secrets
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificateBuilder,
    SSHCertificateType,
)

from broker.emulator.keys import read_or_make, write_new_file

_CA_BITS: Final = 4096
_EXTENSIONS: Final = (
    b"permit-X11-forwarding",
    b"permit-agent-forwarding",
    b"permit-port-forwarding",
    b"permit-pty",
    b"permit-user-rc",
)


class CertificateAuthority:
    """Signs what an sshd lets in that has `public_line` in its `TrustedUserCAKeys`."""

    def __init__(self, key: RSAPrivateKey) -> None:
        self._key = key
        line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        self.public_line = f"{line.decode()} embedded-lightsail-ca\n"

    @classmethod
    def in_file(cls, path: Path) -> CertificateAuthority:
        """Read the authority's RSA key (4096 bits, made when missing) and put its public half beside it as `.pub`."""
        authority = cls(read_or_make(path, _CA_BITS))
        public = path.with_name(f"{path.name}.pub")
        if not public.exists():
            write_new_file(public, authority.public_line, 0o644)
        return authority

    def issue(self, public_key: RSAPublicKey, username: str, start: datetime, lifetime: timedelta) -> str:
        """Answer a user certificate in one line, for one principal, from `start` for `lifetime` (whole seconds)."""
        valid_after = int(start.timestamp())
        builder = (
            SSHCertificateBuilder()
            .public_key(public_key)
            .type(SSHCertificateType.USER)
            .serial(0)
            .key_id(_key_id())
            .valid_principals([username.encode()])
            .valid_after(valid_after)
            .valid_before(valid_after + int(lifetime.total_seconds()))
        )
        for extension in _EXTENSIONS:
            builder = builder.add_extension(extension, b"")
        return builder.sign(self._key).public_bytes().decode()


def _key_id() -> bytes:
    """Answer a key id as Lightsail's: a signed 64-bit number, a colon, 16 bytes in base64."""
    number = secrets.randbits(64) - 2**63
    return f"{number}:".encode() + base64.b64encode(secrets.token_bytes(16))
