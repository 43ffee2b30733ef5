"""RSA keys that an embedded Lightsail would make at every start; made once here for a whole run of tests."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


@cache
def _keys() -> Mapping[str, bytes]:
    return {
        name: rsa.generate_private_key(65537, 2048).private_bytes(
            Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
        )
        for name in ("ca", "team-key.pem")
    }


def lay_keys(folder: Path) -> None:
    """Put the authority's key and that of the key pair `team-key` where an embedded Lightsail looks for them."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, content in _keys().items():
        (folder / name).touch(mode=0o600)
        (folder / name).write_bytes(content)
