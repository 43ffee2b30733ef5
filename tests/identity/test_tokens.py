import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jwt as other_jwt
from joserfc.jwk import import_key

from broker.errors import InvalidToken
from broker.identity.authenticator import Authenticator
from broker.identity.issuers import Issuer
from broker.identity.keys import parse_key_set
from broker.identity.preparser import parse
from broker.identity.tokens import verify
from tests.doubles.identity import (
    CORP,
    HeldKeys,
    Mint,
    SigningKey,
    StillClock,
    accepted,
    as_json,
    b64,
    cause_of,
    key_set_document,
)

NOW = StillClock()()
NOON = int(NOW.timestamp())


def door_of(issuer: Issuer, mint: Mint) -> Authenticator:
    return Authenticator([issuer], HeldKeys(mint.key), mint.clock)


async def test_a_good_token_becomes_a_caller(door: Authenticator, mint: Mint) -> None:
    caller = await accepted(
        door,
        mint.token(
            groups=["ops", "dev", "ops"],
            email="a@example.com",
            email_verified=True,
            amr=["pwd", "mfa"],
            auth_time=NOON - 5,
        ),
    )
    assert str(caller) == "corp/alice"
    assert (caller.kind, caller.groups, caller.email, caller.mfa) == ("user", ("ops", "dev"), "a@example.com", True)
    assert caller.authenticated_at == NOW - timedelta(seconds=5)
    assert caller.token_expires_at == NOW + timedelta(seconds=600)
    assert not caller.bound
    assert len(caller.token_id) == 16


async def test_a_bare_token_becomes_a_caller_without_extras(door: Authenticator, mint: Mint) -> None:
    caller = await accepted(door, mint.token())
    assert (caller.groups, caller.email, caller.mfa, caller.authenticated_at) == ((), None, False, None)


def test_the_issuer_is_looked_at_again_once_the_signature_holds(mint: Mint) -> None:
    """Even if a caller of `verify` brought the wrong issuer's settings."""
    other = replace(CORP, issuer="https://other.example.com")
    with pytest.raises(InvalidToken, match="unknown_issuer"):
        verify(parse(mint.token()), other, parse_key_set(key_set_document(mint.key)), NOW)


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")  # one of the libraries prefers its newer name
@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "ES384", "EdDSA"])
def test_what_we_accept_two_other_libraries_accept_as_well(algorithm: str, clock: StillClock) -> None:
    """They judge the signature independently; the claims are judged at the real time."""
    clock.now = datetime.now(UTC)
    key = SigningKey(algorithm, "k")
    text = Mint(clock, key).token()
    assert verify(parse(text), CORP, parse_key_set(key_set_document(key)), clock())[0].subject == "alice"
    by_pyjwt = jwt.decode(
        text,
        jwt.PyJWK(key.jwk()),
        algorithms=[algorithm],
        audience=CORP.audience,
        issuer=CORP.issuer,
        options={
            "require": ["exp", "iat", "iss", "aud", "sub"],
            "strict_aud": True,
            "enforce_minimum_key_length": True,
        },
    )
    by_joserfc = other_jwt.decode(text, import_key(json.loads(as_json(key.jwk()))), algorithms=[algorithm])
    assert by_pyjwt == by_joserfc.claims


