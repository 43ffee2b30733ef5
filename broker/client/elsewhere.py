"""Asking others than the broker, such as authorization servers: JSON, bounded, verification always on."""

from __future__ import annotations

import http.client
import json
import re
import ssl
from urllib.parse import urlencode, urlsplit

from broker import __version__
from broker.client.errors import Misconfigured, Unreachable, Untrusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

ANSWER_LIMIT = 1024 * 1024
"""Bytes of the longest answer that is read."""
TIMEOUT = 15.0
"""Seconds without a byte."""

_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|::1", re.ASCII)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # JSON may spell one, and UTF-8 has none
_FORM = "application/x-www-form-urlencoded"
OK = 200


class Reply:
    """Status, JSON object (empty when there was none) and the one header that matters."""

    def __init__(self, status: int, document: dict[str, Any], nonce: str) -> None:
        self.status = status
        self.document = document
        self.nonce = nonce

    def text(self, name: str) -> str:
        """Answer a member that has to be text; "" when it is none."""
        return text(self.document, name)


class Elsewhere:
    """Sends one request a connection; follows no redirect.

    Args:
        ca_file: authorities that are trusted beside the system's.
        client_cert: a certificate to show, and with `client_key` its key.
        client_key: see there.
        alone: trust only `ca_file`, where there is one, and not the system's authorities.
        timeout: seconds without a byte.
    """

    def __init__(
        self,
        ca_file: str | None = None,
        client_cert: str | None = None,
        client_key: str | None = None,
        *,
        alone: bool = False,
        timeout: float = TIMEOUT,
    ) -> None:
        self._files = ca_file, client_cert, client_key
        self._alone = alone
        self._timeout = timeout

    @property
    def shows_certificate(self) -> bool:
        """Whether a client certificate is shown."""
        return self._files[1] is not None

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Reply:
        """Ask for a document; raises a ClientError."""
        return self._send("GET", url, None, headers or {})

    def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Reply:
        """Send a form; raises a ClientError."""
        return self._send("POST", url, urlencode(form), {"Content-Type": _FORM, **(headers or {})})

    def _send(self, method: str, url: str, body: str | None, headers: Mapping[str, str]) -> Reply:
        parts = urlsplit(url)
        where = parts.netloc
        connection = self._connection(url)
        try:
            target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
            common = {"Accept": "application/json", "User-Agent": f"broker/{__version__}"}
            connection.request(method, target, body, {**common, **headers})
            response = connection.getresponse()
            content = response.read(ANSWER_LIMIT + 1)
        except ssl.SSLCertVerificationError as error:
            raise Untrusted(
                f"the certificate of {where} is not trusted ({error.verify_message}), so nothing was sent; when its"
                " authority is a private one, name its file by --ca-file or in BROKER_CA_FILE"
            ) from error
        except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a host or header that is none
            raise Unreachable(f"{where} cannot be asked: {_reason(error)}") from error
        finally:
            connection.close()
        if len(content) > ANSWER_LIMIT:
            raise Unreachable(f"{where} answered more than {ANSWER_LIMIT} bytes")
        return Reply(response.status, _object(content), response.getheader("DPoP-Nonce", ""))

    def _connection(self, url: str) -> http.client.HTTPConnection:
        if not is_safe(url):
            raise Misconfigured(f"{url} is no address that can be asked: it has to begin with https://")
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme == "http":
            return http.client.HTTPConnection(host, parts.port, timeout=self._timeout)
        return http.client.HTTPSConnection(host, parts.port, timeout=self._timeout, context=self._tls())

    def _tls(self) -> ssl.SSLContext:
        ca_file, certificate, key = self._files
        try:
            context = ssl.create_default_context(cafile=ca_file if self._alone else None)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if ca_file:
                context.load_verify_locations(ca_file)
            if certificate:
                context.load_cert_chain(certificate, key)
        except OSError as error:
            named = " and ".join(file for file in self._files if file)
            why = "no such file" if isinstance(error, FileNotFoundError) else "not what it should be"
            raise Misconfigured(f"{named} cannot be used for TLS: {why}") from error
        return context


def text(document: Mapping[str, Any], name: str) -> str:
    """Answer a member of foreign JSON that has to be text; "" when it is none, or none that can be sent on."""
    value = document.get(name)
    return value if isinstance(value, str) and not _LONE_SURROGATE.search(value) else ""


def texts(document: Mapping[str, Any], name: str) -> list[str]:
    """Answer a member of foreign JSON that has to be a list of texts; what is none is left out."""
    values = document.get(name)
    return [each for each in values if text({name: each}, name)] if isinstance(values, list) else []


def origin(url: str) -> tuple[str, str, int] | None:
    """Answer scheme, host and port, as RFC 3986, section 6.2.3, spells them; None of what cannot be asked."""
    if not is_safe(url):
        return None
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def is_safe(url: str) -> bool:
    """Tell whether a URL is https, or http to this very machine, and nothing is hidden in it."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    plain = "@" not in parts.netloc and not parts.fragment and url.isascii() and url.isprintable() and " " not in url
    return plain and bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)))


def is_loopback(host: str) -> bool:
    """Tell whether this is the name or an address of this very machine."""
    return _LOOPBACK.fullmatch(host) is not None


def _object(content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    if isinstance(error, UnicodeError):
        return "that is no host name"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there"
    return getattr(error, "strerror", "") or "it does not answer as it should"
