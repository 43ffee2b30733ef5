"""A small HTTPS client: one kept-alive connection, bounded answers, no redirects, verification always on.

The standard library only: a command's start is most of its time, and any HTTP library would double it.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from urllib.parse import urlencode

from broker import __version__
from broker.client.credentials import Token
from broker.client.errors import BrokerProblem, Misconfigured, Unreachable, Untrusted
from broker.client.tokens import advice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from broker.client.access import Access
    from broker.client.documents import Problem, StepDocument

ANSWER_LIMIT = 8 * 1024 * 1024
"""Bytes of the longest answer that is read."""

TIMEOUT = 30.0
"""Seconds without a byte; the service itself gives up on AWS after ten."""

_UNAUTHORIZED = 401
_REDIRECTS = range(300, 400)
_ERRORS = range(400, 600)


class Connection:
    """Asks the service, one request at a time."""

    def __init__(self, access: Access, timeout: float = TIMEOUT) -> None:
        self._access = access
        self._timeout = timeout
        self._where = f"{access.host}:{access.port}"
        self._shown = Token("")
        self._nonce = ""
        self._http = self._open()

    def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, object]:
        """Answer the JSON object at a path; raises a ClientError."""
        target = f"{path}?{urlencode(query)}" if query else path
        return self._understood(self._exchange("GET", target, None, {}))

    def post(self, path: str, body: Mapping[str, object], idempotency_key: str = "") -> dict[str, object]:
        """Send a JSON object, safe to repeat under its key; answer the one that comes back; raises a ClientError.

        Without a key it is a question that changes nothing.
        """
        headers = {"Content-Type": "application/json"}
        if idempotency_key:
            headers["Idempotency-Key"] = idempotency_key
        return self._understood(self._exchange("POST", path, json.dumps(body).encode(), headers))

    def close(self) -> None:
        """Hang up."""
        self._http.close()

    def _open(self) -> http.client.HTTPConnection:
        access = self._access
        if access.secure:
            return http.client.HTTPSConnection(
                access.host, access.port, timeout=self._timeout, context=tls_context(access)
            )
        return http.client.HTTPConnection(access.host, access.port, timeout=self._timeout)

    def _exchange(self, method: str, target: str, body: bytes | None, headers: Mapping[str, str]) -> _Answer:
        """Send; once more when the token was refused and another can be had."""
        tokens = self._access.tokens
        self._shown = tokens.current()
        answer = self._authorized(method, target, body, headers)
        if answer.refuses_the_token and (renewed := tokens.renewed(self._shown)):
            self._shown = renewed
            answer = self._authorized(method, target, body, headers)
        return answer

    def _authorized(self, method: str, target: str, body: bytes | None, headers: Mapping[str, str]) -> _Answer:
        """Send with the token; once more when the service wants its newest nonce in the proof (RFC 9449, section 8)."""
        answer = self._sent(method, target, body, headers)
        if answer.status == _UNAUTHORIZED and self._shown.key and answer.wants_nonce:
            answer = self._sent(method, target, body, headers)
        return answer

    def _sent(self, method: str, target: str, body: bytes | None, headers: Mapping[str, str]) -> _Answer:
        """Send once; once more when a kept-alive connection turns out to be closed (GET, or under a key)."""
        reused = self._http.sock is not None
        try:
            return self._send(method, target, body, {**headers, **self._own_headers(method, target)})
        except Unreachable as error:
            if not reused or not isinstance(error.__cause__, OSError) or isinstance(error.__cause__, TimeoutError):
                raise
            return self._send(method, target, body, {**headers, **self._own_headers(method, target)})

    def _own_headers(self, method: str, target: str) -> dict[str, str]:
        """Name the token, with a proof of its own for each sending when it is bound to a key."""
        token = self._shown
        headers = {"Accept": "application/json", "User-Agent": f"broker/{__version__}"}
        if token.key is None:
            return headers | {"Authorization": f"Bearer {token.text}"}
        proof = token.key.proof(method, self._access.origin + target, token=token.text, nonce=self._nonce)
        return headers | {"Authorization": f"DPoP {token.text}", "DPoP": proof}

    def _send(self, method: str, target: str, body: bytes | None, headers: Mapping[str, str]) -> _Answer:
        try:
            self._http.request(method, self._access.prefix + target, body, dict(headers))
            response = self._http.getresponse()
            content = response.read(ANSWER_LIMIT + 1)
        except ssl.SSLCertVerificationError as error:
            self.close()
            raise Untrusted(_distrust(self._where, error.verify_message, self._access.ca_file)) from error
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unreachable(f"{self._where} {_reason(error)}{self._scheme_hint(error)}") from error
        if not response.isclosed():
            self.close()  # cut short or too long: what follows on this connection is not the next answer
        if len(content) > ANSWER_LIMIT:
            raise Unreachable(f"{self._where} answered more than {ANSWER_LIMIT} bytes")
        answer = _Answer(response, content)
        self._nonce = answer.nonce or self._nonce
        return answer

    def _understood(self, answer: _Answer) -> dict[str, object]:
        if answer.status in _REDIRECTS:
            raise Unreachable(f"{self._where} answered with a redirect, which is not followed")
        document = answer.document()
        if answer.status in _ERRORS:
            raise self._advised(BrokerProblem(answer.status, _as_problem(document), answer.retry_after()))
        if document is None:
            raise Unreachable(f"{self._where} answered something that is not a JSON object")
        return document

    def _advised(self, problem: BrokerProblem) -> BrokerProblem:
        """Add what only the owner of the token may know."""
        if problem.code == "invalid_token" and not problem.next:
            problem.next = advice(self._shown.text, time.time(), self._access.tokens.remedy)
        return problem

    def _scheme_hint(self, error: Exception) -> str:
        """Guess that a server which does not understand plain HTTP wants TLS."""
        gone = isinstance(error, ConnectionRefusedError | TimeoutError)
        broken = isinstance(error, http.client.HTTPException | ConnectionError) and not gone
        return "; try https:// in BROKER_URL" if broken and not self._access.secure else ""


class _Answer:
    """Status, body and the few headers that matter of one response."""

    def __init__(self, response: http.client.HTTPResponse, content: bytes) -> None:
        self.status = response.status
        self.nonce = response.getheader("DPoP-Nonce", "")
        challenge = response.getheader("WWW-Authenticate", "")
        self.wants_nonce = bool(self.nonce) and "use_dpop_nonce" in challenge
        # A renewed token is of the same login, which is what is too weak or too old then (RFC 9470).
        self.refuses_the_token = self.status == _UNAUTHORIZED and "insufficient_user_authentication" not in challenge
        self._retry_after = response.getheader("Retry-After", "")
        self._content = content

    def document(self) -> dict[str, object] | None:
        try:
            document = json.loads(self._content)
        except (ValueError, RecursionError):
            return None
        return document if isinstance(document, dict) else None

    def retry_after(self) -> int | None:
        """Answer the seconds of the header (RFC 9110, section 10.2.3; the broker sends no dates)."""
        text = self._retry_after.strip()
        return int(text) if text.isascii() and text.isdecimal() and len(text) < len("1000000") else None


def tls_context(access: Access) -> ssl.SSLContext:
    """Make the rules of TLS: 1.2 or later, the name and the chain of the service verified.

    Raises:
        Misconfigured: a file of certificates or keys that cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=access.ca_file)
    except OSError as error:
        raise Misconfigured(
            f"BROKER_CA_FILE ({access.ca_file}) cannot be used: {_fault(error, 'not a PEM file')}"
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if access.client_cert:
        try:
            context.load_cert_chain(access.client_cert, access.client_key)
        except OSError as error:
            named = (
                f"BROKER_CLIENT_CERT ({access.client_cert}) and BROKER_CLIENT_KEY ({access.client_key or 'not set'})"
            )
            raise Misconfigured(f"{named} cannot be used: {_fault(error, 'not a matching pair')}") from error
    return context


def _fault(error: OSError, otherwise: str) -> str:
    return otherwise if isinstance(error, ssl.SSLError) else error.strerror or otherwise


def _as_problem(document: dict[str, object] | None) -> Problem:
    """Keep the members of a problem that have the right type; whatever stands in between may answer anything."""
    problem: Problem = {}
    for name in ("title", "detail", "code", "request_id", "next", "upstream_code"):
        value = (document or {}).get(name)
        if isinstance(value, str):
            problem[name] = value
    choices = (document or {}).get("choices")
    if isinstance(choices, list):
        problem["choices"] = [choice for choice in choices if isinstance(choice, str)]
    steps = (document or {}).get("steps")
    if isinstance(steps, list):
        problem["steps"] = [_as_step(step) for step in steps if isinstance(step, dict)]
    return problem


def _as_step(document: dict[str, object]) -> StepDocument:
    """Keep the members of a step that have the right type."""
    step: StepDocument = {}
    for name in ("obligation", "pattern"):
        if isinstance(value := document.get(name), str):
            step[name] = value
    for number in ("max_age", "approvals"):
        if isinstance(value := document.get(number), int):
            step[number] = value
    for several in ("acr_values", "approvers"):
        if isinstance(value := document.get(several), list):
            step[several] = [each for each in value if isinstance(each, str)]
    return step


def _distrust(where: str, why: str, ca_file: str | None) -> str:
    cure = (
        f"only the authorities in BROKER_CA_FILE ({ca_file}) are trusted"
        if ca_file
        else "when its authority is a private one, name its file in BROKER_CA_FILE"
    )
    return f"the certificate of {where} is not trusted ({why}), so nothing was sent; {cure}"


_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (socket.gaierror, "cannot be found: no such host name"),
    (TimeoutError, "did not answer in time"),
    (ConnectionRefusedError, "refused the connection: nothing listens there"),
    (ConnectionError, "closed the connection without an answer"),
    (ssl.SSLEOFError, "closed the connection without an answer"),
    (ssl.SSLError, "does not agree on TLS"),
    (OSError, "cannot be reached"),
)
"""The first that fits, from the special to the general."""


def _reason(error: Exception) -> str:
    sentence = next(
        (text for kind, text in _REASONS if isinstance(error, kind)), "does not speak HTTP as a broker does"
    )
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"{sentence} ({error.reason.lower().replace('_', ' ')})"
    return sentence
