"""The signing key of the log on disk: PKCS#8 PEM, and its public half beside it in `FILE.pub` for auditors."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from broker.audit.checkpoints import CheckpointError, Signer, VerifierKey
from broker.audit.stores.files import sync_folder
from broker.errors import AuditUnavailable

_SHARED = 0o077
_DERIVED = 32


def create_signing_key(path: Path, origin: str) -> VerifierKey:
    """Make a new key at `path` (0600) and its verifier key at `path.pub`; answer the latter.

    Raises:
        AuditUnavailable: when there is such a file already, or it cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    try:
        verifier = Signer(origin, key).verifier
        _write_new(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
        _write_new(public_path(path), f"{verifier}\n".encode(), 0o644)
    except (OSError, CheckpointError) as problem:
        raise AuditUnavailable(f"the audit signing key cannot be made: {problem}") from problem
    return verifier


def load_signer(path: Path, origin: str) -> Signer:
    """Read the signing key of the log `origin`.

    Raises:
        AuditUnavailable: when it is missing, readable by others, no Ed25519 PKCS#8 PEM, or the origin is no name.
    """
    key = _load(path)
    try:
        return Signer(origin, key)
    except CheckpointError as problem:
        raise AuditUnavailable(f"the audit signing key {path} cannot be used: {problem}") from problem


def _load(path: Path) -> Ed25519PrivateKey:
    try:
        if path.stat().st_mode & _SHARED:
            raise AuditUnavailable(f"the audit signing key {path} is open to others: chmod 600 it")
        key = load_pem_private_key(path.read_bytes(), password=None)
        if isinstance(key, Ed25519PrivateKey):
            return key
    except (OSError, ValueError, TypeError) as problem:  # TypeError: it is encrypted
        raise AuditUnavailable(f"the audit signing key {path} cannot be read: {problem}") from problem
    raise AuditUnavailable(f"the audit signing key {path} is not an Ed25519 key")


def derived_key(path: Path, purpose: str) -> bytes:
    """Answer 32 bytes that only who has the signing key at `path` can have, others for each purpose (RFC 5869).

    Raises:
        AuditUnavailable: as `load_signer`.
    """
    raw = _load(path).private_bytes_raw()
    return HKDF(hashes.SHA256(), _DERIVED, salt=None, info=f"lightsail-credential-broker {purpose}".encode()).derive(
        raw
    )


def public_path(path: Path) -> Path:
    """Answer where the verifier key of a signing key file lies."""
    return path.with_name(path.name + ".pub")


def successor_path(path: Path) -> Path:
    """Answer where the key lies that is to follow the one at `path`."""
    return path.with_name(path.name + ".next")


def succeed(path: Path) -> None:
    """Put the successor in the place of the key at `path`, which is gone then; the rest of a change that was cut short.

    Raises:
        AuditUnavailable: when the files cannot be moved.
    """
    successor = successor_path(path)
    try:
        if public_path(successor).exists():
            public_path(successor).rename(public_path(path))
        successor.rename(path)
        sync_folder(path.parent)
    except OSError as problem:
        raise AuditUnavailable(f"the new signing key {successor} cannot be moved: {problem.strerror}") from problem


def _write_new(path: Path, content: bytes, mode: int) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
