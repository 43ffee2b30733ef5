"""TLS: what is too old, too weak or unknown does not get in."""

from __future__ import annotations

import asyncio
import ssl
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broker.demo.stage import make_tls
from broker.model import Health
from broker.web.certificate import Certificate, tls_context
from broker.web.server import Listener, bind
from tests.end_to_end.places import eventually
from tests.web.conftest import Hall

TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@dataclass(frozen=True)
class Secured:
    """A listener behind TLS."""

    folder: Path
    port: int

    async def shake_hands(self, context: ssl.SSLContext) -> tuple[str, str]:
        """Connect, ask for a page, and answer version and cipher."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        try:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n\r\n")
            if not (answer := await reader.read()):  # how TLS 1.3 hears of a certificate that was refused
                raise ConnectionError
            assert answer.startswith(b"HTTP/1.1 200")
            secured = writer.get_extra_info("ssl_object")
            return secured.version(), secured.cipher()[0]
        finally:
            writer.close()

    def client(self, lowest: ssl.TLSVersion = TLS_1_2, highest: ssl.TLSVersion = TLS_1_3) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        context.minimum_version, context.maximum_version = lowest, highest
        return context


@pytest.fixture
async def secured(hall: Hall, tmp_path: Path) -> AsyncIterator[Secured]:
    make_tls(tmp_path)
    context = tls_context(tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "ca.pem")
    listener = Listener(hall.application(), bind("127.0.0.1", 0), context)
    url = await listener.start()
    assert url.startswith("https://")
    yield Secured(tmp_path, int(url.rpartition(":")[2]))
    await listener.stop()


@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3], ids=lambda version: version.name)
async def test_what_is_new_enough_gets_in_with_forward_secrecy(secured: Secured, version: ssl.TLSVersion) -> None:
    named, cipher = await secured.shake_hands(secured.client(version, version))
    assert named == version.name.replace("_", ".")
    assert cipher.startswith(("TLS_", "ECDHE-"))


async def test_a_cipher_without_forward_secrecy_does_not_get_in(secured: Secured) -> None:
    context = secured.client(TLS_1_2, TLS_1_2)
    context.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
    await secured.shake_hands(context)
    for weak in ("AES256-GCM-SHA384", "ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384"):
        context.set_ciphers(weak)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await secured.shake_hands(context)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
async def test_tls_1_1_does_not_get_in(secured: Secured) -> None:
    context = secured.client(ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_1)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await secured.shake_hands(context)


@pytest.mark.real("openssl")
async def test_nobody_renegotiates_or_compresses(secured: Secured) -> None:
    words = ("s_client", "-tls1_2", "-connect", f"127.0.0.1:{secured.port}", "-CAfile", str(secured.folder / "ca.pem"))
    client = await asyncio.create_subprocess_exec("openssl", *words, stdin=PIPE, stdout=PIPE, stderr=STDOUT)
    said, _ = await asyncio.wait_for(client.communicate(b"R\nGET /healthz HTTP/1.1\r\n\r\n"), 30)
    assert b"Compression: NONE" in said
    assert b"RENEGOTIATING" in said
    assert b"no renegotiation" in said
    assert b"HTTP/1.1" not in said.partition(b"RENEGOTIATING")[2]


async def test_a_client_certificate_of_the_known_authority_may_come_and_no_other(
    secured: Secured, tmp_path: Path
) -> None:
    known = secured.client()
    known.load_cert_chain(secured.folder / "tls.crt", secured.folder / "tls.key")
    await secured.shake_hands(known)
    (tmp_path / "foreign").mkdir()
    make_tls(tmp_path / "foreign")
    foreign = secured.client()
    foreign.load_cert_chain(tmp_path / "foreign" / "tls.crt", tmp_path / "foreign" / "tls.key")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await secured.shake_hands(foreign)


def test_files_that_do_not_fit_are_named(tmp_path: Path) -> None:
    make_tls(tmp_path)
    (tmp_path / "ca.pem").write_text("none")
    with pytest.raises(OSError, match=r"ca\.pem"):
        tls_context(tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "ca.pem")
    with pytest.raises(OSError, match=r"no-such"):
        tls_context(tmp_path / "no-such", tmp_path / "tls.key")


async def test_a_new_certificate_is_taken_in_and_a_bad_one_is_not(hall: Hall, tmp_path: Path) -> None:
    make_tls(tmp_path)
    files = tmp_path / "tls.crt", tmp_path / "tls.key"
    certificate = Certificate(*files)
    listener = Listener(hall.application(), bind("127.0.0.1", 0), certificate.context)
    port = int((await listener.start()).rpartition(":")[2])

    async def shown() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting_anybody())
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        del reader
        assert isinstance(shown, bytes)
        return shown

    watching = asyncio.create_task(certificate.watch())
    try:
        first = await shown()
        good = [file.read_bytes() for file in files]
        (tmp_path / "tls.key").write_text("no key")
        await certificate.reload()
        assert "cannot be taken in" in certificate.health().detail
        assert certificate.health().ready
        assert await shown() == first
        (tmp_path / "other").mkdir()
        make_tls(tmp_path / "other")
        for file in files:
            (tmp_path / "other" / file.name).replace(file)

        async def is_new() -> bool:
            return await shown() != first

        await eventually(is_new)  # noticed by itself
        assert certificate.health() == Health("tls", ready=True)
        [left] = certificate.measures()
        assert left.value > 0
        files[0].write_bytes(good[0])  # of another key
        await certificate.reload()
        assert await shown() != first
        assert "cannot be taken in" in certificate.health().detail
    finally:
        watching.cancel()
        await listener.stop()


def test_an_ended_certificate_is_not_ready(tmp_path: Path) -> None:
    make_tls(tmp_path)
    later = Certificate(tmp_path / "tls.crt", tmp_path / "tls.key", clock=lambda: datetime(2200, 1, 1, tzinfo=UTC))
    assert not later.health().ready


def trusting_anybody() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