@pytest.mark.parametrize(
    ("claims", "cause"),
    [
        ({"exp": None}, "claim_missing"),
        ({"iat": None}, "claim_missing"),
        ({"sub": None}, "claim_missing"),
        ({"aud": None}, "wrong_audience"),
        ({"iat": NOON - 600, "exp": NOON - 30}, "expired"),
        ({"iat": NOON - 600, "exp": NOON - 29}, ""),
        ({"iat": NOON + 30}, ""),
        ({"iat": NOON + 31}, "not_yet_valid"),
        ({"nbf": NOON + 30}, ""),
        ({"nbf": NOON + 31}, "not_yet_valid"),
        ({"auth_time": NOON + 31}, "not_yet_valid"),
        ({"nbf": NOON + 600}, "bad_lifetime"),
        ({"nbf": NOON + 700}, "bad_lifetime"),
        ({"exp": NOON}, "bad_lifetime"),
        ({"exp": NOON - 10}, "bad_lifetime"),
        ({"exp": NOON + 86_400}, ""),
        ({"exp": NOON + 86_401}, "bad_lifetime"),
        ({"iat": NOON - 12 * 3600}, ""),
        ({"iat": NOON - 12 * 3600 - 29}, ""),
        ({"iat": NOON - 12 * 3600 - 30}, "too_old"),
    ],
)
async def test_dates_hold_to_the_second(door: Authenticator, mint: Mint, claims: dict[str, object], cause: str) -> None:
    if cause:
        assert await cause_of(door, mint.token(**claims)) == cause
    else:
        await accepted(door, mint.token(**claims))


async def test_a_token_is_good_only_until_it_is_too_old(mint: Mint) -> None:
    caller = await accepted(door_of(replace(CORP, max_token_age=timedelta(minutes=5)), mint), mint.token())
    assert caller.token_expires_at == NOW + timedelta(minutes=5)


async def test_a_long_max_token_age_allows_a_long_life(mint: Mint) -> None:
    patient = door_of(replace(CORP, max_token_age=timedelta(days=30)), mint)
    await accepted(patient, mint.token(exp=NOON + 30 * 86_400))
    assert await cause_of(patient, mint.token(exp=NOON + 30 * 86_400 + 1)) == "bad_lifetime"


