"""Logins of this person on this machine: what is kept of them, and the tokens that they give.

    $XDG_CONFIG_HOME/broker/services.json      which services, and how they are reached; no secret
    $XDG_STATE_HOME/broker/logins/<name>.json  the tokens of one service (0600), where no keyring can be had
                                 /<name>.lock  held while they are renewed

A token is renewed before it ends, by one process at a time: providers take a refresh token once.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

from broker.client import folders, vaults
from broker.client.credentials import Token
from broker.client.elsewhere import OK, Elsewhere
from broker.client.errors import ClientError, LoginRefused, Misconfigured, NotLoggedIn, Unreachable
from broker.client.providers import Grant, Provider

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from broker.client.proofs import ProofKey

EARLY = 30.0
"""Seconds before its end at which a token is renewed."""
QUEUE_SECONDS = 30.0
"""For which we wait for another process that is renewing."""

_KEPT = ("token_endpoint", "revocation_endpoint", "mtls_endpoint_aliases")
"""What of a provider's metadata is needed after the login."""


class Service:
    """A service that somebody logged in at, and how it is reached. Nothing here is secret."""

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
        """Ask the service who may vouch for its callers (RFC 9728); raises a ClientError."""
        reply = Elsewhere(self.ca_file, alone=True).get(f"{self.url}/.well-known/oauth-protected-resource")
        if reply.status != OK or not isinstance(reply.document.get("issuers"), list):
            raise Unreachable(
                f"{self.url} does not say who may vouch for its callers; is this the address of a broker?"
            )
        return reply.document


def remembered_service(environment: Mapping[str, str], url: str = "") -> Service | None:
    """Answer the service of this URL, or of the last login; None when there was none."""
    index = _index(environment)
    services = index.get("services")
    known: dict[str, Any] = services if isinstance(services, dict) else {}
    found = url.rstrip("/") or str(index.get("last", ""))
    return Service(found, **_texts(known[found])) if isinstance(known.get(found), dict) else None


def session_source(environment: Mapping[str, str], url: str) -> Session | None:
    """Answer the login at a service; None when nobody is logged in there."""
    service = remembered_service(environment, url)
    return Session(environment, service) if service else None


