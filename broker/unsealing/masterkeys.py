"""The master key, which wraps one data key per RSA key: from a file, from the environment, or inside AWS KMS."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from broker.errors import KeysUnavailable
from broker.unsealing import files

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_KMS_ARN: Final = re.compile(r"arn:aws[a-z-]*:kms:([a-z0-9-]+):\d{12}:(?:key|alias)/[A-Za-z0-9/_-]+", re.ASCII)


class MasterKey(Protocol):
    """Wraps and unwraps data keys. `context` says what a data key is for, and must be the same both times."""

    @property
    def id(self) -> str:
        """A name that tells master keys apart and reveals nothing of them."""
        ...

    async def wrap(self, data_key: bytes, context: Mapping[str, str]) -> bytes:
        """Encrypt a data key; raises KeysUnavailable."""
        ...

    async def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """Decrypt what `wrap` answered; raises KeysUnavailable when key, context or bytes are not the same."""
        ...


class KeyService(Protocol):
    """The two operations of AWS KMS that are needed; an aioboto3 KMS client has them."""

    async def encrypt(
        self,
        *,
        KeyId: str,  # noqa: N803 - AWS's own name
        Plaintext: bytes,  # noqa: N803 - AWS's own name
        EncryptionContext: Mapping[str, str],  # noqa: N803 - AWS's own name
    ) -> Mapping[str, object]:
        """KMS Encrypt."""
        ...

    async def decrypt(
        self,
        *,
        KeyId: str,  # noqa: N803 - AWS's own name
        CiphertextBlob: bytes,  # noqa: N803 - AWS's own name
        EncryptionContext: Mapping[str, str],  # noqa: N803 - AWS's own name
    ) -> Mapping[str, object]:
        """KMS Decrypt."""
        ...


class LocalMasterKey:
    """32 random bytes that this process holds; wraps by AES-256-GCM."""

    def __init__(self, key: bytes) -> None:
        if len(key) != _KEY_BYTES:
            raise KeysUnavailable("a master key is 32 bytes, written as base64")
        self._cipher = AESGCM(key)
        self._id = "local:" + hashlib.sha256(b"broker master key id\0" + key).hexdigest()[:16]

    @property
    def id(self) -> str:
        """`local:` and 64 bits of a hash of the key, which has 256."""
        return self._id

    async def wrap(self, data_key: bytes, context: Mapping[str, str]) -> bytes:
        """Encrypt a data key: nonce, then AES-256-GCM."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, data_key, _canonical(context))

    async def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """Decrypt a data key."""
        try:
            return self._cipher.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], _canonical(context))
        except (InvalidTag, ValueError):
            raise KeysUnavailable("a data key does not open: altered, or another master key") from None


class KmsMasterKey:
    """A symmetric key inside AWS KMS; `context` goes along as the encryption context, so CloudTrail shows it."""

    def __init__(self, arn: str, service: KeyService) -> None:
        self._arn = arn
        self._service = service

    @property
    def id(self) -> str:
        """`kms:` and the ARN."""
        return f"kms:{self._arn}"

    async def wrap(self, data_key: bytes, context: Mapping[str, str]) -> bytes:
        """KMS Encrypt."""
        try:
            answer = await self._service.encrypt(KeyId=self._arn, Plaintext=data_key, EncryptionContext=context)
        except Exception as error:  # noqa: BLE001 - the client's errors are unknown to this room; none may leave it
            raise _kms_failed(error) from None
        return _bytes_of(answer, "CiphertextBlob")

    async def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """KMS Decrypt, pinned to our key."""
        try:
            answer = await self._service.decrypt(KeyId=self._arn, CiphertextBlob=wrapped, EncryptionContext=context)
        except Exception as error:  # noqa: BLE001 - the client's errors are unknown to this room; none may leave it
            raise _kms_failed(error) from None
        return _bytes_of(answer, "Plaintext")


def load_master_key(
    source: str, *, key_service: KeyService | None = None, environment: MutableMapping[str, str] = os.environ
) -> MasterKey:
    """Find the master key.

    Args:
        source: `file:PATH`, `env:NAME` (removed from the environment once read), or `kms:ARN`.
        key_service: A KMS client for the region of the ARN; needed for `kms:` only, see `kms_region`.
        environment: Where `env:NAME` is looked up.

    Raises:
        KeysUnavailable: When it is missing, open to others or malformed.
    """
    kind, _, value = source.partition(":")
    if kind == "file" and value:
        return LocalMasterKey(_from_file(Path(value)))
    if kind == "env" and value:
        return LocalMasterKey(_from_environment(value, environment))
    if kms_region(source) is not None and key_service is not None:
        return KmsMasterKey(value, key_service)
    raise KeysUnavailable("a master key is named by file:PATH, env:NAME or kms:ARN")


def kms_region(source: str) -> str | None:
    """Answer the AWS region of a `kms:ARN`; None for the other sources."""
    found = _KMS_ARN.fullmatch(source.removeprefix("kms:")) if source.startswith("kms:") else None
    return found[1] if found else None


def create_master_key_file(path: Path) -> None:
    """Make a new master key: 32 random bytes as base64 in a file of mode 0600.

    Raises:
        KeysUnavailable: When there is one already, which is never overwritten, or it cannot be written.
    """
    try:
        files.write_new(path, base64.b64encode(os.urandom(_KEY_BYTES)) + b"\n")
    except FileExistsError:
        raise KeysUnavailable(f"{path} exists already; a master key is never overwritten") from None
    except OSError as error:
        raise KeysUnavailable(f"{path}: {error.strerror}") from None


def _from_file(path: Path) -> bytes:
    try:
        files.require_private(path)
        return _decode(path.read_text("ascii"), str(path))
    except FileNotFoundError:
        raise KeysUnavailable(
            f"there is no master key at {path}: restore it from your backup; `broker init` makes one for the first keys"
        ) from None
    except UnicodeDecodeError:
        raise KeysUnavailable(f"{path} holds no master key") from None
    except OSError as error:
        raise KeysUnavailable(f"{path}: {error.strerror}") from None


def _from_environment(name: str, environment: MutableMapping[str, str]) -> bytes:
    text = environment.pop(name, "")
    if not text:
        raise KeysUnavailable(f"the environment variable {name} holds no master key")
    return _decode(text, name)


def _decode(text: str, where: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _KEY_BYTES:
        raise KeysUnavailable(f"{where} holds no master key: 32 bytes as base64 are expected")
    return key


def _canonical(context: Mapping[str, str]) -> bytes:
    return json.dumps(dict(context), sort_keys=True, separators=(",", ":")).encode()


def _kms_failed(error: Exception) -> KeysUnavailable:
    """Name AWS's code when there is one (`error.response`, as botocore has it), else the error's class."""
    response = getattr(error, "response", None)
    fault = response.get("Error", {}) if isinstance(response, dict) else {}
    return KeysUnavailable(f"KMS: {fault.get('Code') or type(error).__name__}")


def _bytes_of(answer: Mapping[str, object], member: str) -> bytes:
    value = answer.get(member)
    if not isinstance(value, bytes):
        raise KeysUnavailable(f"KMS answered without {member}")
    return value
