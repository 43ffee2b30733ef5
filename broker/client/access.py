"""Where the service is and how to be let in: `BROKER_URL`, the token, and whom to trust."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from broker.client.credentials import FixedToken, TokenFile
from broker.client.errors import Misconfigured, NotLoggedIn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from broker.client.credentials import TokenSource
    from broker.client.proofs import ProofKey
    from broker.client.services import Service

_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|::1", re.ASCII)
_KEY_LIMIT = 64 * 1024
_ROUTES = "/v1"


class Access:
    """All that a connection needs to know.

    `tokens` is asked for every request, so a token that is renewed in its file is used at once.
    Without `ca_file` the system's authorities are trusted; with it, only those in the file.
    """

    def __init__(
        self,
        url: str,
        tokens: TokenSource,
        *,
        ca_file: str | None = None,
        client_cert: str | None = None,
        client_key: str | None = None,
    ) -> None:
        self.secure, self.host, self.port, self.prefix = _parse(url)
        self.tokens = tokens
        self.ca_file = ca_file
        self.client_cert = client_cert
        self.client_key = client_key

    @property
    def origin(self) -> str:
        """The service's address as it sees it itself, with its path prefix."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme, usual = ("https", 443) if self.secure else ("http", 80)
        return f"{scheme}://{host}" + ("" if self.port == usual else f":{self.port}") + self.prefix

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Access:
        """Read `BROKER_URL`, `BROKER_TOKEN` (else `BROKER_TOKEN_FILE`), `BROKER_CA_FILE`, `BROKER_CLIENT_CERT`/`_KEY`.

        What the environment does not say, the last `broker login` does.

        Raises:
            Misconfigured: with the variable's name; never with a token.
            NotLoggedIn: there is no token, and nobody is logged in.
        """
        url, given = environment.get("BROKER_URL", ""), _given_token(environment)
        if not (url and given):
            service = _service(environment, url)
            url, given = service.url, given or _found_token(environment, service)
            environment = {**service.environment(), **environment}
        return cls(
            url,
            given,
            ca_file=environment.get("BROKER_CA_FILE") or None,
            client_cert=environment.get("BROKER_CLIENT_CERT") or None,
            client_key=environment.get("BROKER_CLIENT_KEY") or None,
        )


def _parse(url: str) -> tuple[bool, str, int, str]:
    """Take a URL apart into TLS or not, host, port and path prefix; plain HTTP is for loopback alone."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    if parts.scheme not in {"https", "http"} or not host or parts.query or parts.fragment or "@" in parts.netloc:
        shown = "" if "@" in url or "?" in url else f" ({url})"  # what may hold a secret is not repeated
        raise Misconfigured(
            f"BROKER_URL{shown} is not an address such as https://broker.example.com or https://host:8443"
        )
    if parts.path.rstrip("/").endswith(_ROUTES) or f"{_ROUTES}/" in parts.path:
        raise Misconfigured(f"BROKER_URL ({url}) is the address of the service alone: leave out {_ROUTES}")
    secure = parts.scheme == "https"
    if not secure and not _LOOPBACK.fullmatch(host):
        raise Misconfigured(
            f"BROKER_URL ({url}) has to begin with https:// (plain http only works on this very machine)"
        )
    return secure, host, port or (443 if secure else 80), parts.path.rstrip("/")


def _given_token(environment: Mapping[str, str]) -> TokenSource | None:
    """Take the token of the environment, if there is one."""
    if token := environment.get("BROKER_TOKEN"):
        return FixedToken(token, "BROKER_TOKEN", _proof_key(environment))
    if path := environment.get("BROKER_TOKEN_FILE"):
        return TokenFile(path, _proof_key(environment))
    return None


def _service(environment: Mapping[str, str], url: str) -> Service:
    """Answer the service that is meant, and how it was reached at the last login there."""
    from broker.client.services import Service, remembered_service

    found = remembered_service(environment, url)
    if found is None and not url:
        raise Misconfigured(
            "BROKER_URL is not set: the address of the service, such as https://broker.example.com, which"
            " `broker login URL` remembers"
        )
    known = {name: environment.get(f"BROKER_{name.upper()}") for name in ("ca_file", "client_cert", "client_key")}
    return found or Service(url, **known)


def _found_token(environment: Mapping[str, str], service: Service) -> TokenSource:
    """Take the token of a login, else the one that the platform of a workload gives."""
    from broker.client.sessions import session_source
    from broker.client.workloads import workload_source

    found = session_source(environment, service.url) or workload_source(environment, service.metadata)
    if found is None:
        raise NotLoggedIn(
            "there is no access token: type `broker login`, or set BROKER_TOKEN_FILE to a file that holds one"
        )
    return found


def _proof_key(environment: Mapping[str, str]) -> ProofKey | None:
    """Read the key that the token of the environment is bound to, if it is bound to one."""
    path = environment.get("BROKER_DPOP_KEY")
    if not path:
        return None
    from broker.client.proofs import ProofKey

    named = f"BROKER_DPOP_KEY ({path})"
    try:
        with open(path, encoding="ascii", errors="replace") as file:  # noqa: PTH123  # as for the token's file
            return ProofKey.from_pem(file.read(_KEY_LIMIT), named)
    except OSError as error:
        raise Misconfigured(f"{named} cannot be read: {error.strerror}") from error
