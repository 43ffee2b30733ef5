"""RSA key pairs: which one, and whether a private key is fit to be kept for it (pure)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from broker.errors import InvalidRequest
from broker.model import Secret, is_resource_name
from broker.unsealing import fingerprints, pem

KEY_SIZES: Final = (2048, 3072, 4096)
"""Modulus sizes in bits that are kept; Lightsail makes 2048 and imports more."""
MAX_PEM_CHARACTERS: Final = 64 * 1024
_LEAST_EXPONENT: Final = 65537
_PLACE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class KeyPairId:
    """Which key pair: our account name, AWS region, key pair name. Written `account/region/name`."""

    account: str
    region: str
    name: str

    def __str__(self) -> str:
        return f"{self.account}/{self.region}/{self.name}"

    @classmethod
    def of(cls, account: str, region: str, name: str) -> Self:
        """Build one from text that came from outside.

        Raises:
            InvalidRequest: When one of the three cannot be what it should name.
        """
        if not (_PLACE.fullmatch(account) and _PLACE.fullmatch(region) and is_resource_name(name)):
            raise InvalidRequest(detail="A key pair is named by an account, a region and its own name.")
        return cls(account, region, name)


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A private key and whose it is. Comes from `examine` or out of an envelope of the custody, from nowhere else.

    `key_id` is SHA-256 of the public key's DER, in hex; `fingerprint_at_aws` is AWS's own text when it was added.
    """

    id: KeyPairId
    key_id: str
    fingerprint_at_aws: str
    added_at: datetime
    private_key: RSAPrivateKey = field(repr=False, compare=False)

    @property
    def bits(self) -> int:
        """The size of the modulus."""
        return self.private_key.key_size

    def matches(self, fingerprint: str) -> bool:
        """Tell whether AWS's fingerprint is one of this key's; quick when it is the one of the day it was added."""
        return (
            fingerprint == self.fingerprint_at_aws
            or fingerprints.matching_form(self.private_key, fingerprint) is not None
        )


def examine(key_pair: KeyPairId, private_key: Secret, fingerprint_at_aws: str, now: datetime) -> HeldKey:
    """Check a private key before it is kept: sound RSA, strong enough, and the one that AWS means by this name.

    Args:
        key_pair: Where it belongs.
        private_key: One unencrypted PEM block: PKCS#1, PKCS#8 or OpenSSH.
        fingerprint_at_aws: `keyPair.fingerprint` of GetKeyPairs.
        now: The time of adding.

    Raises:
        InvalidRequest: Its `detail` says what is wrong and holds nothing of the key.
    """
    key = _strong(_load(private_key.reveal()))
    if fingerprints.matching_form(key, fingerprint_at_aws) is None:
        raise InvalidRequest(detail=_difference(key_pair, key, fingerprint_at_aws))
    return HeldKey(key_pair, fingerprints.key_id(key), fingerprint_at_aws.strip(), now, key)


def _load(text: str) -> RSAPrivateKey:
    if len(text) > MAX_PEM_CHARACTERS:
        raise _unfit("The file is larger than 64 KiB: no single private key is.")
    text = pem.normalise(text)
    if text.count("-----BEGIN ") != 1:
        raise _unfit("Give exactly one private key as PEM, and nothing beside it.")
    if "ENCRYPTED" in text:
        raise _encrypted()
    if not pem.is_private_key(text):
        raise _unfit("This is no private key as PEM (PKCS#1, PKCS#8 or OpenSSH).")
    try:
        key = pem.load_private_key(text, validate=True)
    except TypeError:
        raise _encrypted() from None
    except pem.PARSER_FAULTS:
        raise _unfit("The private key is damaged: it cannot be read, or its parts do not agree.") from None
    if not isinstance(key, RSAPrivateKey):
        raise _unfit("Only an RSA key opens Windows passwords; this one is of another kind.")
    return key


def _strong(key: RSAPrivateKey) -> RSAPrivateKey:
    if key.key_size not in KEY_SIZES:
        raise _unfit(f"The RSA key has {key.key_size} bits; 2048, 3072 and 4096 are accepted.")
    if key.public_key().public_numbers().e < _LEAST_EXPONENT:
        raise _unfit("The public exponent of the RSA key is less than 65537.")
    return key


def _unfit(detail: str) -> InvalidRequest:
    return InvalidRequest(detail=detail)


def _encrypted() -> InvalidRequest:
    return _unfit("The private key is encrypted. Decrypt a copy first: `ssh-keygen -p -N '' -f COPY`.")


def _difference(key_pair: KeyPairId, key: RSAPrivateKey, theirs: str) -> str:
    """Say both fingerprints, ours in the forms that have the length of AWS's."""
    digest = fingerprints.parse(theirs)
    forms = fingerprints.of(key)
    alike = {form: ours for form, ours in forms.items() if digest and len(ours) == len(digest)} or forms
    ours = ", ".join(f"{value.hex(':')} ({form})" for form, value in alike.items())
    known = digest.hex(":") if digest else "no fingerprint of a known form"
    return f"This is not the key that AWS knows as {key_pair}. AWS has {known}; this key has {ours}."
