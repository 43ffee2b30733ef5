"""The service as this machine sees it: reached, trusted, agreed on the time, healthy; and the token that it takes."""

from __future__ import annotations

import base64
import http.client
import json
import ssl

from broker.client.diagnosis.finding import Finding, ok, problem
from broker.client.diagnosis.spans import span
from broker.client.errors import BrokerProblem, ClientError, Misconfigured, Untrusted
from broker.client.http import tls_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from broker.client import Broker
    from broker.client.access import Access

SKEW_SECONDS = 60
"""What the service forgives a token's times."""

_SECONDS = 10.0
_LIMIT = 256 * 1024


class Reply:
    """An answer of an open route: `date` in seconds since 1970, None when the header is missing."""

    __slots__ = ("content", "date", "status")

    def __init__(self, status: int, date: float | None, content: bytes) -> None:
        self.status, self.date, self.content = status, date, content


def fetch(access: Access, path: str, seconds: float = _SECONDS) -> Reply:
    """Ask an open route, without a token; raises OSError and HTTPException."""
    connection = _open(access, seconds)
    try:
        connection.request("GET", access.prefix + path)
        response = connection.getresponse()
        return Reply(response.status, _time(response.getheader("Date", "")), response.read(_LIMIT))
    finally:
        connection.close()


def _open(access: Access, seconds: float) -> http.client.HTTPConnection:
    if access.secure:
        return http.client.HTTPSConnection(access.host, access.port, timeout=seconds, context=tls_context(access))
    return http.client.HTTPConnection(access.host, access.port, timeout=seconds)


def reached(access: Access) -> tuple[Finding, Reply | None]:
    """Tell whether the service answers, and is who it should be."""
    try:
        reply = fetch(access, "/readyz")
    except Misconfigured as error:
        return problem("service", "settings", str(error)), None
    except ssl.SSLCertVerificationError as error:
        return problem("service", "untrusted", f"the certificate of {access.origin}: {error.verify_message}"), None
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return problem("service", "unreachable", f"{access.origin}: {why}"), None
    return ok("service", f"{access.origin} answers" + (" and is trusted" if access.secure else "")), reply


def clock(reply: Reply, now: float) -> Finding:
    """Compare the time here, in seconds since 1970, with the service's."""
    if reply.date is None:
        return Finding("clock", "skipped", "the service does not say what time it is")
    skew = round(now - reply.date)
    if abs(skew) <= SKEW_SECONDS:
        return ok("clock", "agrees with the service's within a minute")
    way = "ahead of" if skew > 0 else "behind"
    return problem("clock", "clock", f"this machine is {span(abs(skew))} {way} the service")


def token(access: Access, broker: Broker, now: float) -> Finding:
    """Look at the times in our own token, then let the service judge it; `now` is the service's time."""
    try:
        claims = _claims(access.tokens.current().text)
    except Misconfigured as error:
        return problem("token", "token-missing", str(error))
    except ClientError as error:
        return problem("token", "token-refused", str(error))
    expires, begins = (_number(claims.get(name)) for name in ("exp", "nbf"))
    if expires is not None and expires + SKEW_SECONDS < now:
        return problem("token", "token-expired", f"the token expired {span(now - expires)} ago", command=_login(access))
    if begins is not None and begins - SKEW_SECONDS > now:
        return problem("token", "token-early", f"the token is valid only in {span(begins - now)}")
    return _accepted(broker, _login(access))


def _login(access: Access) -> str:
    """Answer what to type for another token, when it is one of a login."""
    return "broker login" if "broker login" in access.tokens.remedy else ""


def _accepted(broker: Broker, login: str) -> Finding:
    try:
        me = broker.whoami()
    except BrokerProblem as error:
        cause = "token-refused" if error.status == http.client.UNAUTHORIZED else "service-refused"
        return problem("token", cause, f"{error.detail} (request {error.request_id or 'unknown'})", command=login)
    except Untrusted as error:
        return problem("token", "untrusted", str(error))
    except ClientError as error:
        return problem("token", "unreachable", str(error))
    groups = ", ".join(map(str, me.get("groups", []))) or "none"
    return ok("token", f"accepted: you are {me.get('issuer')}/{me.get('subject')}, groups: {groups}")


def health(reply: Reply) -> Finding:
    """Read what `/readyz` said, component by component."""
    try:
        components = json.loads(reply.content)["components"]
        ill = [f"{name}: {each['detail']}" for name, each in sorted(components.items()) if not each["ready"]]
    except (ValueError, LookupError, TypeError, AttributeError):
        return problem("health", "unreachable", "what answers is no broker: /readyz names no components")
    if ill:
        return problem("health", "service-unready", "; ".join(ill))
    return ok("health", f"{len(components)} components are ready")


def _time(text: str) -> float | None:
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError):
        return None


def _claims(token: str) -> dict[str, object]:
    """Read a JWT's claims, unverified; of another token, none."""
    try:
        _, middle, _ = token.split(".")
        found = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
