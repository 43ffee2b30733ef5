"""A token that is bound to a key is good for who holds the key, once for each proof, and for nobody else."""

import asyncio
import hashlib
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.errors import InvalidToken, NonceNeeded, Overloaded, RateLimited
from broker.identity.authenticator import Authenticator
from broker.identity.binding import WINDOW
from broker.identity.nonces import LIFETIME, Nonces
from broker.identity.replays import REMEMBERED_FOR, ReplaysInMemory
from broker.model import Presented
from tests.doubles.identity import CORP, HeldKeys, Mint, Prover, SigningKey, StillClock, as_json, b64, bearer

CERTIFICATE = hashlib.sha256(b"a certificate in DER").digest()


@pytest.fixture
def prover(door: Authenticator, clock: StillClock) -> Prover:
    return Prover(clock, door.nonce)


@pytest.fixture
def token(mint: Mint, prover: Prover) -> str:
    return mint.token(cnf={"jkt": prover.thumbprint})


async def refused(door: Authenticator, presented: Presented) -> str:
    """Answer why; fail when it is let in."""
    with pytest.raises(InvalidToken) as refusal:
        await door.authenticate(presented)
    return refusal.value.cause


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "EdDSA", "RS256", "PS256"])
async def test_who_proves_to_hold_the_key_is_let_in_and_known_as_bound(
    algorithm: str, door: Authenticator, mint: Mint, clock: StillClock
) -> None:
    prover = Prover(clock, door.nonce, algorithm)
    token = mint.token(cnf={"jkt": prover.thumbprint})
    for _ in range(2):  # the second time the token is remembered, and its proof is asked for all the same
        caller = await door.authenticate(prover.presents(token))
        assert (caller.subject, caller.bound) == ("alice", True)
    assert await refused(door, bearer(token)) == "binding_unproved"


@pytest.mark.parametrize("scheme", ["DPoP", "dpop", "DPOP"])
async def test_the_scheme_is_dpop_in_any_case(scheme: str, door: Authenticator, prover: Prover, token: str) -> None:
    presented = prover.presents(token, authorization=(f"{scheme} {token}",))
    assert (await door.authenticate(presented)).bound


async def test_a_bound_token_is_no_bearer_token_though_a_proof_lies_beside_it(
    door: Authenticator, prover: Prover, token: str
) -> None:
    presented = prover.presents(token, authorization=(f"Bearer {token}",))
    assert await refused(door, presented) == "binding_unproved"


async def test_a_bearer_token_is_not_made_better_by_a_proof(door: Authenticator, prover: Prover, mint: Mint) -> None:
    assert await refused(door, prover.presents(mint.token())) == "binding_unproved"


