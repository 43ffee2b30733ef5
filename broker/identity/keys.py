"""Public keys of issuers: a JSON Web Key Set (RFC 7517) turned into keys that may be relied on (pure).

A key is bound to what it may verify: its type and curve, and its `alg` where it has one. A set is read as a whole; a
bad key in it is dropped, and the rest stays usable.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from jwt.algorithms import Algorithm, ECAlgorithm, OKPAlgorithm, RSAAlgorithm, RSAPSSAlgorithm
from jwt.exceptions import PyJWTError

from broker.identity.base64url import decode
from broker.identity.preparser import MAX_NAME
from broker.identity.strictjson import NotStrictJson, parse_object
from broker.identity.weakkeys import is_roca, is_small_order

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_KEY_SET: Final = 256 * 1024
"""Bytes of a key set. A larger one is refused."""
MAX_KEYS: Final = 64
_MAX_DEPTH: Final = 16
_RSA_BITS: Final = range(2048, 8192 + 1)  # beyond, one verification takes milliseconds
_RSA_EXPONENT: Final = 65537  # FIPS 186-5, A.1.1: no smaller one
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


@dataclass(frozen=True, slots=True)
class _Verifier:
    """One signature algorithm: the kind of key it works with, and PyJWT's implementation of it."""

    kind: str
    implementation: Algorithm


_PUBLIC_MEMBERS: Final = MappingProxyType({"RSA": ("n", "e"), "EC": ("x", "y"), "OKP": ("x",)})
_ED25519: Final = _Verifier("OKP Ed25519", OKPAlgorithm())
ALGORITHMS: Final[Mapping[str, _Verifier]] = MappingProxyType(
    {
        "RS256": _Verifier("RSA", RSAAlgorithm(RSAAlgorithm.SHA256)),
        "RS384": _Verifier("RSA", RSAAlgorithm(RSAAlgorithm.SHA384)),
        "RS512": _Verifier("RSA", RSAAlgorithm(RSAAlgorithm.SHA512)),
        "PS256": _Verifier("RSA", RSAPSSAlgorithm(RSAPSSAlgorithm.SHA256)),
        "PS384": _Verifier("RSA", RSAPSSAlgorithm(RSAPSSAlgorithm.SHA384)),
        "PS512": _Verifier("RSA", RSAPSSAlgorithm(RSAPSSAlgorithm.SHA512)),
        "ES256": _Verifier("EC P-256", ECAlgorithm(ECAlgorithm.SHA256)),
        "ES384": _Verifier("EC P-384", ECAlgorithm(ECAlgorithm.SHA384)),
        "ES512": _Verifier("EC P-521", ECAlgorithm(ECAlgorithm.SHA512)),
        "EdDSA": _ED25519,
        "Ed25519": _ED25519,  # its fully specified name, RFC 9864
    }
)
"""Every algorithm that an issuer may use. Asymmetric ones only: neither `none` nor a shared secret is in here."""
_KINDS: Final = frozenset(verifier.kind for verifier in ALGORITHMS.values())


class UnusableKey(ValueError):
    """A key that is not taken. The message is one of a few words, for the log."""


class BadKeySet(ValueError):
    """The document is no key set at all, or holds no usable key."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One public key, and what it may verify."""

    key_id: str | None
    kind: str
    algorithm: str | None
    public_key: object = field(repr=False)

    def fits(self, algorithm: str) -> bool:
        """Say whether this key is of the algorithm's type and curve, and not meant for another algorithm."""
        return ALGORITHMS[algorithm].kind == self.kind and self.algorithm in {None, algorithm}

    def signed(self, algorithm: str, message: bytes, signature: bytes) -> bool:
        """Say whether `signature` over `message` was made with the private half of this key."""
        return self.fits(algorithm) and ALGORITHMS[algorithm].implementation.verify(message, self.public_key, signature)


