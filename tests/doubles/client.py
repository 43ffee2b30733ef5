"""A broker as its clients see it: real HTTPS on loopback, answers in the contract's shapes, nothing decided."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import ssl
import threading
from collections import deque
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self, cast
from urllib.parse import parse_qs, parse_qsl, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from broker.delivery.sealing import recipient, seal

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

PEM = serialization.Encoding.PEM
NO_PASSPHRASE = serialization.NoEncryption()


class Authority:
    """A private certificate authority in a folder: `ca.pem`, `server.pem` and `client.pem` with their `.key` files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        self.ca_file = self._write("ca.pem", self._certificate(self._name, self._key, None))
        self.server = self._issue("server", ExtendedKeyUsageOID.SERVER_AUTH)
        self.client = self._issue("client", ExtendedKeyUsageOID.CLIENT_AUTH)

    def server_context(self, *, ask_for_certificate: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.server)
        if ask_for_certificate:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.ca_file)
        return context

    def _issue(self, name: str, usage: x509.ObjectIdentifier) -> tuple[str, str]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._write(f"{name}.pem", self._certificate(subject, key, usage))
        private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, NO_PASSPHRASE)
        return certificate, self._write(f"{name}.key", private)

    def _certificate(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, usage: x509.ObjectIdentifier | None
    ) -> bytes:
        now = dt.datetime.now(dt.UTC)
        of_authority = usage is None
        builder = (
            x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=of_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(_key_usage(of_authority=of_authority), critical=True)
        )
        if usage is not None:
            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        return builder.sign(cast("CertificateIssuerPrivateKeyTypes", self._key), hashes.SHA256()).public_bytes(PEM)

    def _write(self, name: str, content: bytes) -> str:
        path = self.folder / name
        path.write_bytes(content)
        return str(path)


