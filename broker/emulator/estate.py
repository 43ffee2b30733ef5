"""What a fixture describes, ready to be served: keys read or made, passwords sealed."""

from __future__ import annotations

import base64
import hashlib
import secrets
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from broker.emulator.catalogue import Blueprint, Bundle
from broker.emulator.fixture import DEFAULT_KEY_PAIR, Fixture, FixtureError, InstanceFixture, KeyPairFixture
from broker.emulator.hostkeys import (
    HostKey,
    new_rdp_certificate,
    new_ssh_host_key,
    rdp_certificate_file,
    ssh_host_key_file,
)
from broker.emulator.keys import USUAL_BITS, created_fingerprint, imported_fingerprint, new_key, read_or_make

# The codes of `pending` and `running` are known; the others are EC2's (an assumption).
STATE_CODES: Final = {
    "pending": 0,
    "running": 16,
    "shutting-down": 32,
    "terminated": 48,
    "stopping": 64,
    "stopped": 80,
}
_PKCS1_OVERHEAD: Final = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """A key pair as AWS knows it: the public half alone."""

    name: str
    region: str
    account_id: str
    created_at: datetime
    fingerprint: str
    public_key: RSAPublicKey

    def described(self) -> dict[str, object]:
        """Answer it in the shape of AWS's KeyPair."""
        return {
            "name": self.name,
            "arn": _arn(self.account_id, self.region, "KeyPair", self.name),
            "supportCode": f"{self.account_id}/{self.name}",
            "createdAt": self.created_at,
            "location": {"availabilityZone": "all", "regionName": self.region},
            "resourceType": "KeyPair",
            "tags": [],
            "fingerprint": self.fingerprint,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One server. `password` and its `ciphertext` only with Windows; both exist from the start, seen when ready."""

    fixture: InstanceFixture
    account_id: str
    created_at: datetime
    host_keys: tuple[HostKey, ...]
    password: str = field(default="", repr=False)
    ciphertext: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """Its name, unique in its Region."""
        return self.fixture.name

    @property
    def is_windows(self) -> bool:
        """Whether rdp opens it, rather than ssh."""
        return self.blueprint.platform == "WINDOWS"

    @property
    def is_running(self) -> bool:
        """Whether there is anything to log in to."""
        return self.fixture.state == "running"

    @property
    def blueprint(self) -> Blueprint:
        """What it was made from."""
        return self.fixture.blueprint_of

    @property
    def bundle(self) -> Bundle:
        """Its size."""
        return self.fixture.bundle_of

    @property
    def has_default_key_pair(self) -> bool:
        """Whether Lightsail holds the private key, and so tells the password in clear."""
        return self.fixture.key_pair_name == DEFAULT_KEY_PAIR

    @property
    def state(self) -> dict[str, object]:
        """Its state in the shape of AWS's InstanceState."""
        return {"code": STATE_CODES[self.fixture.state], "name": self.fixture.state}

    @property
    def public_ip(self) -> str:
        """Its public IPv4 address; "" when it has none, as when it does not run (it is not a static one)."""
        return self.fixture.public_ip if self.is_running else ""

    @property
    def arn(self) -> str:
        """Its ARN, which holds a UUID and not the name."""
        return _arn(self.account_id, self.fixture.region, "Instance", self.name)

    @property
    def support_code(self) -> str:
        """Its support code, such as `123456789012/i-0abc…`."""
        return f"{self.account_id}/i-{hashlib.sha256(self.arn.encode()).hexdigest()[:17]}"

    def is_ready(self, now: datetime) -> bool:
        """Tell whether its first minutes are over, in which host keys and password are not known yet."""
        return now >= self.created_at + self.fixture.ready_after


@dataclass(frozen=True, slots=True)
class Estate:
    """All instances and key pairs, by Region and name."""

    instances: Mapping[str, Mapping[str, Instance]]
    key_pairs: Mapping[str, Mapping[str, KeyPair]]


def prepare(fixture: Fixture, now: datetime) -> Estate:
    """Read or make every key of a fixture: blocking, up to a second or more of CPU for what has to be made.

    Raises:
        FixtureError: A file changed since the fixture was read, or a password does not fit its key.
    """
    try:
        pairs = [_key_pair(pair, fixture.account_id, now) for pair in fixture.key_pairs]
        pairs += [_default_pair(region, fixture.account_id, now) for region in _without_default(fixture)]
        key_pairs = {region: {p.name: p for p in pairs if p.region == region} for region in {p.region for p in pairs}}
        instances = [_instance(each, fixture.account_id, key_pairs, now) for each in fixture.instances]
    except (OSError, ValueError, TypeError) as error:
        raise FixtureError([f"fixture: cannot be prepared: {error}"]) from error
    return Estate(_by_region(instances), key_pairs)


def _by_region(instances: Sequence[Instance]) -> dict[str, dict[str, Instance]]:
    by_region: dict[str, dict[str, Instance]] = {}
    for instance in instances:
        by_region.setdefault(instance.fixture.region, {})[instance.name] = instance
    return by_region


def _without_default(fixture: Fixture) -> Iterator[str]:
    """Name the Regions in use whose default key pair the fixture leaves to us."""
    used = {instance.region for instance in fixture.instances} | {pair.region for pair in fixture.key_pairs}
    yield from sorted(used - {pair.region for pair in fixture.key_pairs if pair.name == DEFAULT_KEY_PAIR})


def _key_pair(pair: KeyPairFixture, account_id: str, now: datetime) -> KeyPair:
    key = read_or_make(pair.private_key, USUAL_BITS)
    fingerprint = imported_fingerprint(key.public_key()) if pair.imported else created_fingerprint(key)
    return _known(pair.name, pair.region, account_id, now, key, fingerprint)


def _default_pair(region: str, account_id: str, now: datetime) -> KeyPair:
    key = new_key()
    return _known(DEFAULT_KEY_PAIR, region, account_id, now, key, created_fingerprint(key))


def _known(name: str, region: str, account_id: str, now: datetime, key: RSAPrivateKey, fingerprint: str) -> KeyPair:
    return KeyPair(
        name=name,
        region=region,
        account_id=account_id,
        created_at=now,
        fingerprint=fingerprint,
        public_key=key.public_key(),
    )


def _instance(
    fixture: InstanceFixture, account_id: str, key_pairs: Mapping[str, Mapping[str, KeyPair]], now: datetime
) -> Instance:
    if fixture.blueprint_of.platform != "WINDOWS":
        keys = tuple(map(ssh_host_key_file, fixture.host_keys)) or (new_ssh_host_key(),)
        return Instance(fixture=fixture, account_id=account_id, created_at=now, host_keys=keys)
    certificate = fixture.rdp_certificate
    password = fixture.password or secrets.token_urlsafe(24)
    return Instance(
        fixture=fixture,
        account_id=account_id,
        created_at=now,
        host_keys=(rdp_certificate_file(certificate) if certificate else new_rdp_certificate(fixture.name, now),),
        password=password,
        ciphertext=_sealed(fixture, password, key_pairs[fixture.region][fixture.key_pair_name].public_key),
    )


def _sealed(fixture: InstanceFixture, password: str, key: RSAPublicKey) -> str:
    """Seal a password as Windows does at its first start: RSA PKCS#1 v1.5, base64."""
    text = password.encode()
    if len(text) > key.key_size // 8 - _PKCS1_OVERHEAD:
        raise ValueError(f"the password of {fixture.name} is too long for its key pair")
    return base64.b64encode(key.encrypt(text, PKCS1v15())).decode()


def _arn(account_id: str, region: str, kind: str, name: str) -> str:
    resource = uuid.uuid5(uuid.NAMESPACE_URL, f"{account_id}/{region}/{kind}/{name}")
    return f"arn:aws:lightsail:{region}:{account_id}:{kind}/{resource}"
