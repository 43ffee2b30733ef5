"""One RSA key at rest: a JSON text whose clear part is authenticated and whose key part is encrypted (pure)."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

from broker.errors import KeysUnavailable
from broker.unsealing import fingerprints
from broker.unsealing.keypairs import HeldKey, KeyPairId
from broker.unsealing.pem import PARSER_FAULTS

VERSION: Final = 1
DATA_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_HEADER: Final = ("account", "region", "key_pair", "key_id", "fingerprint_at_aws", "added_at", "master_key")


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a file holds. `header` is readable and authenticated; nothing in it helps to find the private key."""

    header: Mapping[str, str]
    wrapped_key: bytes
    sealed: bytes

    @property
    def id(self) -> KeyPairId:
        """Whose key is inside."""
        return KeyPairId(self.header["account"], self.header["region"], self.header["key_pair"])

    @property
    def context(self) -> Mapping[str, str]:
        """What the data key is for: KMS's encryption context, shown in CloudTrail."""
        return context_of(self.id, self.header["key_id"])

    def encode(self) -> bytes:
        """Write it as a file."""
        document = {
            "version": VERSION,
            **self.header,
            "wrapped_key": base64.b64encode(self.wrapped_key).decode(),
            "sealed": base64.b64encode(self.sealed).decode(),
        }
        return json.dumps(document, indent=2).encode() + b"\n"

    @classmethod
    def decode(cls, content: bytes) -> Self:
        """Read a file.

        Raises:
            ValueError: When it is not of this form.
        """
        document = json.loads(content)
        if not isinstance(document, dict) or document.pop("version", None) != VERSION:
            raise ValueError("an unknown version")
        if set(document) != {*_HEADER, "wrapped_key", "sealed"} or not all(
            isinstance(v, str) for v in document.values()
        ):
            raise ValueError("other members than expected")
        wrapped, sealed = (base64.b64decode(document.pop(name), validate=True) for name in ("wrapped_key", "sealed"))
        return cls(document, wrapped, sealed)

    def open(self, data_key: bytes) -> HeldKey:
        """Decrypt the key and make sure that it is the one of the header.

        Raises:
            KeysUnavailable: When anything in the file was altered.
        """
        try:
            der = AESGCM(data_key).decrypt(self.sealed[:_NONCE_BYTES], self.sealed[_NONCE_BYTES:], _bound(self.header))
            key = load_der_private_key(der, password=None, unsafe_skip_rsa_key_validation=True)
            added_at = datetime.fromisoformat(self.header["added_at"])
        except (InvalidTag, *PARSER_FAULTS):
            raise KeysUnavailable(f"the key of {self.id} does not open: its file was altered") from None
        if not isinstance(key, RSAPrivateKey) or not _sound(key) or fingerprints.key_id(key) != self.header["key_id"]:
            raise KeysUnavailable(f"the key of {self.id} is not the one that was kept")
        return HeldKey(self.id, self.header["key_id"], self.header["fingerprint_at_aws"], added_at, key)


def seal(held: HeldKey, data_key: bytes, wrapped_key: bytes, master_key_id: str) -> Envelope:
    """Encrypt a key under a data key that is used for nothing else; the whole header is bound to it."""
    header = {
        "account": held.id.account,
        "region": held.id.region,
        "key_pair": held.id.name,
        "key_id": held.key_id,
        "fingerprint_at_aws": held.fingerprint_at_aws,
        "added_at": held.added_at.isoformat(),
        "master_key": master_key_id,
    }
    der = held.private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    nonce = os.urandom(_NONCE_BYTES)
    return Envelope(header, wrapped_key, nonce + AESGCM(data_key).encrypt(nonce, der, _bound(header)))


def context_of(key_pair: KeyPairId, key_id: str) -> Mapping[str, str]:
    """Say what a data key is for."""
    return {"account": key_pair.account, "region": key_pair.region, "key_pair": key_pair.name, "key_id": key_id}


def _bound(header: Mapping[str, str]) -> bytes:
    return json.dumps({"version": VERSION, **header}, sort_keys=True, separators=(",", ":")).encode()


def _sound(key: RSAPrivateKey) -> bool:
    """Try the key once. Full validation was done when it was added, and costs 40 to 270 ms with the GIL held."""
    probe = os.urandom(16)
    return key.decrypt(key.public_key().encrypt(probe, padding.PKCS1v15()), padding.PKCS1v15()) == probe
