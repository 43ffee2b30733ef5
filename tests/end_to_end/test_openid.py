"""A real OpenID provider vouches for the callers: its tokens, and its keys as they change."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.end_to_end.places import LINUX, Place, a_place
from tests.real.oidc_provider import OpenIdProvider

pytestmark = pytest.mark.real("node")


@pytest.fixture
async def provider() -> AsyncIterator[OpenIdProvider]:
    with OpenIdProvider() as provider:
        yield provider


@pytest.fixture
async def place(tmp_path: Path, provider: OpenIdProvider) -> AsyncIterator[Place]:
    async with a_place(tmp_path, [{**LINUX, "name": "web-1"}], issuer=provider.issuer) as place:
        yield place


async def test_its_tokens_open_an_instance_whatever_signs_them(place: Place, provider: OpenIdProvider) -> None:
    checked = await place.broker("check")
    assert checked.code == 0, checked.out
    async with place.serving() as service:
        for algorithm in ("RS256", "ES256", "EdDSA"):
            token = provider.client_credentials(algorithm)
            status, document = await service.ask("/v1/credentials", {"instance": "web-1"}, token=token)
            assert (status, document["decision"]["policies"]) == (201, ["all"])
            forged = token[:-8] + ("A" * 8 if not token.endswith("A" * 8) else "B" * 8)
            assert (await service.ask("/v1/instances", token=forged))[0] == 401
    assert {event["actor"]["subject"] for event in await place.events("--event", "credential.issued")} == {"ci"}


async def test_new_keys_are_believed_at_once_and_the_former_while_they_are_published(
    place: Place, provider: OpenIdProvider
) -> None:
    former = provider.client_credentials("ES256")
    async with place.serving() as service:
        assert (await service.ask("/v1/instances", token=former))[0] == 200
        provider.rotate()
        fresh = provider.client_credentials("ES256")
        assert (await service.ask("/v1/instances", token=fresh))[0] == 200
        assert (await service.ask("/v1/instances", token=former))[0] == 200


async def test_withdrawn_keys_are_believed_no_longer(place: Place, provider: OpenIdProvider) -> None:
    former = provider.client_credentials("ES256")
    async with place.serving() as service:
        assert (await service.ask("/v1/instances", token=former))[0] == 200
        provider.rotate()
        provider.drop()
        fresh = provider.client_credentials("ES256")
        assert (await service.ask("/v1/instances", token=fresh))[0] == 200  # its unknown key is what makes us look
        status, document = await service.ask("/v1/instances", token=former)
        assert (status, document["code"]) == (401, "invalid_token")
