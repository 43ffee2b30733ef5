import asyncio
import os
import re
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
HEALTHCHECK = ROOT / "deploy/container/healthcheck.py"


def instructions(stage: int) -> list[str]:
    """List the instructions of one stage, each on one line."""
    joined = re.sub(r"\\\n\s*", "", DOCKERFILE)
    return [line for line in re.split(r"^FROM .*$", joined, flags=re.MULTILINE)[stage].splitlines() if line]


def test_the_dockerfile_is_clean_for_the_linter() -> None:
    lint = Path(sys.executable).with_name("hadolint")
    result = subprocess.run([lint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")


def test_the_image_runs_without_privileges() -> None:
    final = instructions(2)
    assert [line for line in final if line.startswith("USER ")] == ["USER 10001:10001"]
    assert final.index("USER 10001:10001") > max(final.index(line) for line in final if line.startswith("RUN "))


def test_the_image_serves_the_settings_that_are_mounted_into_it() -> None:
    assert instructions(2)[-2:] == ['ENTRYPOINT ["broker"]', 'CMD ["serve", "--config", "/etc/broker/broker.toml"]']


def test_the_image_is_made_from_locked_wheels_alone() -> None:
    steps = " ".join(instructions(1)).split("&&")
    for step in steps:
        if "pip" in step and (" install " in step or " wheel " in step):
            assert "--require-hashes" in step or "--no-index" in step
    assert "PIP_ONLY_BINARY=:all:" in DOCKERFILE
    assert "pip" not in " ".join(instructions(2))


def test_only_what_the_image_is_made_from_enters_the_build() -> None:
    first, *rest = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert first == "*"
    assert not any(line.startswith("!") and re.search(r"\.git|\.venv|state|tests|deploy/?$", line) for line in rest)


def write_certificate(folder: Path) -> None:
    """Make a new key and a certificate for some name: tls.key and tls.crt."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "broker.example.com")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(hours=1), now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("broker.example.com")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (folder / "tls.crt").write_bytes(made.public_bytes(pem))
    (folder / "tls.key").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))


class Alive:
    """A server that answers /healthz with a status of the test's choice."""

    def __init__(self) -> None:
        self.status = 200
        self.port = 0

    async def healthz(self, _: web.Request) -> web.Response:
        return web.Response(status=self.status)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Alive]:
    write_certificate(tmp_path)
    certificate = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    alive = Alive()
    application = web.Application()
    application.router.add_get("/healthz", alive.healthz)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certificate).start()
    alive.port = runner.addresses[0][1]
    yield alive
    await runner.cleanup()


async def healthcheck(folder: Path, port: int) -> int | None:
    """Run the image's health check with settings that say where the server listens and which certificate it has."""
    config = folder / "broker.toml"
    config.write_text(f"""
[server]
listen = "0.0.0.0:{port}"
tls_certificate = "tls.crt"
tls_private_key = "tls.key"
[[issuers]]
name = "corp"
issuer = "https://id.example.com"
audience = "lightsail-broker"
[[accounts]]
name = "main"
regions = ["eu-west-1"]
[audit]
origin = "broker.example.com/audit"
""")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        HEALTHCHECK,
        env={**os.environ, "BROKER_CONFIG": str(config), "PYTHONPATH": str(ROOT)},
        stderr=asyncio.subprocess.DEVNULL,
    )
    await process.wait()
    return process.returncode


async def test_the_health_check_passes_while_the_service_is_alive(server: Alive, tmp_path: Path) -> None:
    assert await healthcheck(tmp_path, server.port) == 0


async def test_the_health_check_fails_when_the_service_is_not_well(server: Alive, tmp_path: Path) -> None:
    server.status = 503
    assert await healthcheck(tmp_path, server.port) == 1


async def test_the_health_check_trusts_no_certificate_but_the_configured_one(server: Alive, tmp_path: Path) -> None:
    write_certificate(tmp_path)
    assert await healthcheck(tmp_path, server.port) == 1
