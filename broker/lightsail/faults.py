"""What goes wrong on AWS's side → errors of ours. One table by AWS error code, one by kind of exception (pure).

A cause names the operation, AWS's code and, for a refusal, the IAM action. It never holds AWS's own text: a parser
that stumbles puts the whole body into its message.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import aiohttp
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's own, beside Python's, which is an OSError
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
)

from broker.errors import BrokerError, Denied, InstanceNotRunning, UpstreamError, UpstreamUnavailable

BUSY_SECONDS = 5
"""After throttling or an outage: the SDK has backed off already, so this is for the next caller."""
START_SECONDS = 30
"""An instance that is starting takes about this long."""
SETUP_SECONDS = 60
"""AWS sets an account or an opt-in region up within minutes."""

EXPIRED = frozenset({"ExpiredTokenException", "ExpiredToken", "TokenRefreshRequired"})
"""Codes after which new credentials, and only those, may help."""
REFUSED = frozenset({"AccessDeniedException", "AccessDenied", "UnauthorizedOperation"})


_THROTTLED = frozenset(
    {
        "ThrottlingException",
        "Throttling",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestLimitExceeded",
        "TooManyRequestsException",
        "SlowDown",
    }
)
_SETTING_UP = frozenset({"AccountSetupInProgressException", "RegionSetupInProgressException"})
_TIMED_OUT = frozenset({"RequestTimeout", "RequestTimeoutException"})
_DOWN = _TIMED_OUT | {"ServiceException", "InternalFailure", "ServiceUnavailable", "ServiceUnavailableException"}
_TRANSIENT_STATUS = frozenset({500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class _Row:
    error: type[BrokerError]
    retry_after: int | None = None


_BUSY = _Row(UpstreamUnavailable, BUSY_SECONDS)
_OTHER = _Row(UpstreamError)

_BY_CODE = {
    "OperationFailureException": _Row(InstanceNotRunning, START_SECONDS),
    "NotFoundException": _Row(Denied),  # it vanished since it was listed; outside, nobody can tell
    **dict.fromkeys(_THROTTLED | _DOWN, _BUSY),
    **dict.fromkeys(EXPIRED, _BUSY),  # … still, after they were renewed once
    **dict.fromkeys(_SETTING_UP, _Row(UpstreamUnavailable, SETUP_SECONDS)),
}
"""Everything that is not here is an `UpstreamError`, the broker's own mistake or its operator's, unless it is a 5xx."""

_HINTS = {
    "UnrecognizedClientException": "the access key is unknown, or the region is not opted in",
    "UnauthenticatedException": "AWS does not know the caller",
    "InvalidSignatureException": "the secret key or the clock is wrong",
    "MissingAuthenticationTokenException": "the request was not signed",
    "RequestExpired": "the clock is wrong",
    "RequestTimeTooSkewed": "the clock is wrong",
    "OptInRequired": "the account never activated Lightsail",
}
_SOUND_CODE = re.compile(r"[A-Za-z0-9.]{1,64}")
_ACTION = re.compile(r"\b(?:lightsail|sts):[A-Za-z]{1,64}\b")
_SERVER_FAULT = 500


def translate(failure: BaseException, operation: str) -> BrokerError:
    """Answer the error that leaves the room in place of `failure`, which happened during the AWS `operation`."""
    if isinstance(failure, BrokerError):
        return failure
    if isinstance(failure, ClientError):
        return _client_error(failure, operation)
    if isinstance(failure, CredentialRetrievalError):
        cause = f"{operation}: the source of the AWS credentials does not give any ({type(failure).__name__})"
        return UpstreamUnavailable(cause, retry_after=BUSY_SECONDS)
    if isinstance(failure, NoCredentialsError | PartialCredentialsError):
        hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role"
        return UpstreamError(f"{operation}: there are no usable AWS credentials: {hint} ({type(failure).__name__})")
    if isinstance(failure, ConnectionError | HTTPClientError | TimeoutError | OSError):
        return UpstreamUnavailable(f"{operation}: {type(failure).__name__}", retry_after=BUSY_SECONDS)
    kind = "the SDK gave up" if isinstance(failure, BotoCoreError) else "the answer cannot be read"
    return UpstreamError(f"{operation}: {kind} ({type(failure).__name__})")


def error_code(failure: BaseException) -> str:
    """Answer AWS's code of a failed call; empty when the failure is none of AWS's."""
    code = str(failure.response.get("Error", {}).get("Code", "")) if isinstance(failure, ClientError) else ""
    return code if _SOUND_CODE.fullmatch(code) else ""


def is_transient(failure: BaseException) -> bool:
    """Tell whether AWS refused a call, and may serve the same call in a moment: throttling, and the 5xx of gateways."""
    if not isinstance(failure, ClientError):
        return False
    status = failure.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status in _TRANSIENT_STATUS or error_code(failure) in _THROTTLED | _TIMED_OUT


def never_sent(failure: BaseException) -> bool:
    """Tell whether a call failed before there was a connection to send it over.

    The SDK's own class does not tell: its EndpointConnectionError is also a connection that was reset after sending.
    """
    reason = failure.kwargs.get("error") if isinstance(failure, BotoCoreError) else None
    return isinstance(reason, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)


def is_outage(error: BrokerError) -> bool:
    """Tell whether AWS did not answer or answered that it is broken; throttling and the like are no outage."""
    return isinstance(error, UpstreamUnavailable) and error.upstream_code not in _THROTTLED | _SETTING_UP | EXPIRED


def _client_error(failure: ClientError, operation: str) -> BrokerError:
    code = error_code(failure)
    status = failure.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    row = _BY_CODE.get(code) or (_BUSY if status >= _SERVER_FAULT else _OTHER)
    cause = f"{operation}: {code or 'an unnamed error'}{_explanation(failure, code)}"
    return row.error(cause, retry_after=row.retry_after, upstream_code=code)


def _explanation(failure: ClientError, code: str) -> str:
    if code in REFUSED:
        action = _ACTION.search(str(failure.response.get("Error", {}).get("Message", "")))
        return f", {action.group()} is not allowed" if action else ", a permission is missing"
    return f", {_HINTS[code]}" if code in _HINTS else ""
