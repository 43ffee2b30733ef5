"""The stage: files, keys, people, and the programs that run while the demonstration does."""

from __future__ import annotations

import ipaddress
import json
import os
import pwd
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

import broker
from broker import settings, state, wiring
from broker.demo.sshd import Sshd
from broker.emulator import Emulator
from broker.emulator.fixture import Fixture
from broker.observability import configure_logging

ISSUER = "https://id.demo.example"
WORKLOADS = "https://ci.demo.example"
AUDIENCE = "lightsail-broker"

WINDOWS_PASSWORD = secrets.token_urlsafe(16)
"""What Windows made up for `win-1`; another one in every process."""

SETTINGS = """\
[server]
listen = "127.0.0.1:0"
tls_certificate = "tls.crt"
tls_private_key = "tls.key"
[[issuers]]
name = "corp"
issuer = "{issuer}"
audience = "{audience}"
jwks_file = "jwks.json"
[[issuers]]
name = "ci"
issuer = "{workloads}"
audience = "{audience}"
jwks_file = "jwks.json"
principal = "workload"
[[accounts]]
name = "main"
regions = ["eu-west-1", "us-east-1"]
endpoint_url = "{endpoint}"
[policies]
directory = "policies"
[audit]
origin = "demo.example/audit"
"""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who the demonstration's identity provider vouches for."""

    name: str
    groups: tuple[str, ...]
    issuer: str = ISSUER


ALICE = Person("alice", ("ops",))
BOB = Person("bob", ("developers", "shop"))
CAROL = Person("carol", ("auditors",))
PEOPLE = (ALICE, BOB, CAROL)


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that runs, and where its files are."""

    folder: Path
    url: str
    emulator: Emulator
    sshd: Sshd | None
    seal: Callable[[], Awaitable[str]]
    """Signs a checkpoint of the audit log now, rather than within a minute."""

    @property
    def config(self) -> Path:
        """The settings file of the broker."""
        return self.folder / "broker.toml"

    def token_file(self, person: Person) -> Path:
        """Where somebody's access token is."""
        return self.folder / f"{person.name}.token"

    def give_token(self, person: Person, token: str) -> None:
        """Put somebody's access token where nobody else reads it."""
        self.token_file(person).touch(mode=0o600)
        self.token_file(person).write_text(token)

    def environment(self, person: Person) -> dict[str, str]:
        """What a person's shell needs to reach the broker."""
        return {
            "BROKER_URL": self.url,
            "BROKER_CA_FILE": str(self.folder / "ca.pem"),
            "BROKER_TOKEN_FILE": str(self.token_file(person)),
        }


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[Stage]:
    """Set everything up in a folder, and run it until the context ends."""
    async with AsyncExitStack() as stack:
        configure_logging(stack.enter_context(_log_file(folder)))
        sshd = _sshd(folder, stack)
        emulator = await stack.enter_async_context(Emulator(_company(folder, sshd)))
        if sshd:
            sshd.trust(emulator.ssh_ca_line)
        _sign_in_everybody(folder)
        make_tls(folder)
        shutil.copytree(shipped_policies(), folder / "policies", dirs_exist_ok=True)
        config = folder / "broker.toml"
        config.write_text(SETTINGS.format(issuer=ISSUER, workloads=WORKLOADS, audience=AUDIENCE, endpoint=emulator.url))
        os.environ["AWS_ACCESS_KEY_ID"] = emulator.fixture.access_key_id
        os.environ["AWS_SECRET_ACCESS_KEY"] = emulator.fixture.secret_access_key
        os.environ.pop("AWS_SESSION_TOKEN", None)
        loaded = settings.load(config, {})
        list(state.create(loaded))
        service = await stack.enter_async_context(wiring.service(loaded))
        yield Stage(folder, service.url, emulator, sshd, service.checkpoint)


def _log_file(folder: Path) -> BinaryIO:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return (folder / "broker.log").open("wb", buffering=0)


def shipped_policies() -> Path:
    """Answer where the shipped policies are: inside an installed package, or beside it in a checkout."""
    package = Path(broker.__file__).parent
    installed = package / "policies"
    return installed if installed.is_dir() else package.parent / "policies"


