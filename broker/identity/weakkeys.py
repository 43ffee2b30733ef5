"""Two families of public keys that look healthy and are not (pure)."""

from __future__ import annotations

from functools import cache
from typing import Final

_ROCA_GENERATOR: Final = 65537
_ROCA_PRIMES: Final = tuple(n for n in range(3, 168) if all(n % divisor for divisor in range(2, n)))

_ED25519_PRIME: Final = 2**255 - 19
_ED25519_D: Final = -121665 * pow(121666, -1, _ED25519_PRIME)
_ED25519_BYTES: Final = 32


def is_roca(modulus: int) -> bool:
    """Say whether an RSA modulus bears the fingerprint of CVE-2017-15361.

    Such primes are k*M + 65537**a mod M with M the product of the small primes, so the modulus lies in the group that
    65537 generates, for every one of them. A healthy one does so once in about 2**28.
    """
    return all(modulus % prime in _powers(prime) for prime in _ROCA_PRIMES)


@cache
def _powers(prime: int) -> frozenset[int]:
    return frozenset(pow(_ROCA_GENERATOR, exponent, prime) for exponent in range(prime - 1))


def is_small_order(encoded: bytes) -> bool:
    """Say whether an Ed25519 public key has an order of at most 8, or is not in its only form (RFC 8032, 5.1.3).

    For such a key, signatures exist that hold for many messages. The identity has y = 1, the order 2 y = -1, the order
    4 y = 0; doubling a point of order 8 gives y = 0, so y*y = -x*x, which the curve turns into d*y**4 + 2*y*y = 1.
    """
    y = int.from_bytes(encoded, "little") & (2**255 - 1)
    order_eight = (_ED25519_D * pow(y, 4, _ED25519_PRIME) + 2 * y * y - 1) % _ED25519_PRIME == 0
    return len(encoded) != _ED25519_BYTES or y >= _ED25519_PRIME or y in {0, 1, _ED25519_PRIME - 1} or order_eight
