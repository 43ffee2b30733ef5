"""Open a Windows password, and recognise garbage (pure).

With OpenSSL 3.2 or newer a wrong RSA key raises nothing: it answers random bytes (implicit rejection). So the key is
bound to the key pair first, by name and fingerprint, and what comes out must look like a password. One key is tried,
never several: each further try would multiply the chance that garbage passes, two in a million.
"""

from __future__ import annotations

import re
from typing import Final

from cryptography.hazmat.backends.openssl import backend
from cryptography.hazmat.primitives.asymmetric import padding

from broker.errors import KeysUnavailable, PasswordUndecryptable
from broker.model import SealedPassword, Secret
from broker.unsealing.keypairs import HeldKey

_PASSWORD: Final = re.compile(rb"(?! )[ -~]{8,127}(?<! )", re.ASCII)
"""8 to 127 printable ASCII characters, no space at either end."""
_LEAST_OPENSSL: Final = (3, 2)


def open_password(sealed: SealedPassword, held: HeldKey) -> Secret:
    """Decrypt the Administrator password by the one key that belongs to it (RSA, PKCS#1 v1.5).

    Raises:
        PasswordUndecryptable: The same for every cause: another key pair, a wrong length, no password inside.
    """
    if sealed.key_pair != held.id.name:
        raise PasswordUndecryptable("the ciphertext is for another key pair")
    if len(sealed.ciphertext) != held.bits // 8:
        raise PasswordUndecryptable("the ciphertext has not the length of the key")
    try:
        plaintext = held.private_key.decrypt(sealed.ciphertext, padding.PKCS1v15())
    except ValueError:  # the number is not less than the modulus
        raise PasswordUndecryptable("the ciphertext is no number below the modulus") from None
    if not is_password(plaintext):
        raise PasswordUndecryptable("what came out is no password")
    return Secret(plaintext.decode("ascii"))


def is_password(plaintext: bytes) -> bool:
    """Tell whether these bytes can be a password that Windows made; nothing is ever repaired."""
    return _PASSWORD.fullmatch(plaintext) is not None


def check_openssl(version: str | None = None) -> None:
    """Refuse a library without implicit rejection: it would answer by timing which ciphertexts are well padded.

    Args:
        version: What the library says of itself, such as `OpenSSL 3.2.1 30 Jan 2024`; by default it is asked.

    Raises:
        KeysUnavailable: When it is not OpenSSL 3.2 or newer.
    """
    text = backend.openssl_version_text() if version is None else version
    found = re.match(r"OpenSSL (\d+)\.(\d+)\.", text, re.ASCII)
    if found is None or (int(found[1]), int(found[2])) < _LEAST_OPENSSL:
        raise KeysUnavailable(f"OpenSSL 3.2 or newer is needed to open passwords, and this is {text}")
