"""The certificate of the service: taken in anew when its files change, and watched for its end."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import structlog
from cryptography import x509

from broker.model import Clock, Health, Measure, utc_now

LOOK_SECONDS = 2.0
_log = structlog.get_logger("broker.service")
_Stamp = tuple[tuple[int, int, int], ...]


def tls_context(certificate: Path, private_key: Path, client_ca: Path | None = None) -> ssl.SSLContext:
    """Build the server's side of TLS: 1.2 or newer, forward secrecy only, client certificates asked for when known.

    Raises:
        OSError: a file is missing or does not hold what it should; names the files.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    with _naming(f"{certificate} and {private_key}"):
        context.load_cert_chain(certificate, private_key)
    if client_ca:
        with _naming(str(client_ca)):
            context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


@contextmanager
def _naming(files: str) -> Iterator[None]:
    """Say which files an error is about; OpenSSL does not."""
    try:
        yield
    except OSError as error:
        reason = getattr(error, "reason", "") or error.strerror or "not usable"
        raise OSError(error.errno, f"no TLS with this: {reason}", files) from error


class Certificate:
    """Certificate and key in their files, and the context that new connections are made with.

    Raises:
        OSError: a file is missing or does not hold what it should; names the files.
    """

    def __init__(
        self, certificate: Path, private_key: Path, client_ca: Path | None = None, clock: Clock = utc_now
    ) -> None:
        self._files = certificate, private_key
        self._clock = clock
        self._seen = self._stamp()
        self.context = tls_context(certificate, private_key, client_ca)
        self._ends = _end(certificate)
        self._trouble = ""

    async def watch(self) -> None:
        """Take in changed files within a few seconds, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._stamp() != self._seen:
                await self.reload()

    async def reload(self) -> None:
        """Take in the files now. What does not fit is refused, and the old certificate goes on."""
        self._seen = self._stamp()
        try:
            await asyncio.to_thread(tls_context, *self._files)  # a context that failed to load is none to serve with
            ends = _end(self._files[0])
            self.context.load_cert_chain(*self._files)
        except (OSError, ValueError) as problem:
            self._trouble = getattr(problem, "strerror", "") or type(problem).__name__
            _log.error("the certificate cannot be taken in, the old one goes on", detail=self._trouble)
            return
        self._trouble, self._ends = "", ends
        _log.info("took the certificate in", ends=ends.isoformat())

    def health(self) -> Health:
        """Tell whether clients can believe the certificate."""
        if self._clock() >= self._ends:
            return Health("tls", ready=False, detail="The certificate has ended.")
        told = (
            f"The new certificate cannot be taken in ({self._trouble}); the old one goes on." if self._trouble else ""
        )
        return Health("tls", ready=True, detail=told)

    def measures(self) -> Iterator[Measure]:
        """Answer for how long the certificate is good."""
        yield Measure("tls_certificate_left_seconds", (self._ends - self._clock()).total_seconds())

    def _stamp(self) -> _Stamp | None:
        try:
            stats = [file.stat() for file in self._files]
        except OSError:  # in the middle of being replaced
            return None
        return tuple((stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in stats)


def _end(certificate: Path) -> datetime:
    return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
