"""Signature Version 4 of AWS, for one kind of request: a POST of JSON to `/` (pure).

The SDK's signer takes any request apart to find out what it looks like, by five hundred calls of Python; here that is
known. A test holds each signature against the SDK's. See "Create a signed AWS API request" in AWS's IAM user guide.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

    from botocore.credentials import ReadOnlyCredentials

_ALGORITHM: Final = "AWS4-HMAC-SHA256"


class RequestSigner:
    """Signs requests to one service in one region.

    Args:
        host: What the request goes to, as the Host header has it.
        service: The service's name in signatures.
        region: Where it is.
        content_type: Of every body.
        target: The operation, `X-Amz-Target`.
    """

    def __init__(self, *, host: str, service: str, region: str, content_type: str, target: str) -> None:
        self._host, self._service, self._region = host, service, region
        self._content_type, self._target = content_type, target
        self._key: tuple[str, str, bytes] = ("", "", b"")

    def headers(self, credentials: ReadOnlyCredentials, body: bytes, now: datetime) -> dict[str, str]:
        """Answer the headers of a request with this body, its signature among them; `now` is in UTC."""
        time = f"{now:%Y%m%dT%H%M%SZ}"
        day = time[:8]
        signed = {
            "content-type": self._content_type,
            "host": self._host,
            "x-amz-date": time,
            **({"x-amz-security-token": credentials.token} if credentials.token else {}),
            "x-amz-target": self._target,
        }
        names = ";".join(signed)
        lines = "".join(f"{name}:{value}\n" for name, value in signed.items())
        canonical = f"POST\n/\n\n{lines}\n{names}\n{sha256(body).hexdigest()}"
        scope = f"{day}/{self._region}/{self._service}/aws4_request"
        text = f"{_ALGORITHM}\n{time}\n{scope}\n{sha256(canonical.encode()).hexdigest()}"
        signature = hmac.digest(self._signing_key(credentials.secret_key or "", day), text.encode(), "sha256").hex()
        credential = f"{credentials.access_key}/{scope}"
        authorization = f"{_ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}"
        return signed | {"authorization": authorization}

    def _signing_key(self, secret: str, day: str) -> bytes:
        """Derive the key of a day once."""
        if self._key[:2] != (secret, day):
            key = f"AWS4{secret}".encode()
            for part in (day, self._region, self._service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._key = secret, day, key
        return self._key[2]