def _key_usage(*, of_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not of_authority,
        key_cert_sign=of_authority,
        crl_sign=of_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


@dataclass(frozen=True)
class Answer:
    """What to answer: a JSON document, or `content` as it is."""

    document: object = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes | None = None
    hang_up: bool = False
    """Close the kept-alive connection after this answer without saying so."""
    gate: threading.Event | None = None
    """Answer only when it is set."""
    in_the_open: bool = False
    """Do not seal a credential, though it was asked for."""


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: Any
    """Without `seal_to`, which is another one each time."""
    connection: int
    seal_to: Any = None


class ServiceDouble:
    """Answers each route with what it was told to, in order, the last one for ever; keeps what it saw."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self.seen: list[Seen] = []
        self._answers: dict[str, deque[Answer]] = {}
        self._server = _Server(self, context)
        scheme = "https" if context else "http"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_port}"

    def tell(self, route: str, *answers: Answer) -> None:
        """Set the answers of a route, written `POST /v1/credentials`."""
        self._answers[route] = deque(answers)

    def answer(self, seen: Seen) -> Answer:
        self.seen.append(seen)
        told = self._answers.get(f"{seen.method} {seen.path}")
        if not told:
            return problem(404, "not_found", "There is nothing here.")
        return sealed(told.popleft() if len(told) > 1 else told[0], seen.seal_to)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, double: ServiceDouble, context: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.double = double
        self._context = context

    def finish_request(self, request: Any, client_address: Any) -> None:  # socketserver's own signature
        """Shake hands in the connection's own thread; a client that walks away is no error of ours."""
        try:
            if self._context:
                with self._context.wrap_socket(request, server_side=True) as secured:
                    super().finish_request(cast("Any", secured), client_address)
            else:
                super().finish_request(request, client_address)
        except OSError:
            return


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one write for the head and the body of an answer
    disable_nagle_algorithm = True
    server: _Server

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length", "0"))
        content = self.rfile.read(length)
        form = "urlencoded" in self.headers.get("Content-Type", "")
        body = dict(parse_qsl(content.decode())) if form else json.loads(content) if content else None
        headers = {name.lower(): value for name, value in self.headers.items()}
        port = self.client_address[1]
        seal_to = body.pop("seal_to", None) if isinstance(body, dict) else None
        seen = Seen(self.command, parts.path, parse_qs(parts.query), headers, body, port, seal_to)
        answer = self.server.double.answer(seen)
        if answer.gate:
            answer.gate.wait(20)
        self._write(answer)
        self.close_connection = answer.hang_up

    do_GET = do_POST = _serve  # noqa: N815  # the names by which the base class finds them

    def _write(self, answer: Answer) -> None:
        content = json.dumps(answer.document).encode() if answer.content is None else answer.content
        self.send_response_only(answer.status)
        kind = "application/json" if answer.status < 400 else "application/problem+json"
        usual = {"Date": self.date_time_string(), "Content-Type": kind, "Content-Length": str(len(content))}
        for name, value in (usual | answer.headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
        """Say nothing."""


def sealed(answer: Answer, to: Any) -> Answer:
    """Seal a credential to whom its request says, as the service does."""
    kinds = {"ssh", "rdp"}.intersection(answer.document if isinstance(answer.document, dict) else ())
    if not kinds or to is None or answer.in_the_open:
        return answer
    kind, document = kinds.pop(), cast("dict[str, Any]", answer.document)
    sealed_secret = seal(document[kind], recipient(to))
    named = {"sealed" if name == kind else name: value for name, value in document.items()}
    return replace(answer, document=named | {"sealed": sealed_secret})


def problem(status: int, code: str, detail: str = "No.", retry_after: int | None = None, **members: object) -> Answer:
    """Refuse as the contract says (RFC 9457)."""
    document = {"type": "about:blank", "title": "Refused", "status": status, "detail": detail, "code": code}
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return Answer(document | {"request_id": "req-1"} | members, status, headers)


def ssh_credential(
    name: str = "web-1",
    username: str = "ec2-user",
    port: int = 2222,
    authority: ed25519.Ed25519PrivateKey | None = None,
) -> dict[str, Any]:
    """A credential with a real key, a certificate that belongs to it, and a host key."""
    key, host = rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate()
    host_key = host.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    certificate = (
        serialization.SSHCertificateBuilder()
        .public_key(key.public_key())
        .serial(7)
        .type(serialization.SSHCertificateType.USER)
        .key_id(b"lease-1")
        .valid_principals([username.encode()])
        .valid_after(0)
        .valid_before(4_000_000_000)
        .add_extension(b"permit-agent-forwarding", b"")  # as Lightsail's have
        .add_extension(b"permit-port-forwarding", b"")
        .add_extension(b"permit-pty", b"")
        .sign(authority or ed25519.Ed25519PrivateKey.generate())
    )
    private = key.private_bytes(PEM, serialization.PrivateFormat.TraditionalOpenSSL, NO_PASSPHRASE)
    ssh = {
        "private_key": private.decode(),
        "certificate": certificate.public_bytes().decode(),
        "known_hosts": [f"[127.0.0.1]:{port} {host_key.decode()}"],
        "expires_at": "2030-01-01T00:13:00.000Z",
    }
    return _credential(name, "LINUX_UNIX", "ssh", port, username) | {"ssh": ssh}


def rdp_credential(password: str) -> dict[str, Any]:
    """A Windows password with its warning."""
    rdp = {"password": password, "certificate_sha256": ["ab" * 32], "file": "alternate shell:s:calc.exe\r\n"}
    document = _credential("win-1", "WINDOWS", "rdp", 3389, "Administrator")
    document["warnings"] = ["The password lives on after the lease."]
    return document | {"rdp": {**rdp, "expires_at": None}}


def _credential(name: str, platform: str, protocol: str, port: int, username: str) -> dict[str, Any]:
    return {
        "lease": {"id": "lease-1", "issued_at": "2030-01-01T00:00:00.000Z", "expires_at": "2030-01-01T00:13:00.000Z"},
        "instance": {"account": "main", "region": "eu-west-1", "name": name, "platform": platform},
        "protocol": protocol,
        "host": "127.0.0.1",
        "ipv6_addresses": [],
        "port": port,
        "username": username,
        "revocable": False,
        "warnings": [],
        "decision": {"policies": ["ops-ssh"]},
        "audit": {"index": 41, "leaf_hash": "YWJj"},
    }


def page(*items: object, cursor: str | None = None) -> Answer:
    """One page of a listing."""
    return Answer({"items": list(items), "next_cursor": cursor})


def instance(name: str, **members: object) -> dict[str, Any]:
    """One item of `GET /v1/instances`."""
    return {
        "name": name,
        "account": "main",
        "region": "eu-west-1",
        "platform": "LINUX_UNIX",
        "blueprint": "amazon_linux_2023",
        "bundle": "nano_3_0",
        "state": "running",
        "tags": {"env": "prod"},
        "protocols": ["ssh"],
    } | members


def blueprint(**members: object) -> dict[str, Any]:
    """One item of `GET /v1/blueprints`."""
    return {
        "blueprintId": "windows_server_2022",
        "name": "Windows Server 2022",
        "group": "windows_2022",
        "type": "os",
        "description": "",
        "isActive": True,
        "minPower": 500,
        "version": "2022.12.14",
        "versionCode": "1",
        "productUrl": "",
        "licenseUrl": "",
        "platform": "WINDOWS",
    } | members


def bundle(**members: object) -> dict[str, Any]:
    """One item of `GET /v1/bundles`."""
    return {
        "bundleId": "medium_win_3_0",
        "name": "Medium",
        "instanceType": "medium",
        "isActive": True,
        "price": 22.0,
        "cpuCount": 2,
        "ramSizeInGb": 4.0,
        "diskSizeInGb": 80,
        "transferPerMonthInGb": 4096,
        "power": 1000,
        "supportedPlatforms": ["WINDOWS"],
    } | members