@dataclass(frozen=True, slots=True, eq=False)
class KeySet:
    """The usable keys of one issuer at one time. Two sets are the same only as the same object."""

    keys: tuple[VerificationKey, ...]
    sha256: bytes
    """Of the document that it was read from."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """How many keys of the document are not used, by reason."""
    _by_id: Mapping[str, VerificationKey] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_id", {key.key_id: key for key in self.keys if key.key_id is not None})

    def find(self, key_id: str | None) -> VerificationKey | None:
        """Answer the key of this id; without an id, the only key of a set that has one only."""
        if key_id is not None:
            return self._by_id.get(key_id)
        return self.keys[0] if len(self.keys) == 1 else None

    def reused_ids(self, former: KeySet) -> frozenset[str]:
        """Answer the key ids that now stand for other key material than in `former`."""
        both = self._by_id.keys() & former._by_id.keys()
        return frozenset(name for name in both if self._by_id[name].public_key != former._by_id[name].public_key)


def parse_key_set(document: bytes) -> KeySet:
    """Read a JWK Set.

    Raises:
        BadKeySet: it is too large, no strict JSON, no key set, has too many keys or none that is usable.
    """
    dropped: Counter[str] = Counter()
    usable: list[VerificationKey] = []
    for jwk in _listed_keys(document):
        try:
            usable.append(read_key(jwk))
        except UnusableKey as problem:
            dropped[str(problem)] += 1
    unique = _without_twins(usable)
    dropped["duplicate kid"] += len(usable) - len(unique)
    if not unique:
        raise BadKeySet("no usable key")
    return KeySet(unique, hashlib.sha256(document).digest(), +dropped)


def _listed_keys(document: bytes) -> list[object]:
    if len(document) > MAX_KEY_SET:
        raise BadKeySet("too large")
    try:
        listed = parse_object(document, max_depth=_MAX_DEPTH).get("keys")
    except NotStrictJson:
        raise BadKeySet("not a strict JSON object") from None
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise BadKeySet(f"not a list of at most {MAX_KEYS} keys")
    return listed


def _without_twins(keys: list[VerificationKey]) -> tuple[VerificationKey, ...]:
    # Which of two keys of one name was meant cannot be known, so neither is used. Nameless ones do not collide.
    times = Counter(key.key_id for key in keys)
    return tuple(key for key in keys if key.key_id is None or times[key.key_id] == 1)


def read_key(jwk: object) -> VerificationKey:
    """Read one public signature key.

    Raises:
        UnusableKey: it is none, is not meant for signatures, is weak, or comes with its private half.
    """
    if not isinstance(jwk, dict):
        raise UnusableKey("not an object")
    kind = _kind(jwk)
    _check_purpose(jwk, kind)
    members = _public_members(jwk)
    _check_strength(kind, members)
    key_id = jwk.get("kid")
    if key_id is not None and not (isinstance(key_id, str) and 0 < len(key_id) <= MAX_NAME):
        raise UnusableKey("bad kid")
    return VerificationKey(key_id, kind, jwk.get("alg"), _public_key(jwk, kind))


def _kind(jwk: Mapping[str, object]) -> str:
    kty, curve = jwk.get("kty"), jwk.get("crv")
    kind = "RSA" if kty == "RSA" else f"{kty} {curve}"
    if kind not in _KINDS:
        raise UnusableKey("symmetric" if kty == "oct" else "unknown kty or crv")
    return kind


def _check_purpose(jwk: Mapping[str, object], kind: str) -> None:
    if not _PRIVATE.isdisjoint(jwk):
        raise UnusableKey("private key published")
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        raise UnusableKey("not for signatures")
    algorithm = jwk.get("alg")
    if algorithm is not None and (str(algorithm) not in ALGORITHMS or ALGORITHMS[str(algorithm)].kind != kind):
        raise UnusableKey("alg does not fit")


def _public_members(jwk: Mapping[str, object]) -> dict[str, bytes]:
    members = {}
    for name in _PUBLIC_MEMBERS[str(jwk["kty"])]:
        text = jwk.get(name)
        raw = decode(text) if isinstance(text, str) else None
        if raw is None:
            raise UnusableKey("malformed")
        members[name] = raw
    return members


def _check_strength(kind: str, members: Mapping[str, bytes]) -> None:
    if kind == "RSA":
        modulus, exponent = int.from_bytes(members["n"], "big"), int.from_bytes(members["e"], "big")
        bad_exponent = exponent < _RSA_EXPONENT or exponent % 2 == 0
        if modulus.bit_length() not in _RSA_BITS or modulus % 2 == 0 or bad_exponent or is_roca(modulus):
            raise UnusableKey("weak")
    elif kind == _ED25519.kind and is_small_order(members["x"]):
        raise UnusableKey("weak")


def _public_key(jwk: Mapping[str, object], kind: str) -> object:
    """Let PyJWT build the key from its public members alone; it refuses a point that is not on the curve."""
    kty = str(jwk["kty"])
    implementation = next(verifier.implementation for verifier in ALGORITHMS.values() if verifier.kind == kind)
    try:
        return implementation.from_jwk(
            {name: jwk[name] for name in ("kty", "crv", *_PUBLIC_MEMBERS[kty]) if name in jwk}
        )
    except (PyJWTError, ValueError):
        raise UnusableKey("malformed") from None