def mint(person: Person, key: Ed25519PrivateKey, now: datetime, **more: object) -> str:
    """Answer an access token, as the company's identity provider would after a login with a second factor.

    Args:
        person: whom it is about.
        key: of the identity provider.
        now: when it is issued.
        more: further claims, or others instead.
    """
    claims: dict[str, Any] = {
        "iss": person.issuer,
        "aud": AUDIENCE,
        "sub": person.name,
        "groups": list(person.groups),
        "iat": now,
        "exp": now + timedelta(hours=1),
        "auth_time": int(now.timestamp()),
        "amr": ["pwd", "mfa"],
        **more,
    }
    return jwt.encode(claims, key, algorithm="EdDSA", headers={"typ": "at+jwt", "kid": "demo"})


def _sshd(folder: Path, stack: AsyncExitStack) -> Sshd | None:
    """Start a real sshd where one is installed."""
    if not (shutil.which("ssh") and shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")):
        return None
    return stack.enter_context(Sshd(folder / "sshd", trusted_ca="", principals=[pwd.getpwuid(os.getuid()).pw_name]))


def _company(folder: Path, sshd: Sshd | None) -> Fixture:
    """Answer a company with servers of every kind; `web-1` is a real one where there is an sshd."""
    linux = {"blueprint": "amazon_linux_2023", "bundle": "nano_3_0", "public_ip": "127.0.0.1"}
    windows = {"blueprint": "windows_server_2022", "bundle": "medium_win_3_0", "public_ip": "127.0.0.1"}
    # It runs as whoever plays the demonstration, so it has this one user.
    real: dict[str, Any] = {"host_keys": [str(sshd.host_key_file)], "username": sshd.user} if sshd else {}
    port = str(sshd.port) if sshd else "22"
    here, there = {"region": "eu-west-1"}, {"region": "us-east-1"}
    instances: Sequence[dict[str, Any]] = [
        {**linux, **here, **real, "name": "web-1", "tags": {"env": "prod", "team": "shop", "ssh-port": port}},
        {**linux, **here, "name": "web-dev", "blueprint": "ubuntu_24_04", "tags": {"env": "dev", "team": "shop"}},
        {**linux, **here, "name": "db-1", "bundle": "medium_3_0", "tags": {"env": "prod", "team": "data"}},
        {**linux, **here, "name": "batch-old", "state": "stopped", "tags": {"env": "dev"}},
        {
            **windows,
            **here,
            "name": "win-1",
            "key_pair": "team-key",
            "password": WINDOWS_PASSWORD,
            "tags": {"env": "prod"},
        },
        {**windows, **there, "name": "win-build", "tags": {"env": "dev"}},
        {**linux, **there, "name": "edge-1", "ipv6": ["2001:db8::17"], "tags": {"env": "prod", "team": "edge"}},
    ]
    return Fixture.of(
        {
            "key_pairs": [{"name": "team-key", "region": "eu-west-1", "private_key": "team-key.pem"}],
            "instances": instances,
        },
        folder,
    )


def _sign_in_everybody(folder: Path) -> None:
    """Be the identity provider: publish a key set, and give everybody a token."""
    key = Ed25519PrivateKey.generate()
    public = jwt.algorithms.OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    (folder / "jwks.json").write_text(json.dumps({"keys": [{**public, "kid": "demo", "alg": "EdDSA", "use": "sig"}]}))
    for person in PEOPLE:
        path = folder / f"{person.name}.token"
        path.touch(mode=0o600)
        path.write_text(mint(person, key, datetime.now(UTC)))


def make_tls(folder: Path) -> None:
    """Make an authority and a certificate for this machine's loopback address."""
    now, authority_key = datetime.now(UTC), ec.generate_private_key(ec.SECP256R1())
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Demo CA")])
    builder = x509.CertificateBuilder().not_valid_before(now).not_valid_after(now + timedelta(days=2))
    ca = (
        builder.subject_name(authority)
        .issuer_name(authority)
        .public_key(authority_key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        builder.subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker.demo.example")]))
        .issuer_name(authority)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(ca.public_bytes(Encoding.PEM))
    (folder / "tls.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "tls.key").touch(mode=0o600)
    (folder / "tls.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
