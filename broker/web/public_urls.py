"""Under which address callers know the service: what the operator says counts, never what a request says by itself.

A proof of possession names the address that it is for (RFC 9449, `htu`). Were that compared with the request's own
Host, whoever lured a caller to another host could send the proof on to us under that host's name.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


class PublicUrls:
    """The addresses of the service.

    Args:
        listed: URLs without a path, of which the first is the service's own name. When there is none, the names below
            count, with any port: a balancer may listen on another one.
        names: DNS names, of which the first label may be `*`, and IP addresses.
        scheme: by which we are reached at these names.
    """

    def __init__(self, listed: Sequence[str] = (), names: Sequence[str] = LOOPBACK, scheme: str = "http") -> None:
        self._listed = tuple(url.rstrip("/") for url in listed)
        self._by_host = {urlsplit(url).netloc.lower(): url for url in reversed(self._listed)}
        self._names = tuple(name.lower() for name in names)
        self._scheme = scheme
        self._of = lru_cache(maxsize=256)(self._find)

    def of(self, host: str) -> str:
        """Answer the address that a request was sent to, by its Host header; when that is none of ours, our own.

        A proof that was made for the other host, or a client that asked it, then finds that it does not match.
        """
        return self._of(host.lower())

    def _find(self, host: str) -> str:
        if self._listed:
            return self._by_host.get(host, self._listed[0])
        return f"{self._scheme}://{host if self._is_ours(host) else self._own()}"

    def _is_ours(self, host: str) -> bool:
        try:
            parts = urlsplit(f"//{host}")
            name, _ = parts.hostname or "", parts.port
        except ValueError:
            return False
        if parts.netloc != host or "@" in host:
            return False
        return name in self._names or f"*.{name.partition('.')[2]}" in self._names

    def _own(self) -> str:
        own = next((name for name in self._names if not name.startswith("*")), "localhost")
        return f"[{own}]" if ":" in own else own


def names_of(certificate: Path) -> list[str]:
    """Answer the names for which a TLS certificate is (the first of a PEM file): DNS names first.

    Raises:
        OSError: the file cannot be read.
        ValueError: there is no certificate in it.
    """
    loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
    try:
        names = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = names.get_values_for_type(x509.IPAddress)
    return [*names.get_values_for_type(x509.DNSName), *(str(address) for address in addresses)]
