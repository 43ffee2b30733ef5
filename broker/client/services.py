"""The services that this person logged in at, and how each is reached: `$XDG_CONFIG_HOME/broker/services.json`.

Nothing here is secret.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import urlsplit

from broker.client import folders, vaults
from broker.client.elsewhere import OK, Elsewhere, origin
from broker.client.errors import Misconfigured, Unreachable, Untrusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

QUEUE_SECONDS = 30.0
"""For which we wait for another process that is at the same file."""
_LONGEST_WORDS = 200


class Service:
    """A service that somebody logged in at, and how it is reached."""

    __slots__ = ("ca_file", "client_cert", "client_key", "issuer", "place", "subject", "url")

    def __init__(self, url: str, **known: str | None) -> None:
        self.url = url
        self.ca_file = known.get("ca_file")
        self.client_cert = known.get("client_cert")
        self.client_key = known.get("client_key")
        self.issuer = known.get("issuer") or ""
        self.subject = known.get("subject") or ""
        self.place = known.get("place") or vaults.FILE
        """Where the tokens are: `keyring` or `file`."""

    def document(self) -> dict[str, str]:
        """Answer what is kept of it."""
        named = {name: getattr(self, name) for name in self.__slots__ if name != "url"}
        return {name: value for name, value in named.items() if value}

    def environment(self) -> dict[str, str]:
        """Answer how it is reached, as variables of the environment."""
        files = {"CA_FILE": self.ca_file, "CLIENT_CERT": self.client_cert, "CLIENT_KEY": self.client_key}
        return {f"BROKER_{name}": path for name, path in files.items() if path}

    def elsewhere(self) -> Elsewhere:
        """Answer how the identity provider of this service is asked."""
        return Elsewhere(self.ca_file, self.client_cert, self.client_key)

    def metadata(self) -> dict[str, Any]:
        """Ask the service who may vouch for its callers (RFC 9728).

        Raises:
            Untrusted: what answers is another service by its own word (section 3.3).
            Unreachable: it does not answer, or not as a broker does.
        """
        reply = Elsewhere(self.ca_file, alone=True).get(f"{self.url}/.well-known/oauth-protected-resource")
        if reply.status != OK or not isinstance(reply.document.get("issuers"), list):
            raise Unreachable(
                f"{self.url} does not say who may vouch for its callers; is this the address of a broker?"
            )
        claimed = reply.text("resource")
        if origin(claimed) != origin(self.url):
            raise Untrusted(_stranger(self.url, claimed))
        return reply.document


def _stranger(url: str, claimed: str) -> str:
    """Say that somebody else may be answering, and what to do."""
    parts = urlsplit(url)
    return (
        f"{url} answers as {claimed[:_LONGEST_WORDS] or 'nobody'}, so it may be another service than you mean, and no"
        " token was asked for: check the address; if it is right, a proxy in between changes it, and an operator of"
        f" the service adds {parts.scheme}://{parts.netloc} to `server.public_urls`"
    )


def remembered_service(environment: Mapping[str, str], url: str = "") -> Service | None:
    """Answer the service of this URL, or of the last login; None when there was none."""
    index = _index(environment)
    known = _services(index)
    found = url.rstrip("/") or str(index.get("last", ""))
    return Service(found, **_texts(known[found])) if isinstance(known.get(found), dict) else None


def remembered_urls(environment: Mapping[str, str]) -> list[str]:
    """Answer the URLs of all services at which somebody is logged in."""
    return sorted(_services(_index(environment)))


def _index_file(environment: Mapping[str, str]) -> Path:
    configured = environment.get("XDG_CONFIG_HOME", "")
    if configured.startswith("/"):
        return Path(configured) / "broker" / "services.json"
    home = environment.get("HOME", "") or os.path.expanduser("~")  # noqa: PTH111  # pathlib's raises where there is none
    return Path(home) / ".config" / "broker" / "services.json"


def _index(environment: Mapping[str, str]) -> dict[str, Any]:
    path = _index_file(environment)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise Misconfigured(f"{path} cannot be read: remove it, and type `broker login`") from error
    return found if isinstance(found, dict) else {}


def note(environment: Mapping[str, str], service: Service, *, forget: bool = False) -> None:
    """Write down that somebody is logged in at a service, or is not any more."""
    path = _index_file(environment)
    folders.made(path.parent)
    with folders.locked(path.with_suffix(".lock"), QUEUE_SECONDS):
        index = _index(environment)
        services = {url: known for url, known in _services(index).items() if url != service.url}
        last = index.get("last") if index.get("last") != service.url else next(iter(services), "")
        if not forget:
            services[service.url] = service.document()
            last = service.url
        folders.replace(path, json.dumps({"last": last, "services": services}, indent=2) + "\n")


def _services(index: Mapping[str, Any]) -> dict[str, Any]:
    services = index.get("services")
    return services if isinstance(services, dict) else {}


def _texts(known: Mapping[str, object]) -> dict[str, str]:
    return {name: value for name, value in known.items() if isinstance(value, str)}
