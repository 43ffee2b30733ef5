"""Tokens that the platform of a workload gives: GitHub Actions. Kubernetes puts its own into a file.

https://docs.github.com/en/actions/reference/security/oidc
"""

from __future__ import annotations

import time
from urllib.parse import quote

from broker.client.credentials import Token, checked
from broker.client.elsewhere import OK, Elsewhere, text
from broker.client.errors import Misconfigured, Unreachable
from broker.client.providers import end_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

GITHUB = "https://token.actions.githubusercontent.com"
"""The issuer of the tokens of GitHub Actions."""
_URL, _TOKEN = "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"  # names, no secrets
_EARLY = 30.0


def workload_source(environment: Mapping[str, str], metadata: Callable[[], Mapping[str, Any]]) -> GitHubToken | None:
    """Answer what gives tokens to this workload; None when no platform does.

    Args:
        environment: with what GitHub sets where the job has `id-token: write`.
        metadata: fetches the service's protected resource metadata (RFC 9728).
    """
    if _URL in environment and _TOKEN in environment:
        return GitHubToken(environment[_URL], environment[_TOKEN], metadata)
    return None


class GitHubToken:
    """A token of the job that runs, made anew when it ends: a `TokenSource`."""

    remedy = "see that the job has the permission `id-token: write`, and that the service trusts this repository"

    def __init__(self, url: str, request_token: str, metadata: Callable[[], Mapping[str, Any]]) -> None:
        self._url = url
        self._request_token = request_token
        self._metadata = metadata
        self._token: Token | None = None
        self._elsewhere = Elsewhere()

    def current(self) -> Token:
        """Answer a token; asks GitHub for one when there is none, or it is about to end."""
        now = time.time()
        end = end_of(self._token.text, now) if self._token else None
        if self._token is None or end is None or end - _EARLY < now:
            self._token = self._made()
        return self._token

    def renewed(self, refused: Token) -> Token | None:
        """Another one would say the same."""
        del refused
        return None

    def _made(self) -> Token:
        audience = quote(self._audience(), safe="")
        headers = {"Authorization": f"Bearer {self._request_token}"}
        separator = "&" if "?" in self._url else "?"
        reply = self._elsewhere.get(f"{self._url}{separator}audience={audience}", headers)
        if reply.status != OK:
            raise Unreachable(f"GitHub gave no token for this job (HTTP {reply.status}): {self.remedy}")
        return Token(checked(reply.text("value"), "GitHub's answer"))

    def _audience(self) -> str:
        issuers = self._metadata().get("issuers")
        for issuer in issuers if isinstance(issuers, list) else ():
            if isinstance(issuer, dict) and issuer.get("issuer") == GITHUB and text(issuer, "audience"):
                return text(issuer, "audience")
        raise Misconfigured("the service does not trust GitHub Actions: an operator adds it to its issuers")
