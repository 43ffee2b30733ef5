import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    PaginationError,
    ReadTimeoutError,
    SSLError,
)

from broker.errors import BrokerError, Denied, InstanceNotRunning, UpstreamError, UpstreamUnavailable
from broker.lightsail.faults import error_code, is_outage, translate

URL = "https://lightsail.eu-west-1.amazonaws.com"


def client_error(code: str, status: int = 400, message: str = "") -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]  # the rest of the metadata does not matter here
        "GetInstances",
    )


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("InvalidInputException", 400, UpstreamError),
        ("NotFoundException", 400, Denied),
        ("OperationFailureException", 400, InstanceNotRunning),
        ("AccessDeniedException", 400, UpstreamError),
        ("UnauthenticatedException", 400, UpstreamError),
        ("AccountSetupInProgressException", 400, UpstreamUnavailable),
        ("RegionSetupInProgressException", 400, UpstreamUnavailable),
        ("ServiceException", 500, UpstreamUnavailable),
        ("ThrottlingException", 400, UpstreamUnavailable),
        ("UnrecognizedClientException", 400, UpstreamError),
        ("ExpiredTokenException", 400, UpstreamUnavailable),
        ("InvalidSignatureException", 400, UpstreamError),
        ("MissingAuthenticationTokenException", 400, UpstreamError),
        ("UnknownOperationException", 400, UpstreamError),
        ("SerializationException", 400, UpstreamError),
        ("OptInRequired", 400, UpstreamError),
        ("RequestExpired", 400, UpstreamError),
        ("503", 503, UpstreamUnavailable),
        ("SomethingNew", 502, UpstreamUnavailable),
        ("SomethingNew", 400, UpstreamError),
    ],
)
def test_every_code_of_aws_has_its_error(code: str, status: int, kind: type[BrokerError]) -> None:
    error = translate(client_error(code, status), "GetInstances")
    assert type(error) is kind
    assert error.upstream_code == code
    assert code in error.cause
    assert (error.retry_after is not None) == (kind in {UpstreamUnavailable, InstanceNotRunning})


@pytest.mark.parametrize(
    "failure",
    [
        ReadTimeoutError(endpoint_url=URL),
        ConnectTimeoutError(endpoint_url=URL),
        EndpointConnectionError(endpoint_url=URL),
        SSLError(endpoint_url=URL, error=OSError("certificate verify failed")),
        TimeoutError(),
        ConnectionResetError(),
    ],
)
def test_an_aws_that_cannot_be_reached_is_unavailable(failure: Exception) -> None:
    error = translate(failure, "GetInstances")
    assert isinstance(error, UpstreamUnavailable)
    assert error.retry_after
    assert is_outage(error)


@pytest.mark.parametrize(
    "failure", [NoCredentialsError(), PaginationError(message="planted"), KeyError("planted"), ValueError("planted")]
)
def test_whatever_else_goes_wrong_is_an_upstream_error_without_its_text(failure: Exception) -> None:
    error = translate(failure, "GetInstances")
    assert isinstance(error, UpstreamError)
    assert "planted" not in error.cause
    assert type(failure).__name__ in error.cause


def test_our_own_errors_pass_as_they_are() -> None:
    error = Denied("as it is")
    assert translate(error, "GetInstances") is error


@pytest.mark.parametrize("code", ["", "a b", "x" * 65, "<b>"])
def test_only_what_looks_like_a_code_is_one(code: str) -> None:
    assert error_code(client_error(code)) == ""


def test_broken_is_an_outage_and_busy_is_not() -> None:
    assert is_outage(translate(client_error("ServiceException", 500), "x"))
    assert is_outage(translate(client_error("503", 503), "x"))
    assert not is_outage(translate(client_error("ThrottlingException"), "x"))
    assert not is_outage(translate(client_error("RegionSetupInProgressException"), "x"))
    assert not is_outage(translate(client_error("NotFoundException"), "x"))
