import pytest

from broker.identity.keys import BadKeySet, KeySet, parse_key_set
from broker.identity.weakkeys import is_roca
from tests.doubles.identity import SigningKey, as_json, b64, key_set_document


def ids_of(keys: KeySet) -> set[str | None]:
    return {key.key_id for key in keys.keys}


def roca_modulus() -> int:
    """Make a number of 2048 bits with the fingerprint; it need not be a product of primes to bear it."""
    product = 1
    for prime in (n for n in range(3, 168) if all(n % divisor for divisor in range(2, n))):
        product *= prime
    rest = pow(65537, 12345, product)
    factor = (1 << 2047) // product + 2
    modulus = factor * product + rest
    return modulus if modulus % 2 else modulus + product


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"use": "enc"}, "not for signatures"),
        ({"use": 1}, "not for signatures"),
        ({"use": None, "key_ops": ["encrypt"]}, "not for signatures"),
        ({"use": None, "key_ops": "verify"}, "not for signatures"),
        ({"alg": "RSA-OAEP"}, "alg does not fit"),
        ({"alg": "HS256"}, "alg does not fit"),
        ({"alg": "ES256"}, "alg does not fit"),
        ({"alg": "none"}, "alg does not fit"),
        ({"alg": 1}, "alg does not fit"),
        ({"d": "AQAB"}, "private key published"),
        ({"oth": []}, "private key published"),
        ({"e": "AQ"}, "weak"),
        ({"e": "Aw"}, "weak"),
        ({"e": "AQAA"}, "weak"),
        ({"n": b64(b"\xff" * 127 + b"\x01")}, "weak"),
        ({"n": b64(b"\xff" * 1025)}, "weak"),
        ({"n": b64(b"\xff" * 255 + b"\xfe")}, "weak"),
        ({"n": b64(roca_modulus().to_bytes(256, "big"))}, "weak"),
        ({"n": None}, "malformed"),
        ({"n": ""}, "malformed"),
        ({"n": 7}, "malformed"),
        ({"n": "AA=="}, "malformed"),
        ({"kty": "oct", "k": "AAAA"}, "symmetric"),
        ({"kty": "rsa"}, "unknown kty or crv"),
        ({"kty": None}, "unknown kty or crv"),
        ({"kty": ["RSA"]}, "unknown kty or crv"),
        ({"kid": 7}, "bad kid"),
        ({"kid": ""}, "bad kid"),
        ({"kid": "k" * 257}, "bad kid"),
    ],
)
def test_a_bad_rsa_key_is_dropped_and_the_rest_stays(
    rsa_key: SigningKey, ec_key: SigningKey, change: dict[str, object], reason: str
) -> None:
    keys = parse_key_set(key_set_document(rsa_key.jwk(**change), ec_key))
    assert ids_of(keys) == {"ec-1"}
    assert keys.dropped == {reason: 1}


@pytest.mark.parametrize(
    "change", [{"crv": "secp256k1"}, {"crv": "P-384"}, {"crv": None}, {"x": b64(bytes(32))}, {"x": b64(bytes(31))}]
)
def test_a_bad_ec_key_is_dropped_and_the_rest_stays(
    rsa_key: SigningKey, ec_key: SigningKey, change: dict[str, object]
) -> None:
    keys = parse_key_set(key_set_document(ec_key.jwk(alg=None, **change), rsa_key))
    assert ids_of(keys) == {"rsa-1"}
    assert sum(keys.dropped.values()) == 1


@pytest.mark.parametrize("entry", [None, 1, "key", [], {}])
def test_one_malformed_entry_among_good_ones_is_dropped(rsa_key: SigningKey, entry: object) -> None:
    assert ids_of(parse_key_set(as_json({"keys": [entry, rsa_key.jwk()]}))) == {"rsa-1"}


def test_two_keys_of_one_name_are_both_dropped(rsa_key: SigningKey, ec_key: SigningKey) -> None:
    keys = parse_key_set(key_set_document(rsa_key, ec_key, ec_key.jwk(kid="rsa-1")))
    assert ids_of(keys) == {"ec-1"}
    assert keys.dropped == {"duplicate kid": 2}


def test_an_encryption_key_of_the_same_name_does_not_disturb(rsa_key: SigningKey) -> None:
    assert ids_of(parse_key_set(key_set_document(rsa_key, rsa_key.jwk(use="enc", alg="RSA-OAEP")))) == {"rsa-1"}


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"keys":null}',
        b'{"keys":{}}',
        b'{"keys":[]}',
        b'{"keys":[{}]}',
        b'{"keys":[],"keys":[]}',
        b"<html></html>",
        b'{"keys":' + b"[" * 100_000,
        b" " * (256 * 1024 + 1),
    ],
)
def test_what_is_no_key_set_is_refused_as_a_whole(document: bytes) -> None:
    with pytest.raises(BadKeySet):
        parse_key_set(document)


def test_a_key_set_holds_at_most_64_keys(ed_key: SigningKey) -> None:
    assert len(parse_key_set(key_set_document(*[ed_key.jwk(kid=str(n)) for n in range(64)])).keys) == 64
    with pytest.raises(BadKeySet):
        parse_key_set(key_set_document(*[ed_key.jwk(kid=str(n)) for n in range(65)]))


def test_other_material_under_a_known_name_is_noticed(rsa_key: SigningKey, ec_key: SigningKey) -> None:
    former = parse_key_set(key_set_document(rsa_key, ec_key))
    later = parse_key_set(key_set_document(SigningKey("RS256", "rsa-1", generation=1), ec_key))
    assert later.reused_ids(former) == {"rsa-1"}
    assert former.reused_ids(former) == frozenset()


def test_healthy_moduli_do_not_bear_the_roca_fingerprint(rsa_key: SigningKey) -> None:
    modulus = parse_key_set(key_set_document(rsa_key)).keys[0].public_key.public_numbers().n  # type: ignore[attr-defined]  # an RSA key
    assert not is_roca(modulus)
    assert is_roca(roca_modulus())