@pytest.mark.parametrize(
    ("header", "claims", "cause"),
    [
        ({}, {"htm": "GET"}, "proof_for_another"),
        ({}, {"htm": "post"}, "proof_for_another"),
        ({}, {"htm": None}, "proof_for_another"),
        ({}, {"htu": "https://broker.test/v1/decisions"}, "proof_for_another"),
        ({}, {"htu": "https://other.test/v1/credentials"}, "proof_for_another"),
        ({}, {"htu": "http://broker.test/v1/credentials"}, "proof_for_another"),
        ({}, {"htu": "https://broker.test:8443/v1/credentials"}, "proof_for_another"),
        ({}, {"htu": "https://broker.test@evil.test/v1/credentials"}, "proof_for_another"),
        ({}, {"htu": "https://broker.test:x/v1/credentials"}, "proof_for_another"),
        ({}, {"htu": "/v1/credentials"}, "proof_for_another"),
        ({}, {"htu": 7}, "proof_for_another"),
        ({}, {"htu": None}, "proof_for_another"),
        ({}, {"ath": b64(hashlib.sha256(b"another token").digest())}, "proof_for_another"),
        ({}, {"ath": None}, "proof_for_another"),
        ({}, {"ath": 7}, "proof_for_another"),
        ({}, {"iat": None}, "proof_stale"),
        ({}, {"iat": 1_000_000_001}, "proof_stale"),
        ({}, {"iat": 90_000_000_000}, "proof_stale"),
        ({}, {"iat": "now"}, "proof_stale"),
        ({}, {"iat": True}, "proof_stale"),
        ({}, {"jti": None}, "bad_proof"),
        ({}, {"jti": ""}, "bad_proof"),
        ({}, {"jti": "x" * 257}, "bad_proof"),
        ({}, {"jti": 7}, "bad_proof"),
        ({"typ": "JWT"}, {}, "bad_proof"),
        ({"typ": "at+jwt"}, {}, "bad_proof"),
        ({"typ": None}, {}, "bad_proof"),
        ({"alg": "none"}, {}, "bad_proof"),
        ({"alg": "HS256"}, {}, "bad_proof"),
        ({"alg": "RS256"}, {}, "bad_proof"),
        ({"alg": "ES384"}, {}, "bad_proof"),
        ({"alg": None}, {}, "bad_proof"),
        ({"alg": 7}, {}, "bad_proof"),
        ({"jwk": None}, {}, "bad_proof"),
        ({"jwk": {"kty": "oct", "k": "c2VjcmV0"}}, {}, "bad_proof"),
        ({"jwk": {}}, {}, "bad_proof"),
        ({"jwk": "x"}, {}, "bad_proof"),
        ({"kid": "x"}, {}, "bad_proof"),
        ({"jku": "https://evil.test/keys"}, {}, "bad_proof"),
        ({"crit": ["b64"]}, {}, "bad_proof"),
    ],
)
async def test_a_proof_that_is_wrong_in_one_way_is_refused(
    header: dict[str, Any], claims: dict[str, Any], cause: str, door: Authenticator, prover: Prover, token: str
) -> None:
    assert await refused(door, prover.presents(token, prover.proof(token, header, **claims))) == cause
    assert (await door.authenticate(prover.presents(token))).bound  # the control


async def test_a_private_key_in_a_proof_is_refused(door: Authenticator, prover: Prover, token: str) -> None:
    shown = prover.jwk | {"d": prover.jwk["x"]}
    assert await refused(door, prover.presents(token, prover.proof(token, {"jwk": shown}))) == "bad_proof"


async def test_a_proof_of_another_key_is_refused(
    door: Authenticator, prover: Prover, token: str, clock: StillClock
) -> None:
    other = Prover(clock, door.nonce, generation=8)
    assert await refused(door, other.presents(token)) == "binding_unproved"
    swapped = other.proof(token, {"jwk": prover.jwk})
    assert await refused(door, prover.presents(token, swapped)) == "bad_proof"


async def test_the_address_is_compared_as_addresses_are(door: Authenticator, prover: Prover, token: str) -> None:
    for address in (
        "https://broker.test/v1/credentials?cursor=7#x",
        "HTTPS://BROKER.TEST/v1/credentials",
        "https://broker.test:443/v1/credentials",
    ):
        assert (await door.authenticate(prover.presents(token, prover.proof(token, htu=address)))).bound


async def test_there_is_one_proof_and_no_more(door: Authenticator, prover: Prover, token: str) -> None:
    one, two = prover.proof(token), prover.proof(token)
    for proofs in ([one, two], [one, one], [f"{one}, {two}"], [""], ["a.b"], ["..."], [one + "."], ["x" * 5000]):
        presented = replace(prover.presents(token), dpop=tuple(proofs))
        assert await refused(door, presented) in {"bad_proof", "malformed"}
    assert await refused(door, replace(prover.presents(token), dpop=())) == "bad_proof"


async def test_a_proof_is_good_once(door: Authenticator, prover: Prover, token: str) -> None:
    proof = prover.proof(token)
    assert (await door.authenticate(prover.presents(token, proof))).bound
    assert await refused(door, prover.presents(token, proof)) == "proof_replayed"
    again = prover.proof(token, jti="same")
    other = prover.proof(token, jti="same", htu="https://broker.test:443/v1/credentials")
    assert (await door.authenticate(prover.presents(token, again))).bound
    assert await refused(door, prover.presents(token, other)) == "proof_replayed"


