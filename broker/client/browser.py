"""Logging in by the browser of this machine: authorization code with PKCE, which comes back to a port on loopback.

RFC 6749, RFC 7636 (PKCE), RFC 8252 (native apps), RFC 9207 (issuer identification), OpenID Connect Core 1.0.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qsl, urlencode, urlsplit

from broker.client.errors import LoginRefused, Unreachable
from broker.client.proofs import base64url
from broker.client.providers import claims_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from broker.client.providers import Grant, Provider

WAIT = 300.0
"""Seconds for which we wait for the browser to come back."""
REDIRECT = "/cb"
"""The provider is told of `http://127.0.0.1/cb`, and takes any port (RFC 8252, section 7.3)."""

_RANDOM_BYTES = 32
_REQUEST_SECONDS = 10.0
_LONGEST_WORDS = 200
_PAGE = """\
<!doctype html><html lang="en"><meta charset="utf-8"><meta name="color-scheme" content="light dark">
<title>broker login</title><body style="font:1.1rem system-ui;margin:4rem auto;max-width:36rem">
<h1>{title}</h1><p>{text}</p></body></html>
"""


class _Attempt:
    """The secrets of one login, and what came back."""

    def __init__(self) -> None:
        self.state, self.verifier, self.nonce = (base64url(os.urandom(_RANDOM_BYTES)) for _ in range(3))
        self.answer: dict[str, str] | None = None

    @property
    def challenge(self) -> str:
        return base64url(hashlib.sha256(self.verifier.encode()).digest())


class _Return(BaseHTTPRequestHandler):
    """The one page of the loopback port. Whoever does not know `state` changes nothing."""

    server: _Waiting
    timeout = _REQUEST_SECONDS
    server_version, sys_version = "broker", ""

    def do_GET(self) -> None:  # the name by which the base class finds it
        parts = urlsplit(self.path)
        pairs = parse_qsl(parts.query, max_num_fields=20)
        answer = dict(pairs)
        attempt = self.server.attempt
        known = hmac.compare_digest(answer.get("state", "").encode(), attempt.state.encode())
        if parts.path != REDIRECT or len(answer) != len(pairs) or not known:
            self._say(404, "Nothing here", "This page is only for the end of a login.")
            return
        attempt.answer = answer
        if "code" in answer:
            self._say(200, "You are logged in", "You can close this window and go back to the terminal.")
        else:
            self._say(200, "You are not logged in", "The terminal says why.")

    def _say(self, status: int, title: str, text: str) -> None:
        content = _PAGE.format(title=title, text=text).encode()
        self.send_response(status)
        headers = {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Length": str(len(content)),
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "Connection": "close",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
        """Say nothing: the path holds the code."""


class _Waiting(HTTPServer):
    def __init__(self, attempt: _Attempt) -> None:
        super().__init__(("127.0.0.1", 0), _Return)
        self.attempt = attempt

    def handle_error(self, request: object, client_address: object) -> None:
        """Let a visitor go who hangs up, or says nothing in time."""


def browser_login(
    provider: Provider,
    form: Mapping[str, str],
    show: Callable[[str], None],
    *,
    wait: float = WAIT,
    clock: Callable[[], float] = time.monotonic,
) -> Grant:
    """Log in by the browser.

    Args:
        provider: where.
        form: what is asked for: `scope`, `resource`, `acr_values` …
        show: opens the URL in the browser, and tells it to the person.
        wait: seconds for which the browser is waited for.
        clock: seconds, from any beginning.

    Raises:
        LoginRefused: the person or the provider said no, or it took too long.
        Unreachable: the provider cannot be asked.
    """
    attempt = _Attempt()
    with _Waiting(attempt) as waiting:
        redirect = f"http://127.0.0.1:{waiting.server_port}{REDIRECT}"
        show(_address(provider, form, attempt, redirect))
        deadline = clock() + wait
        while attempt.answer is None:
            waiting.timeout = deadline - clock()
            if waiting.timeout <= 0:
                raise LoginRefused("the browser did not come back in time", "timeout")
            waiting.handle_request()
    code = _code(provider, attempt.answer)
    exchanged = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect}
    if "resource" in form:
        exchanged["resource"] = form["resource"]
    reply = provider.token({**exchanged, "code_verifier": attempt.verifier})
    identity = claims_of(reply.text("id_token"))
    if identity and identity.get("nonce") != attempt.nonce:
        raise LoginRefused("what came back belongs to another login", "nonce")
    return provider.granted(reply)


def _address(provider: Provider, form: Mapping[str, str], attempt: _Attempt, redirect: str) -> str:
    """Write the URL at which the person logs in."""
    url = provider.endpoint("authorization_endpoint")
    if not url:
        raise Unreachable(f"{provider.issuer} has no authorization endpoint; try `broker login --device`")
    asked = {
        "response_type": "code",
        "client_id": provider.client_id,
        "redirect_uri": redirect,
        "state": attempt.state,
        "code_challenge": attempt.challenge,
        "code_challenge_method": "S256",
        **form,
    }
    scopes = form.get("scope", "").split()
    if "openid" in scopes:
        asked["nonce"] = attempt.nonce
    if "offline_access" in scopes:
        asked["prompt"] = "consent"  # OpenID Connect Core, section 11
    if provider.key:
        asked["dpop_jkt"] = provider.key.thumbprint  # the code is of no use to who lacks the key (RFC 9449, section 10)
    return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(asked)}"


def _code(provider: Provider, answer: Mapping[str, str]) -> str:
    """Read what came back, from this provider and no other (RFC 9207)."""
    promised = provider.metadata.get("authorization_response_iss_parameter_supported") is True
    if answer.get("iss", "" if promised else provider.issuer) != provider.issuer:
        raise LoginRefused("the answer came from another identity provider than the one that was asked", "iss")
    if "code" not in answer:
        error = "".join(filter(str.isprintable, answer.get("error_description") or answer.get("error", "")))
        raise LoginRefused(f"{provider.issuer} refused: {error[:_LONGEST_WORDS] or 'no code'}", answer.get("error", ""))
    return answer["code"]
