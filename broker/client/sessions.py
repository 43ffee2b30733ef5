"""Logins of this person on this machine: what is kept of them, and the tokens that they give.

    $XDG_STATE_HOME/broker/logins/<name>.json  the tokens of one service (0600), where no keyring can be had
                                 /<name>.lock  held while they are changed

A token is renewed before it ends, by one process at a time: providers take a refresh token once.
"""

from __future__ import annotations

import hashlib
import json
import time

from broker.client import folders, vaults
from broker.client.credentials import Token
from broker.client.errors import ClientError, LoginRefused, NotLoggedIn, Unreachable
from broker.client.providers import Grant, Provider
from broker.client.services import QUEUE_SECONDS, note, remembered_service, remembered_urls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Any

    from broker.client.proofs import ProofKey
    from broker.client.services import Service

EARLY = 30.0
"""Seconds before its end at which a token is renewed."""

_KEPT = ("token_endpoint", "revocation_endpoint", "mtls_endpoint_aliases")
"""What of a provider's metadata is needed after the login."""


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
        kept = {
            "issuer": provider.issuer,
            "client_id": provider.client_id,
            "resource": resource,
            **{name: provider.metadata[name] for name in _KEPT if name in provider.metadata},
            **_of_grant(grant),
        }
        with self._locked():
            self._write(kept)
            note(self._environment, self.service)

    def end(self) -> bool:
        """Forget the login, here and then at the identity provider; False when that could not be told.

        Raises:
            NotReady: another process has been renewing it for too long.
        """
        with self._locked():  # what is being renewed comes back before this, or not at all
            try:
                kept = self._kept()
            except ClientError:  # what cannot be read is forgotten all the same
                kept = None
            vaults.forget(self.service.url, self._file)
            note(self._environment, self.service, forget=True)
        try:
            return kept is not None and self._provider(kept).revoke(kept["refresh_token"] or kept["access_token"])
        except ClientError:
            return False

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
        except (ValueError, RecursionError):
            kept = None
        if not isinstance(kept, dict) or not _is_whole(kept):
            raise NotLoggedIn(f"nobody is logged in at {self.service.url}: type `broker login`")
        return kept

    def _write(self, kept: Mapping[str, Any]) -> None:
        place = vaults.write(self.service.url, self._file, json.dumps(kept))
        if place != self.service.place:
            self.service.place = place
            note(self._environment, self.service)

    def _locked(self) -> Any:  # noqa: ANN401  # a context manager, whose type would have to be imported
        folders.made(self._folder)
        return folders.locked(self._folder / f"{self._name}.lock", QUEUE_SECONDS)


def _is_whole(kept: Mapping[str, Any]) -> bool:
    needed = ("issuer", "client_id", "access_token", "refresh_token")
    return all(isinstance(kept.get(name), str) for name in needed) and isinstance(
        kept.get("expires_at"), int | float | None
    )


def _of_grant(grant: Grant) -> dict[str, Any]:
    return {
        "access_token": grant.access_token,
        "refresh_token": grant.refresh_token,
        "expires_at": grant.expires_at,
        "key": grant.key.pem() if grant.key else "",
    }


def logins(environment: Mapping[str, str]) -> list[Session]:
    """Answer every login of this person on this machine."""
    return [session for url in remembered_urls(environment) if (session := session_source(environment, url))]