class Session:
    """The tokens of one login: a `TokenSource`.

    Args:
        environment: with `HOME`, `XDG_STATE_HOME`, `XDG_CONFIG_HOME`.
        service: where somebody is logged in.
        clock: seconds since 1970.
    """

    remedy = "type `broker login`"

    def __init__(
        self, environment: Mapping[str, str], service: Service, clock: Callable[[], float] = time.time
    ) -> None:
        self._environment = environment
        self.service = service
        self._clock = clock
        self._folder = folders.lasting(environment) / "logins"
        self._name = hashlib.sha256(service.url.encode()).hexdigest()[:16]

    def current(self) -> Token:
        """Answer a token that should be taken now; renews one that is about to end.

        Raises:
            NotLoggedIn: the login has ended, or is gone.
            Unreachable: the token has ended, and the identity provider does not answer.
        """
        kept = self._kept()
        if not self._is_ending(kept):
            return self._token(kept)
        with self._locked():
            kept = self._kept()  # perhaps another process has renewed it meanwhile
            if not self._is_ending(kept):
                return self._token(kept)
            try:
                return self._renewed(kept)
            except Unreachable:
                if self._has_ended(kept):
                    raise
                return self._token(kept)

    def renewed(self, refused: Token) -> Token | None:
        """Answer another token than the one that was refused; None when there is none."""
        with self._locked():
            kept = self._kept()
            if kept["access_token"] != refused.text:
                return self._token(kept)
            try:
                return self._renewed(kept)
            except (NotLoggedIn, Unreachable):
                return None

    def keep(self, provider: Provider, grant: Grant, resource: str) -> None:
        """Keep a new login, in place of an earlier one."""
        folders.made(self._folder)
        self._write(
            {
                "issuer": provider.issuer,
                "client_id": provider.client_id,
                "resource": resource,
                **{name: provider.metadata[name] for name in _KEPT if name in provider.metadata},
                **_of_grant(grant),
            }
        )
        _note(self._environment, self.service)

    def end(self) -> bool:
        """Forget the login, here and at the identity provider; False when that could not be told."""
        try:
            kept = self._kept()
            told = self._provider(kept).revoke(kept["refresh_token"] or kept["access_token"])
        except ClientError:  # what cannot be read is forgotten all the same
            told = False
        vaults.forget(self.service.place, self.service.url, self._file)
        _note(self._environment, self.service, forget=True)
        return told

    def facts(self) -> dict[str, Any]:
        """Answer what is known of the login that is no secret: `issuer`, `expires_at`, `refreshable`, `bound`."""
        kept = self._kept()
        return {
            "issuer": kept["issuer"],
            "expires_at": kept.get("expires_at"),
            "refreshable": bool(kept["refresh_token"]),
            "bound": bool(kept.get("key")),
        }

    def _renewed(self, kept: dict[str, Any]) -> Token:
        """Trade the refresh token in, and keep what comes back before it is used."""
        if not kept["refresh_token"]:
            raise NotLoggedIn(f"your login at {self.service.url} has ended: type `broker login`")
        try:
            grant = self._provider(kept).refreshed(kept["refresh_token"], kept.get("resource", ""))
        except LoginRefused as refusal:
            raise NotLoggedIn(
                f"your login at {self.service.url} has ended ({refusal.code}): type `broker login`"
            ) from refusal
        renewed = kept | _of_grant(grant)
        self._write(renewed)
        return self._token(renewed)

    def _provider(self, kept: Mapping[str, Any]) -> Provider:
        return Provider(
            self.service.elsewhere(),
            kept["issuer"],
            kept["client_id"],
            kept,
            key=self._key(kept),
            clock=self._clock,
        )

    def _key(self, kept: Mapping[str, Any]) -> ProofKey | None:
        if not kept.get("key"):
            return None
        from broker.client.proofs import ProofKey

        return ProofKey.from_pem(str(kept["key"]), "the kept login")

    def _token(self, kept: Mapping[str, Any]) -> Token:
        return Token(str(kept["access_token"]), self._key(kept))

    def _is_ending(self, kept: Mapping[str, Any]) -> bool:
        return kept.get("expires_at") is not None and float(kept["expires_at"]) - EARLY < self._clock()

    def _has_ended(self, kept: Mapping[str, Any]) -> bool:
        return float(kept["expires_at"]) <= self._clock()

    @property
    def _file(self) -> Path:
        return self._folder / f"{self._name}.json"

    def _kept(self) -> dict[str, Any]:
        text = vaults.read(self.service.place, self.service.url, self._file)
        try:
            kept = json.loads(text)
            {kept[name] for name in ("issuer", "client_id", "access_token", "refresh_token")}
        except (ValueError, LookupError, TypeError):
            raise NotLoggedIn(f"nobody is logged in at {self.service.url}: type `broker login`") from None
        return dict(kept)

    def _write(self, kept: Mapping[str, Any]) -> None:
        place = vaults.write(self.service.url, self._file, json.dumps(kept))
        if place != self.service.place:
            self.service.place = place
            _note(self._environment, self.service)

    def _locked(self) -> Any:  # noqa: ANN401  # a context manager, whose type would have to be imported
        folders.made(self._folder)
        return folders.locked(self._folder / f"{self._name}.lock", QUEUE_SECONDS)


def _of_grant(grant: Grant) -> dict[str, Any]:
    return {
        "access_token": grant.access_token,
        "refresh_token": grant.refresh_token,
        "expires_at": grant.expires_at,
        "key": grant.key.pem() if grant.key else "",
    }


def logins(environment: Mapping[str, str]) -> list[Session]:
    """Answer every login of this person on this machine."""
    services = _index(environment).get("services")
    urls = sorted(services) if isinstance(services, dict) else []
    return [session for url in urls if (session := session_source(environment, url))]


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


def _note(environment: Mapping[str, str], service: Service, *, forget: bool = False) -> None:
    """Write down that somebody is logged in at a service, or is not any more."""
    path = _index_file(environment)
    folders.made(path.parent)
    with folders.locked(path.with_suffix(".lock"), QUEUE_SECONDS):
        index = _index(environment)
        services = {url: known for url, known in (index.get("services") or {}).items() if url != service.url}
        last = index.get("last") if index.get("last") != service.url else next(iter(services), "")
        if not forget:
            services[service.url] = service.document()
            last = service.url
        folders.replace(path, json.dumps({"last": last, "services": services}, indent=2) + "\n")


def _texts(known: Mapping[str, object]) -> dict[str, str]:
    return {name: value for name, value in known.items() if isinstance(value, str)}
