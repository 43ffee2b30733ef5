"""RSA keys: made, kept in files, named by fingerprints, and made ahead of time for SSH answers."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

_EXPONENT: Final = 65537
USUAL_BITS: Final = 2048


def new_key(bits: int = USUAL_BITS) -> RSAPrivateKey:
    """Make an RSA key: about 50 ms of CPU for 2048 bits, 500 ms for 4096; the interpreter's lock is free meanwhile."""
    return generate_private_key(_EXPONENT, bits)


def pem_of(key: RSAPrivateKey) -> str:
    """Write a private key as Lightsail does: PKCS#1 PEM, ending with a newline."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()


def read_private_key(path: Path) -> RSAPrivateKey:
    """Read an unencrypted RSA private key from a PEM file; raises OSError, ValueError or TypeError."""
    # Checking the numbers takes 40 ms a key, and whoever runs the emulator made the file.
    key = load_pem_private_key(path.read_bytes(), None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("not an RSA key")  # noqa: TRY004 - one kind of error for all that is wrong with the content
    return key


def read_or_make(path: Path, bits: int) -> RSAPrivateKey:
    """Read the private key in a file, or make one there (mode 0600, folders 0700) when there is no such file."""
    if path.exists():
        return read_private_key(path)
    key = new_key(bits)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_new_file(path, pem_of(key), 0o600)
    return key


def write_new_file(path: Path, text: str, mode: int) -> None:
    """Write a file that must not exist yet, with its final mode from the start."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)


def created_fingerprint(key: RSAPrivateKey) -> str:
    """Answer the fingerprint of a key pair that AWS created: SHA-1 of the PKCS#8 DER, colon hex (an assumption)."""
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return hashlib.sha1(der, usedforsecurity=False).digest().hex(":")


def imported_fingerprint(key: RSAPublicKey) -> str:
    """Answer the fingerprint of an imported RSA key: MD5 of the public DER, colon hex (an assumption)."""
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.md5(der, usedforsecurity=False).digest().hex(":")


@dataclass(frozen=True, slots=True)
class SessionKey:
    """A private key for one SSH answer, and what the certificate is made for."""

    pem: str = field(repr=False)
    public_key: RSAPublicKey


def _session_key() -> SessionKey:
    key = new_key()
    return SessionKey(pem_of(key), key.public_key())


class KeyPool:
    """RSA 2048 keys made ahead by one background thread, `size` of them (at least one), once the first is wanted.

    With `fresh`, every key is given once and replaced; when they run out one waits for the next. Without it the same
    keys go round for ever: cheap, and good enough to measure others by.
    """

    def __init__(self, size: int, *, fresh: bool) -> None:
        self._size = max(1, size)
        self._fresh = fresh
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="emulator-keys")
        self._keys: deque[Future[SessionKey]] = deque()

    async def take(self) -> SessionKey:
        """Answer the next key."""
        self._fill()
        future = self._keys[0]
        if self._fresh:
            self._keys.popleft()
            self._fill()
        else:
            self._keys.rotate(-1)
        return await asyncio.shield(asyncio.wrap_future(future))

    def close(self) -> None:
        """Make no more keys."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _fill(self) -> None:
        while len(self._keys) < self._size:
            self._keys.append(self._thread.submit(_session_key))
