"""Logging in by the browser of this machine: authorization code with PKCE, which comes back to a port on loopback.

RFC 6749, RFC 7636 (PKCE), RFC 8252 (native apps), RFC 9207 (issuer identification), OpenID Connect Core 1.0.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlencode, urlsplit

from broker.client.errors import LoginRefused, ProviderFault
from broker.client.proofs import base64url
from broker.client.providers import claims_of, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from broker.client.providers import Grant, Provider

WAIT = 300.0
"""Seconds for which we wait for the browser to come back."""
REDIRECT = "/cb"
"""The provider is told of `http://127.0.0.1/cb`, and takes any port (RFC 8252, section 7.3)."""

_RANDOM_BYTES = 32
VISIT = 10.0
"""Seconds that one connection may last."""
_VISITORS = 16
"""Connections at once; of more, the oldest is ended: the browser's own takes a moment."""
_LOOKS_EVERY = 0.1
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
        self.came = threading.Event()

    @property
    def challenge(self) -> str:
        return base64url(hashlib.sha256(self.verifier.encode()).digest())


class _Return(BaseHTTPRequestHandler):
    """The one page of the loopback port. Whoever does not know `state` changes nothing."""

    server: _Waiting
    timeout = VISIT
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
        attempt.answer = attempt.answer or answer
        try:
            if "code" in answer:
                self._say(200, "You are logged in", "You can close this window and go back to the terminal.")
            else:
                self._say(200, "You are not logged in", "The terminal says why.")
        finally:
            attempt.came.set()

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


class _Waiting(ThreadingHTTPServer):
    """Hears several visitors at once, few and briefly: none of them can keep the browser out, or the login going."""

    request_queue_size = 64

    def __init__(self, attempt: _Attempt, visit: float) -> None:
        super().__init__(("127.0.0.1", 0), _Return)
        self.attempt = attempt
        self._visit = visit
        self._visitors: dict[socket.socket, float] = {}

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401  # socketserver's signature
        """Let a visitor in, in a thread of their own."""
        if len(self._visitors) >= _VISITORS:
            self._show_out(next(iter(self._visitors)))
        self._visitors[request] = time.monotonic()
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """End the visits that last too long, however busy their connection is."""
        for visitor, since in self._visitors.copy().items():
            if time.monotonic() - since > self._visit:
                self._show_out(visitor)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401  # as above
        """Let a visitor go."""
        self._visitors.pop(request, None)
        super().shutdown_request(request)

    def _show_out(self, visitor: socket.socket) -> None:
        self._visitors.pop(visitor, None)
        with suppress(OSError):  # gone already
            visitor.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """Let a visitor go who hangs up, or says nothing in time."""


def browser_login(
    provider: Provider,
    form: Mapping[str, str],
    show: Callable[[str], None],
    *,
    wait: float = WAIT,
    visit: float = VISIT,
) -> Grant:
    """Log in by the browser.

    Args:
        provider: where.
        form: what is asked for: `scope`, `resource`, `acr_values` …
        show: opens the URL in the browser, and tells it to the person.
        wait: seconds for which the browser is waited for.
        visit: seconds that one connection from it may last.

    Raises:
        LoginRefused: the person or the provider said no, or it took too long.
        ProviderFault: what the provider answers cannot be used.
        Unreachable: it does not answer.
    """
    attempt = _Attempt()
    with _listening(attempt, visit) as port:
        redirect = f"http://127.0.0.1:{port}{REDIRECT}"
        show(_address(provider, form, attempt, redirect))
        attempt.came.wait(wait)
    if attempt.answer is None:
        raise LoginRefused("the browser did not come back in time", "timeout")
    code = _code(provider, attempt.answer)
    exchanged = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect}
    if "resource" in form:
        exchanged["resource"] = form["resource"]
    reply = provider.token({**exchanged, "code_verifier": attempt.verifier})
    identity = claims_of(reply.text("id_token"))
    if identity and identity.get("nonce") != attempt.nonce:
        raise LoginRefused("what came back belongs to another login", "nonce")
    return provider.granted(reply)


@contextmanager
def _listening(attempt: _Attempt, visit: float) -> Iterator[int]:
    """Listen while the context lasts; answer the port."""
    with _Waiting(attempt, visit) as waiting:
        threading.Thread(target=waiting.serve_forever, args=(_LOOKS_EVERY,), daemon=True).start()
        try:
            yield waiting.server_port
        finally:
            waiting.shutdown()


def _address(provider: Provider, form: Mapping[str, str], attempt: _Attempt, redirect: str) -> str:
    """Write the URL at which the person logs in."""
    url = provider.endpoint("authorization_endpoint")
    if not url:
        raise ProviderFault(f"{provider.issuer} has no authorization endpoint; try `broker login --device`")
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
    if answer.get("iss", "" if provider.names_itself else provider.issuer) != provider.issuer:
        raise LoginRefused("the answer came from another identity provider than the one that was asked", "iss")
    if "code" not in answer:
        error = shown(answer.get("error_description") or answer.get("error", ""))
        raise LoginRefused(f"{provider.issuer} refused: {error or 'no code'}", shown(answer.get("error", "")))
    return answer["code"]
