"""The front door in front of a real OpenID provider: discovery, three algorithms, rotation."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from broker.identity.authenticator import Authenticator
from broker.identity.issuers import Issuer
from broker.identity.keysets import KeyRing, Pace
from tests.doubles.identity import accepted, cause_of
from tests.real.oidc_provider import OpenIdProvider

pytestmark = pytest.mark.real("node")


@pytest.fixture(scope="module")
def provider() -> Iterator[OpenIdProvider]:
    with OpenIdProvider() as provider:
        yield provider


@pytest.fixture
def issuer(provider: OpenIdProvider) -> Issuer:
    return Issuer(name="ci", issuer=provider.issuer, audience="lightsail-broker", principal="workload")


@pytest.fixture
def ring(issuer: Issuer) -> KeyRing:
    return KeyRing([issuer], Pace(cooldown=0.3))


@pytest.fixture
async def door(issuer: Issuer, ring: KeyRing) -> AsyncIterator[Authenticator]:
    door = Authenticator([issuer], ring)
    await door.start()
    yield door
    await door.close()


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_its_access_tokens_are_accepted(provider: OpenIdProvider, door: Authenticator, algorithm: str) -> None:
    caller = await accepted(door, await asyncio.to_thread(provider.client_credentials, algorithm))
    assert (str(caller), caller.kind, caller.groups) == ("ci/ci", "workload", ("ci",))
    assert door.health().ready
    assert not door.health().detail


async def test_a_rotation_with_overlap_refuses_nobody(provider: OpenIdProvider, door: Authenticator) -> None:
    before = await asyncio.to_thread(provider.client_credentials)
    await accepted(door, before)
    await asyncio.to_thread(provider.rotate)
    after = await asyncio.to_thread(provider.client_credentials)
    await accepted(door, after)
    await accepted(door, before)


async def test_a_hard_cut_ends_the_old_tokens_even_where_they_are_remembered(
    provider: OpenIdProvider, door: Authenticator, ring: KeyRing
) -> None:
    before = await asyncio.to_thread(provider.client_credentials)
    await accepted(door, before)
    await asyncio.to_thread(provider.rotate)
    await asyncio.to_thread(provider.drop)
    await accepted(door, before)  # nobody has told us yet
    await ring.refresh()
    assert await cause_of(door, before) == "unknown_key"
    await accepted(door, await asyncio.to_thread(provider.client_credentials))


async def test_the_first_token_under_a_new_key_brings_the_news_of_a_hard_cut(
    provider: OpenIdProvider, door: Authenticator
) -> None:
    before = await asyncio.to_thread(provider.client_credentials)
    await accepted(door, before)
    await asyncio.to_thread(provider.rotate)
    await asyncio.to_thread(provider.drop)
    await accepted(door, await asyncio.to_thread(provider.client_credentials))
    assert await cause_of(door, before) == "unknown_key"


async def test_a_person_who_approved_a_device_is_known_by_name_and_groups(
    provider: OpenIdProvider, door: Authenticator
) -> None:
    token = await asyncio.to_thread(device_login, provider, "alice+ops+dev")
    caller = await accepted(door, token)
    assert (caller.subject, caller.groups, caller.email) == ("alice+ops+dev", ("ops", "dev"), "alice@example.com")
    assert caller.mfa


def device_login(provider: OpenIdProvider, login: str) -> str:
    """Log in by the device flow (RFC 8628) and answer the access token."""
    resource = "https://broker.test/ES256"
    started = provider.post("/device/auth", client_id="cli", scope="openid creds", resource=resource)
    provider.approve_device(str(started["verification_uri_complete"]), login)
    grant = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": str(started["device_code"])}
    return str(provider.post("/token", client_id="cli", **grant)["access_token"])


def test_its_lock_file_pins_every_package_and_names_no_place_to_fetch_it_from() -> None:
    lock = json.loads((Path(__file__).parents[1] / "real" / "oidc" / "package-lock.json").read_bytes())
    packages = [entry for name, entry in lock["packages"].items() if name]
    assert all(entry["integrity"].startswith("sha512-") for entry in packages)
    assert "://" not in json.dumps(lock)
