"""The Windows password that custody opens logs in to a real RDP server, whose certificate is the pinned one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.end_to_end.places import WINDOWS, Place, a_place
from tests.real.freerdp import RdpServer

pytestmark = pytest.mark.real("freerdp")
PASSWORD = "?8h2!kZ;=wQ_Tr4u"


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "EC2AMAZ-WIN1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=180))
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "rdp.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (tmp_path / "rdp.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    )
    windows = {
        **WINDOWS,
        "name": "win-1",
        "key_pair": "team-key",
        "password": PASSWORD,
        "rdp_certificate": "rdp.pem",
    }
    async with a_place(tmp_path, [windows]) as place:
        yield place


async def test_the_password_logs_in_and_nothing_else_does(place: Place, tmp_path: Path) -> None:
    options = ["--account", "main", "--region", "eu-west-1", "--private-key", "team-key.pem"]
    assert (await place.broker("keys", "add", "team-key", *options)).code == 0
    async with place.serving() as service:
        status, document = await service.issue("win-1")
        assert status == 201, document
    password, (pin,) = document["rdp"]["password"], document["rdp"]["certificate_sha256"]
    with RdpServer(
        tmp_path / "rdp",
        password=PASSWORD,
        certificate=(tmp_path / "rdp.pem").read_bytes(),
        private_key=(tmp_path / "rdp.key").read_bytes(),
    ) as server:

        async def log_in(secret: str, fingerprint: str) -> int:
            return await asyncio.to_thread(server.log_in, document["username"], secret, fingerprint)

        assert await log_in(password, pin) == 0, server.log
        assert await log_in(password + "x", pin) != 0
        assert "Message Integrity Check (MIC) verification failed" in server.log
        wrong = pin.replace(pin[:2], "00" if pin[:2] != "00" else "11", 1)
        assert await log_in(password, wrong) != 0
        assert await log_in(password, pin) == 0, server.log
