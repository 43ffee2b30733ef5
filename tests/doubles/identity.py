"""Insecure doubles around the front door: an issuer that signs anything, keys from memory, callers by decree."""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from broker.errors import InvalidToken
from broker.identity.fetching import Fetched, FetchFailed
from broker.identity.issuers import Issuer
from broker.identity.keys import parse_key_set
from broker.model import Caller, Health, Measure, Presented

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from broker.identity.authenticator import Authenticator
    from broker.identity.keys import KeySet

CORP = Issuer(
    name="corp",
    issuer="https://id.example.com",
    audience="lightsail-broker",
    algorithms=("RS256", "PS256", "ES256", "ES384", "EdDSA"),
)


def b64(raw: bytes) -> str:
    """Encode as unpadded base64url."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def as_json(value: object) -> bytes:
    """Encode as compact JSON."""
    return json.dumps(value, separators=(",", ":")).encode()


class StillClock:
    """A clock that moves only when it is told to."""

    def __init__(self, now: datetime = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """Answer the time."""
        return self.now

    def forward(self, **amount: float) -> None:
        """Move by a timedelta, such as `seconds=5`."""
        self.now += timedelta(**amount)


@functools.cache
def _private_key(
    algorithm: str, generation: int
) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey:
    del generation  # only tells keys of one algorithm apart
    if algorithm[:2] in {"RS", "PS"}:
        return rsa.generate_private_key(65537, 2048)
    if algorithm[:2] == "ES":
        return ec.generate_private_key(
            {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}[algorithm]
        )
    return ed25519.Ed25519PrivateKey.generate()


class SigningKey:
    """A key pair of an issuer. Signs with `cryptography` directly, so that the broker's JOSE library meets another."""

    def __init__(self, algorithm: str, key_id: str, generation: int = 0) -> None:
        self.algorithm = algorithm
        self.key_id = key_id
        self.private = _private_key(algorithm, generation)

    def jwk(self, **changes: object) -> dict[str, object]:
        """Answer the public JWK; members given as None are left out."""
        members = {"kid": self.key_id, "alg": self.algorithm, "use": "sig", **self._public_members(), **changes}
        return {name: value for name, value in members.items() if value is not None}

    def _public_members(self) -> dict[str, object]:
        if isinstance(self.private, rsa.RSAPrivateKey):
            numbers = self.private.public_key().public_numbers()
            return {"kty": "RSA", "n": _uint(numbers.n), "e": _uint(numbers.e)}
        if isinstance(self.private, ec.EllipticCurvePrivateKey):
            point = self.private.public_key().public_numbers()
            size = (self.private.key_size + 7) // 8
            curve = {256: "P-256", 384: "P-384", 521: "P-521"}[self.private.key_size]
            return {"kty": "EC", "crv": curve, "x": _uint(point.x, size), "y": _uint(point.y, size)}
        return {"kty": "OKP", "crv": "Ed25519", "x": b64(self.private.public_key().public_bytes_raw())}

    def sign(self, message: bytes, algorithm: str = "") -> bytes:
        """Sign as JWA (RFC 7518) wants it, by default with the key's own algorithm."""
        name = algorithm or self.algorithm
        if isinstance(self.private, ed25519.Ed25519PrivateKey):
            return self.private.sign(message)
        digest = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}[name[2:]]
        if isinstance(self.private, rsa.RSAPrivateKey):
            pss = padding.PSS(padding.MGF1(digest), digest.digest_size)
            return self.private.sign(message, pss if name.startswith("PS") else padding.PKCS1v15(), digest)
        size = (self.private.key_size + 7) // 8
        r, s = decode_dss_signature(self.private.sign(message, ec.ECDSA(digest)))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def _uint(number: int, size: int = 0) -> str:
    return b64(number.to_bytes(size or (number.bit_length() + 7) // 8, "big"))


@dataclass
class Mint:
    """An issuer that signs whatever a test wants signed."""

    clock: StillClock
    key: SigningKey
    issuer: Issuer = CORP
    defaults: dict[str, object] = field(default_factory=dict)

    def claims(self, **changes: object) -> dict[str, object]:
        """Answer good claims with `changes`; claims given as None are left out."""
        now = int(self.clock().timestamp())
        good: dict[str, object] = {
            "iss": self.issuer.issuer,
            "aud": self.issuer.audience,
            "sub": "alice",
            "iat": now,
            "exp": now + 600,
            **self.defaults,
        }
        return {name: value for name, value in (good | changes).items() if value is not None}

    def header(self, **changes: object) -> dict[str, object]:
        """Answer a good header with `changes`; members given as None are left out."""
        good: dict[str, object] = {"alg": self.key.algorithm, "kid": self.key.key_id, "typ": "at+jwt"}
        return {name: value for name, value in (good | changes).items() if value is not None}

    def token(self, header: Mapping[str, object] | None = None, /, **claims: object) -> str:
        """Answer a signed token."""
        return self.raw(as_json(self.header(**(header or {}))), as_json(self.claims(**claims)))

    def raw(self, header: bytes, payload: bytes) -> str:
        """Sign these very bytes as header and payload."""
        signing_input = f"{b64(header)}.{b64(payload)}"
        return f"{signing_input}.{b64(self.key.sign(signing_input.encode()))}"


def key_set_document(*keys: SigningKey | Mapping[str, object]) -> bytes:
    """Answer a JWK Set of these keys."""
    return as_json({"keys": [key.jwk() if isinstance(key, SigningKey) else key for key in keys]})


class HeldKeys:
    """Keys from memory: the same key set for every issuer until `replace`. No fetching, so no network."""

    def __init__(self, *keys: SigningKey | Mapping[str, object]) -> None:
        self.held: KeySet | None = None
        self.asked = 0
        self.replace(*keys)

    def replace(self, *keys: SigningKey | Mapping[str, object]) -> None:
        """Hold these keys from now on; none at all when there are none."""
        self.held = parse_key_set(key_set_document(*keys)) if keys else None

    def current(self, issuer: str) -> KeySet | None:
        """Answer the held keys."""
        del issuer
        return self.held

    async def for_token(self, issuer: str, key_id: str | None) -> KeySet | None:
        """Answer the held keys, and count how often a token had to be verified."""
        del issuer, key_id
        self.asked += 1
        return self.held

    async def start(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    def measures(self) -> Iterator[Measure]:
        """Answer nothing."""
        return iter(())

    def health(self) -> Health:
        """Be ready while keys are held."""
        return Health("issuers", self.held is not None)


class KeysPerIssuer(HeldKeys):
    """Keys from memory, different ones for each issuer's short name."""

    def __init__(self, held: Mapping[str, HeldKeys]) -> None:
        super().__init__()
        self.by_issuer = held

    def current(self, issuer: str) -> KeySet | None:
        """Answer the keys held for this issuer."""
        return self.by_issuer[issuer].held

    async def for_token(self, issuer: str, key_id: str | None) -> KeySet | None:
        """Answer the keys held for this issuer."""
        del key_id
        return self.by_issuer[issuer].held


class ScriptedSource:
    """A key source that answers what a test put into it, counts the loads, and can be held up by `gate`."""

    def __init__(self, answer: bytes | Exception, max_age: int | None = None) -> None:
        self.answer = answer
        self.max_age = max_age
        self.loads = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def load(self) -> Fetched:
        """Answer or raise what the script says."""
        self.loads += 1
        await self.gate.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return Fetched(self.answer, self.max_age)


def unreachable() -> FetchFailed:
    """Make the error of an issuer that is down."""
    return FetchFailed("ClientConnectorError")


def _without_nones(members: Mapping[str, object]) -> bytes:
    return as_json({name: value for name, value in members.items() if value is not None})


def bearer(token: str) -> Presented:
    """Answer what a request with this bearer token presents."""
    return Presented(authorization=(f"Bearer {token}",))


async def cause_of(door: Authenticator, token: str) -> str:
    """Answer why the door refuses this bearer token; fail when it does not."""
    with pytest.raises(InvalidToken) as refusal:
        await door.authenticate(bearer(token))
    return refusal.value.cause


async def accepted(door: Authenticator, token: str) -> Caller:
    """Answer the caller of this bearer token, which the door must accept."""
    return await door.authenticate(bearer(token))


class CallersByToken:
    """An `Authenticator` without any cryptography, for the rooms behind the door: each known text is a caller."""

    def __init__(self, callers: Mapping[str, Caller]) -> None:
        self.callers = dict(callers)
        self.failures: dict[str, int] = {}

    async def authenticate(self, presented: Presented) -> Caller:
        """Answer the caller whose token this is."""
        authorization_values = presented.authorization
        scheme, _, token = authorization_values[0].partition(" ") if len(authorization_values) == 1 else ("", "", "")
        if scheme.lower() != "bearer" or token not in self.callers:
            self.failures["bad_signature"] = self.failures.get("bad_signature", 0) + 1
            raise InvalidToken("bad_signature")
        return self.callers[token]

    def nonce(self) -> str:
        """Answer always the same."""
        return "nonce"

    def drain_failures(self) -> Mapping[str, int]:
        """Answer the refusals since the last call."""
        drained, self.failures = self.failures, {}
        return drained

    async def start(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    def measures(self) -> Iterator[Measure]:
        """Answer nothing."""
        return iter(())

    def health(self) -> Health:
        """Be ready."""
        return Health("issuers", ready=True)


class Prover:
    """Holds a key, and makes DPoP proofs with it: good ones, or wrong in one way (RFC 9449)."""

    def __init__(
        self, clock: Callable[[], datetime], nonce: Callable[[], str], algorithm: str = "ES256", generation: int = 7
    ) -> None:
        self.key = SigningKey(algorithm, "proof", generation)
        self._clock = clock
        self._nonce = nonce
        self._numbers = itertools.count()

    @property
    def jwk(self) -> dict[str, object]:
        """The public key, bare."""
        return self.key.jwk(kid=None, alg=None, use=None)

    @property
    def thumbprint(self) -> str:
        """The `jkt` by which a token is bound to the key."""
        needed = {"EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x"), "RSA": ("e", "kty", "n")}
        members = {name: self.jwk[name] for name in needed[str(self.jwk["kty"])]}
        return b64(hashlib.sha256(as_json(members)).digest())

    def proof(self, token: str, header: Mapping[str, object] | None = None, /, **claims: object) -> str:
        """Answer a proof for `POST https://broker.test/v1/credentials`; members given as None are left out."""
        good: dict[str, object] = {
            "jti": f"proof-{next(self._numbers)}",
            "htm": "POST",
            "htu": "https://broker.test/v1/credentials",
            "iat": int(self._clock().timestamp()),
            "ath": b64(hashlib.sha256(token.encode()).digest()),
            "nonce": self._nonce(),
        }
        head = {"typ": "dpop+jwt", "alg": self.key.algorithm, "jwk": self.jwk} | dict(header or {})
        return self.raw(
            *(
                as_json({name: value for name, value in each.items() if value is not None})
                for each in (head, good | claims)
            )
        )

    def raw(self, header: bytes, payload: bytes) -> str:
        """Sign these very bytes as header and payload."""
        signing_input = f"{b64(header)}.{b64(payload)}"
        return f"{signing_input}.{b64(self.key.sign(signing_input.encode()))}"

    def presents(self, token: str, *proofs: str, **changes: Any) -> Presented:
        """Answer what a request with this token and these proofs presents, by default with one good proof."""
        members: dict[str, Any] = {
            "authorization": (f"DPoP {token}",),
            "dpop": proofs or (self.proof(token),),
            "method": "POST",
            "url": "https://broker.test/v1/credentials",
        }
        return Presented(**members | changes)