@pytest.mark.parametrize(
    ("required", "sent", "good"),
    [
        ("123", "123", True),
        ("123", 123, False),
        ("123", ["123"], False),
        ("123", "1234", False),
        (1, True, False),
        (1, 1.0, False),
        (True, True, True),
        (["a", "b"], ["a", "b"], True),
        (["a", "b"], ["b", "a"], False),
        ([1], [True], False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ("123", None, False),
    ],
)
async def test_a_required_claim_matches_in_value_and_type(
    mint: Mint, required: object, sent: object, *, good: bool
) -> None:
    door = door_of(replace(CORP, require={"repository_id": required}), mint)
    if good:
        await accepted(door, mint.token(repository_id=sent))
    else:
        assert await cause_of(door, mint.token(repository_id=sent)) == "required_claim"


@pytest.mark.parametrize(
    "groups",
    ["ops", {"ops": True}, [1], ["ops", None], [["ops"]], [""], ["a" * 257], [" ops"], ["g"] * 257, None, True],
)
async def test_groups_are_a_short_list_of_short_texts(door: Authenticator, mint: Mint, groups: object) -> None:
    claims = mint.claims() | {"groups": groups}
    assert await cause_of(door, mint.raw(as_json(mint.header()), as_json(claims))) == "bad_groups"


@pytest.mark.parametrize("elsewhere", [{"groups": "src1"}, "groups", ["groups"], None])
async def test_groups_that_are_kept_elsewhere_are_not_taken_for_none(
    door: Authenticator, mint: Mint, elsewhere: object
) -> None:
    claims = mint.claims() | {"_claim_names": elsewhere}
    assert await cause_of(door, mint.raw(as_json(mint.header()), as_json(claims))) == "bad_groups"


async def test_groups_that_were_too_many_to_send_are_not_taken_for_none(door: Authenticator, mint: Mint) -> None:
    assert await cause_of(door, mint.token(hasgroups=True)) == "bad_groups"


async def test_an_address_is_nobody_before_it_is_verified(mint: Mint) -> None:
    issuer = replace(CORP, subject_claim="email")
    boss = {"email": "boss@corp.example"}
    for verified in ({}, {"email_verified": False}, {"email_verified": "true"}):
        assert await cause_of(door_of(issuer, mint), mint.token(**boss, **verified)) == "bad_subject"
    caller = await accepted(door_of(issuer, mint), mint.token(**boss, email_verified=True))
    assert caller.subject == "boss@corp.example"


async def test_settings_choose_the_claims_of_subject_and_groups(mint: Mint) -> None:
    issuer = replace(CORP, subject_claim="oid", groups_claim="roles", principal="workload")
    caller = await accepted(door_of(issuer, mint), mint.token(sub=None, oid="o-1", roles=["deploy"], groups="ignored"))
    assert (caller.subject, caller.groups, caller.kind) == ("o-1", ("deploy",), "workload")
    assert await cause_of(door_of(issuer, mint), mint.token()) == "claim_missing"


@pytest.mark.parametrize("verified", [None, False, "true", 1, "yes", [True]])
async def test_an_unverified_address_is_left_out(door: Authenticator, mint: Mint, verified: object) -> None:
    assert (await accepted(door, mint.token(email="a@example.com", email_verified=verified))).email is None


@pytest.mark.parametrize("email", ["", "a" * 300 + "@example.com", "alice", 7, ["a@example.com"], "a@example.com "])
async def test_an_address_that_is_none_is_left_out(door: Authenticator, mint: Mint, email: object) -> None:
    assert (await accepted(door, mint.token(email=email, email_verified=True))).email is None


@pytest.mark.parametrize(
    ("claims", "mfa"),
    [
        ({"amr": ["mfa"]}, True),
        ({"amr": "mfa"}, False),
        ({"amr": "no-mfa"}, False),
        ({"amr": ["MFA"]}, False),
        ({"amr": [["mfa"]]}, False),
        ({"amr": {"mfa": 1}}, False),
        ({"acr": "urn:mfa"}, True),
        ({"acr": "urn:mfa2"}, False),
        ({"acr": ["urn:mfa"]}, False),
        ({"acr": None}, False),
        ({}, False),
    ],
)
async def test_only_amr_or_a_listed_acr_is_multi_factor(mint: Mint, claims: dict[str, object], *, mfa: bool) -> None:
    door = door_of(replace(CORP, mfa_acr=("urn:mfa",)), mint)
    assert (await accepted(door, mint.token(**claims))).mfa is mfa


async def test_a_token_with_a_thousand_claims_is_only_long(door: Authenticator, mint: Mint, ed_key: SigningKey) -> None:
    small = Mint(mint.clock, ed_key)
    await accepted(door, small.token(**{f"c{number}": 1 for number in range(600)}))
    assert await cause_of(door, small.token(**{f"claim-{number}": 1 for number in range(1000)})) == "bad_authorization"


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data(), algorithm=st.sampled_from(["RS256", "ES256", "EdDSA"]))
def test_no_mutation_of_a_valid_token_is_accepted(data: st.DataObject, algorithm: str) -> None:
    key = SigningKey(algorithm, "k")
    keys = parse_key_set(key_set_document(key))
    token = Mint(StillClock(), key).token()
    mutant = data.draw(mutations(token))
    if mutant == token:
        return
    with pytest.raises(InvalidToken):
        verify(parse(mutant), CORP, keys, NOW)


@st.composite
def mutations(draw: st.DrawFn, token: str) -> str:
    place = draw(st.integers(0, len(token) - 1))
    header, payload, signature = token.split(".")
    letter = draw(st.sampled_from("ABCabc019-_.=+/ \u0410"))
    return draw(
        st.sampled_from(
            [
                token[:place] + letter + token[place + 1 :],
                token[:place] + letter + token[place:],
                token[:place] + token[place + 1 :],
                token[:place],
                token[:place] + token[place:].swapcase(),
                token[place:] + token[:place],
                f"{payload}.{header}.{signature}",
                f"{header}.{payload}.{payload}",
                f"{header}.{header}.{signature}",
                f"{header}.{payload}.{signature}.{signature}",
                f"{b64(as_json({'alg': 'none'}))}.{payload}.{signature}",
                f"{header}.{payload}.{b64(bytes(len(signature) * 3 // 4))}",
                f"{header}.{b64(as_json({'sub': 'root', 'exp': NOON + 9}))}.{signature}",
                token + "=",
                token + "\n",
            ]
        )
    )
