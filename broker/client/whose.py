"""At which service, and as whom: what keeps apart the leases and names that lie side by side on one machine.

Nothing is verified and nobody is asked: this only names folders of our own.
"""

from __future__ import annotations

import base64
import hashlib
import json

from broker.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from broker.client.services import Service

_TOKEN_LIMIT = 64 * 1024


def service_url(environment: Mapping[str, str]) -> str:
    """Answer the URL of the service that is meant: `BROKER_URL`, else that of the last login; "" without either."""
    if url := environment.get("BROKER_URL", "").rstrip("/"):
        return url
    found = _remembered(environment)
    return found.url if found else ""


def person(environment: Mapping[str, str]) -> str:
    """Answer something that differs from person to person: issuer and subject, or a digest of a token without them."""
    if token := environment.get("BROKER_TOKEN") or _content(environment.get("BROKER_TOKEN_FILE", "")):
        return _of_token(token)
    found = _remembered(environment)
    return json.dumps([found.issuer, found.subject]) if found else ""


def _remembered(environment: Mapping[str, str]) -> Service | None:
    from broker.client.services import remembered_service

    try:
        return remembered_service(environment, environment.get("BROKER_URL", ""))
    except ClientError:
        return None


def _of_token(token: str) -> str:
    try:
        claims = token.split(".")[1]
        found = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        return json.dumps([found["iss"], found["sub"]])
    except (ValueError, LookupError, TypeError, RecursionError):
        return hashlib.sha256(token.encode()).hexdigest()


def _content(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:  # noqa: PTH123  # as in credentials.py
            return file.read(_TOKEN_LIMIT).strip()
    except OSError:
        return ""
