from datetime import UTC, datetime

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.lightsail.signing import RequestSigner

CONTENT_TYPE = "application/x-amz-json-1.1"
TARGET = "Lightsail_20161128.GetInstanceAccessDetails"
WORDS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=20)
SECRETS = st.text("ABCabc019+/=", min_size=1, max_size=60)


def by_the_sdk(credentials: ReadOnlyCredentials, host: str, region: str, body: bytes) -> dict[str, str]:
    headers = {"Content-Type": CONTENT_TYPE, "X-Amz-Target": TARGET}
    request = AWSRequest("POST", f"https://{host}/", headers, body)
    SigV4Auth(credentials, "lightsail", region).add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


def signer(host: str, region: str) -> RequestSigner:
    return RequestSigner(host=host, service="lightsail", region=region, content_type=CONTENT_TYPE, target=TARGET)


@settings(max_examples=200, deadline=None)
@given(key=SECRETS, secret=SECRETS, token=st.none() | SECRETS, region=WORDS, body=st.binary(min_size=1, max_size=200))
def test_a_signature_is_the_one_that_the_sdk_makes(
    key: str, secret: str, token: str | None, region: str, body: bytes
) -> None:
    host = f"lightsail.{region}.amazonaws.com"
    credentials = ReadOnlyCredentials(key, secret, token)
    theirs = by_the_sdk(credentials, host, region, body)
    now = datetime.strptime(theirs["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert signer(host, region).headers(credentials, body, now) == theirs | {"host": host}


@pytest.mark.parametrize("changed", ["secret", "day"])
def test_a_key_serves_for_one_secret_on_one_day(changed: str) -> None:
    kept, now = signer("host", "eu-west-1"), datetime(2026, 3, 1, 23, 59, tzinfo=UTC)
    first = ReadOnlyCredentials("key", "secret", None)
    kept.headers(first, b"{}", now)
    later = now.replace(day=2) if changed == "day" else now
    credentials = ReadOnlyCredentials("key", "another", None) if changed == "secret" else first
    fresh = signer("host", "eu-west-1")
    assert kept.headers(credentials, b"{}", later) == fresh.headers(credentials, b"{}", later)
    assert kept.headers(first, b"{}", now) != kept.headers(credentials, b"{}", later)
