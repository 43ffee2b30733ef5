import pytest

from broker.identity.authenticator import Authenticator
from tests.doubles.identity import CORP, HeldKeys, Mint, SigningKey, StillClock


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture(scope="session")
def rsa_key() -> SigningKey:
    return SigningKey("RS256", "rsa-1")


@pytest.fixture(scope="session")
def ec_key() -> SigningKey:
    return SigningKey("ES256", "ec-1")


@pytest.fixture(scope="session")
def ed_key() -> SigningKey:
    return SigningKey("EdDSA", "ed-1")


@pytest.fixture
def keys(rsa_key: SigningKey, ec_key: SigningKey, ed_key: SigningKey) -> HeldKeys:
    return HeldKeys(rsa_key, ec_key, ed_key)


@pytest.fixture
def mint(clock: StillClock, rsa_key: SigningKey) -> Mint:
    return Mint(clock, rsa_key)


@pytest.fixture
def door(keys: HeldKeys, clock: StillClock) -> Authenticator:
    return Authenticator([CORP], keys, clock)
