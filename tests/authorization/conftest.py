"""People, machines and moments that the tests of this room share."""

from datetime import UTC, datetime, timedelta

import pytest

from broker.model import Caller, Instance, InstanceRef, Platform, RequestContext

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


@pytest.fixture
def alice() -> Caller:
    return Caller(
        issuer="corp",
        subject="alice",
        kind="user",
        groups=("ops", "web"),
        authenticated_at=NOW - timedelta(hours=2),
        token_expires_at=NOW + timedelta(hours=1),
    )


@pytest.fixture
def web() -> Instance:
    return Instance(
        ref=InstanceRef("main", "eu-west-1", "web-1"),
        platform=Platform.LINUX_UNIX,
        blueprint="amazon_linux_2023",
        bundle="nano_3_0",
        state="running",
        tags={"env": "prod"},
    )


@pytest.fixture
def context() -> RequestContext:
    return RequestContext(now=NOW, source_ip="203.0.113.9")
