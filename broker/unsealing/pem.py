"""Private keys as text: one strict PEM block, and the right loader for it (pure)."""

from __future__ import annotations

import re
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

_BLOCK: Final = re.compile(
    r"-----BEGIN (?P<label>(?:[A-Z]+ )?PRIVATE KEY)-----\n(?:[A-Za-z0-9+/=]{1,128}\n)+-----END (?P=label)-----\n",
    re.ASCII,
)
PARSER_FAULTS: Final = (ValueError, TypeError, UnsupportedAlgorithm, IndexError, OverflowError)
"""What the library's parsers raise on hostile bytes."""


def normalise(text: str) -> str:
    """Answer the text with LF line ends, nothing around it, and one final newline (OpenSSH keys need it)."""
    return text.replace("\r\n", "\n").strip() + "\n"


def is_private_key(text: str) -> bool:
    """Tell whether normalised text is exactly one unencrypted PEM block of a private key, with no headers in it."""
    return _BLOCK.fullmatch(text) is not None


def load_private_key(pem: str, *, validate: bool) -> PrivateKeyTypes:
    """Load one PEM block: PKCS#1, PKCS#8, SEC1 or OpenSSH.

    Args:
        pem: Normalised text.
        validate: Check an RSA key's parts against each other: 40 ms at 2048 bits, 270 ms at 4096, holding the GIL.

    Raises:
        TypeError: When the key is encrypted.
        ValueError: When it is no private key, or its parts do not agree.
    """
    load = load_ssh_private_key if "BEGIN OPENSSH" in pem else load_pem_private_key
    return load(pem.encode("ascii"), password=None, unsafe_skip_rsa_key_validation=not validate)