async def test_of_the_same_proof_at_once_exactly_one_is_taken(door: Authenticator, prover: Prover, token: str) -> None:
    presented = prover.presents(token)
    outcomes = await asyncio.gather(*(door.authenticate(presented) for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(outcome, InvalidToken) for outcome in outcomes) == 19


@pytest.mark.parametrize("nonce", [None, "", "x", "n-1", 7, "A" * 32, "A" * 500])
async def test_without_a_nonce_of_ours_one_is_asked_to_come_again_with_it(
    nonce: object, door: Authenticator, prover: Prover, token: str
) -> None:
    with pytest.raises(NonceNeeded):
        await door.authenticate(prover.presents(token, prover.proof(token, nonce=nonce)))


async def test_the_nonce_is_asked_for_before_anything_is_looked_at(door: Authenticator, prover: Prover) -> None:
    with pytest.raises(NonceNeeded):
        await door.authenticate(prover.presents("no.token.atall", prover.proof("no.token.atall", nonce=None)))


async def test_a_proof_is_too_old_when_its_nonce_or_its_time_is(
    door: Authenticator, prover: Prover, token: str, clock: StillClock
) -> None:
    kept = prover.proof(token)
    ahead = prover.proof(token, iat=int((clock() + WINDOW + timedelta(seconds=2)).timestamp()))
    assert await refused(door, prover.presents(token, ahead)) == "proof_stale"
    clock.now += LIFETIME + timedelta(minutes=1)
    assert await refused(door, prover.presents(token, kept)) == "nonce_needed"
    fresh_nonce = prover.proof(token, iat=int((clock() - WINDOW - timedelta(seconds=2)).timestamp()))
    assert await refused(door, prover.presents(token, fresh_nonce)) == "proof_stale"


def test_brokers_with_one_key_know_each_other_s_nonces_and_no_others(clock: StillClock) -> None:
    ours, other_replica, stranger = Nonces(b"k" * 32, clock), Nonces(b"k" * 32, clock), Nonces(b"x" * 32, clock)
    nonce = ours.current()
    assert other_replica.is_fresh(nonce)
    assert not stranger.is_fresh(nonce)
    clock.now += LIFETIME
    assert ours.is_fresh(nonce)
    clock.now += timedelta(minutes=1)
    assert not ours.is_fresh(nonce)
    clock.now -= LIFETIME + timedelta(minutes=2)
    assert ours.is_fresh(nonce)  # of a replica whose clock is a little ahead
    clock.now -= timedelta(minutes=1)
    assert not ours.is_fresh(nonce)


@pytest.mark.parametrize(
    "confirmation",
    [
        None,
        {},
        [],
        "jkt",
        7,
        {"jkt": 7},
        {"jkt": ""},
        {"jkt": "AAAA"},
        {"jkt": "A" * 43, "kid": "x"},
        {"x5t#S256": "A" * 42},
        {"jwk": {"kty": "EC"}},
        {"jwe": "x"},
    ],
)
async def test_what_cannot_be_proved_here_is_not_taken_for_unbound(
    confirmation: object, door: Authenticator, mint: Mint, prover: Prover
) -> None:
    header, payload = as_json(mint.header()), as_json(mint.claims() | {"cnf": confirmation})
    token = mint.raw(header, payload)
    assert await refused(door, bearer(token)) == "binding_unproved"
    assert await refused(door, prover.presents(token)) == "binding_unproved"


async def test_a_token_bound_to_a_certificate_comes_with_this_certificate(door: Authenticator, mint: Mint) -> None:
    token = mint.token(cnf={"x5t#S256": b64(CERTIFICATE)})
    shown = replace(bearer(token), certificate_sha256=CERTIFICATE)
    assert (await door.authenticate(shown)).bound
    assert await refused(door, bearer(token)) == "binding_unproved"
    another = replace(bearer(token), certificate_sha256=hashlib.sha256(b"another").digest())
    assert await refused(door, another) == "binding_unproved"


async def test_a_token_that_is_bound_to_both_needs_both(door: Authenticator, mint: Mint, prover: Prover) -> None:
    token = mint.token(cnf={"jkt": prover.thumbprint, "x5t#S256": b64(CERTIFICATE)})
    assert await refused(door, prover.presents(token)) == "binding_unproved"
    assert await refused(door, replace(bearer(token), certificate_sha256=CERTIFICATE)) == "binding_unproved"
    assert (await door.authenticate(prover.presents(token, certificate_sha256=CERTIFICATE))).bound


async def test_an_issuer_whose_tokens_must_be_bound_gives_nobody_a_bearer_token(
    keys: HeldKeys, clock: StillClock, mint: Mint
) -> None:
    door = Authenticator([replace(CORP, require_binding=True)], keys, clock)
    prover = Prover(clock, door.nonce)
    assert await refused(door, bearer(mint.token())) == "binding_required"
    assert (await door.authenticate(prover.presents(mint.token(cnf={"jkt": prover.thumbprint})))).bound


async def test_what_cannot_be_remembered_is_not_let_in(keys: HeldKeys, clock: StillClock, mint: Mint) -> None:
    door = Authenticator([CORP], keys, clock, replays=ReplaysInMemory(clock, capacity=2))
    prover = Prover(clock, door.nonce)
    token = mint.token(cnf={"jkt": prover.thumbprint}, exp=int(clock().timestamp()) + 86_400)
    for _ in range(2):
        await door.authenticate(prover.presents(token))
    with pytest.raises(Overloaded):
        await door.authenticate(prover.presents(token))
    clock.now += REMEMBERED_FOR + timedelta(seconds=1)
    assert (await door.authenticate(prover.presents(token))).bound


async def test_who_uses_many_proofs_shuts_out_nobody_else(keys: HeldKeys, clock: StillClock, mint: Mint) -> None:
    door = Authenticator([CORP], keys, clock, replays=ReplaysInMemory(clock, of_one=3))
    keys_of_one = [Prover(clock, door.nonce, generation=8 + number) for number in range(5)]
    tokens = [mint.token(cnf={"jkt": each.thumbprint}, exp=int(clock().timestamp()) + 86_400) for each in keys_of_one]
    for prover, token in zip(keys_of_one[:3], tokens, strict=False):
        await door.authenticate(prover.presents(token))
    for prover, token in zip(keys_of_one, tokens, strict=True):  # a further key is no further share
        with pytest.raises(RateLimited):
            await door.authenticate(prover.presents(token))
    other = Prover(clock, door.nonce)
    assert (await door.authenticate(other.presents(mint.token(sub="bob", cnf={"jkt": other.thumbprint})))).bound
    clock.now += REMEMBERED_FOR + timedelta(seconds=1)
    assert (await door.authenticate(keys_of_one[0].presents(tokens[0]))).bound


def test_a_proof_shows_nothing_of_itself(prover: Prover, token: str) -> None:
    assert token not in repr(prover.presents(token))
    assert "dpop=" not in repr(prover.presents(token))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(data=st.data())
def test_no_changed_proof_is_taken(data: st.DataObject, rsa_key: SigningKey) -> None:
    clock = StillClock()
    mint = Mint(clock, rsa_key)
    door = Authenticator([CORP], HeldKeys(rsa_key), clock)
    prover = Prover(clock, door.nonce)
    token = mint.token(cnf={"jkt": prover.thumbprint})
    good = prover.proof(token)
    # A signature is another one each time, so what is drawn must not depend on it.
    place = data.draw(st.integers(0, 2000)) % len(good)
    drawn = data.draw(st.sampled_from("ABab01-_.=~"))
    letter = drawn if drawn != good[place] else "c"
    mutants = (good[:place] + letter + good[place + 1 :], good[:place], good + letter)
    mutant = mutants[data.draw(st.integers(0, 2))]
    with pytest.raises(InvalidToken):
        asyncio.run(door.authenticate(prover.presents(token, mutant)))
