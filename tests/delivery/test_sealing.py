import base64
import json
from collections.abc import Mapping

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwe
from joserfc.jwk import ECKey, OKPKey

from broker.delivery.sealing import recipient, seal
from broker.errors import InvalidRequest

SECRET = {"private_key": "-----BEGIN …", "known_hosts": ["a", "b"], "expires_at": None}
PrivateKey = ec.EllipticCurvePrivateKey | X25519PrivateKey

P256 = ec.generate_private_key(ec.SECP256R1())
X25519 = X25519PrivateKey.generate()


def text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def raw(value: str) -> bytes:
    return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))


def public(key: PrivateKey) -> dict[str, str]:
    if isinstance(key, X25519PrivateKey):
        raw_public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return {"kty": "OKP", "crv": "X25519", "x": text(raw_public)}
    numbers = key.public_key().public_numbers()
    return {"kty": "EC", "crv": "P-256", "x": text(numbers.x.to_bytes(32)), "y": text(numbers.y.to_bytes(32))}


BOTH = pytest.mark.parametrize("key", [P256, X25519], ids=["P-256", "X25519"])


@BOTH
def test_whoever_holds_the_key_opens_it_with_a_library(key: PrivateKey) -> None:
    sealed = seal(SECRET, recipient(public(key)))
    theirs = OKPKey.import_key(key) if isinstance(key, X25519PrivateKey) else ECKey.import_key(key)
    opened = jwe.decrypt_compact(sealed, theirs, algorithms=["ECDH-ES", "A256GCM"])
    assert opened.plaintext is not None
    assert json.loads(opened.plaintext) == SECRET


def shared_secret(key: PrivateKey, ephemeral: Mapping[str, str]) -> bytes:
    if isinstance(key, X25519PrivateKey):
        return key.exchange(X25519PublicKey.from_public_bytes(raw(ephemeral["x"])))
    numbers = ec.EllipticCurvePublicNumbers(
        int.from_bytes(raw(ephemeral["x"])), int.from_bytes(raw(ephemeral["y"])), ec.SECP256R1()
    )
    return key.exchange(ec.ECDH(), numbers.public_key())


@BOTH
def test_whoever_holds_the_key_opens_it_by_the_letter_of_the_standard(key: PrivateKey) -> None:
    """RFC 7518, 4.6.2: Concat KDF over the algorithm's name, empty party info and the key length."""
    header, encrypted_key, nonce, ciphertext, tag = seal(SECRET, recipient(public(key))).split(".")
    protected = json.loads(raw(header))
    assert (protected["alg"], protected["enc"], encrypted_key) == ("ECDH-ES", "A256GCM", "")
    info = b"\0\0\0\x07A256GCM" + bytes(4) + bytes(4) + (256).to_bytes(4)
    derived = ConcatKDFHash(hashes.SHA256(), 32, info).derive(shared_secret(key, protected["epk"]))
    plaintext = AESGCM(derived).decrypt(raw(nonce), raw(ciphertext) + raw(tag), header.encode())
    assert json.loads(plaintext) == SECRET


@BOTH
def test_nothing_of_the_secret_or_of_a_private_part_is_readable(key: PrivateKey) -> None:
    sealed = seal({"password": "kV=3S?(tWn;uE8e*"}, recipient(public(key)))
    assert b"kV=3S" not in b"".join(map(raw, sealed.split(".")))
    assert "d" not in json.loads(raw(sealed.split(".")[0]))["epk"]


@BOTH
def test_no_two_seals_are_alike(key: PrivateKey) -> None:
    to = recipient(public(key))
    assert not set(seal(SECRET, to).split(".")[2:]) & set(seal(SECRET, to).split(".")[2:])


@BOTH
def test_what_a_key_may_say_about_itself(key: PrivateKey) -> None:
    sealed = seal(SECRET, recipient({**public(key), "kid": "laptop-1", "use": "enc", "alg": "ECDH-ES"}))
    assert json.loads(raw(sealed.split(".")[0]))["kid"] == "laptop-1"


def refuse(jwk: Mapping[str, str]) -> str:
    with pytest.raises(InvalidRequest) as caught:
        recipient(jwk)
    assert caught.value.__cause__ is None
    return caught.value.detail


@BOTH
def test_a_private_key_is_refused_and_not_shown(key: PrivateKey) -> None:
    said = refuse({**public(key), "d": text(b"p" * 32)})
    assert "private part" in said
    assert text(b"p" * 32) not in said


@pytest.mark.parametrize("key", [P256, X25519], ids=["P-256", "X25519"])
@pytest.mark.parametrize(
    "change",
    [
        {"kty": "RSA"},
        {"kty": "oct"},
        {"kty": ""},
        {"crv": "P-384"},
        {"crv": "Ed25519"},
        {"crv": "p-256"},
        {"use": "sig"},
        {"alg": "ECDH-ES+A256KW"},
        {"alg": "RSA-OAEP"},
        {"k": "AAAA"},
        {"x5c": "AAAA"},
        {"kid": "x" * 129},
        {"kid": "a\nb"},
        {"kid": "é"},
        {"x": ""},
        {"x": text(bytes(31))},
        {"x": text(bytes(33))},
        {"x": "A" * 43 + "="},
        {"x": "*" * 43},
        {"x": "A" * 42 + "B"},
        {"x": " " + "A" * 42},
        {"x": "é" * 43},
    ],
    ids=str,
)
def test_other_or_malformed_keys_are_refused(key: PrivateKey, change: Mapping[str, str]) -> None:
    assert refuse({**public(key), **change})


@BOTH
def test_a_missing_member_is_refused(key: PrivateKey) -> None:
    whole = public(key)
    for member in whole:
        refuse({name: value for name, value in whole.items() if name != member})


def test_a_point_off_the_curve_is_refused() -> None:
    whole = public(P256)
    assert "no point" in refuse({**whole, "y": whole["x"]})
    assert "no point" in refuse({**whole, "x": text(bytes(32)), "y": text(bytes(32))})


@pytest.mark.parametrize("point", [0, 1, 2**255 - 20, 2**255 - 19, 2**255 - 18])
def test_a_point_of_low_order_is_refused(point: int) -> None:
    """Everybody could compute the shared secret."""
    assert "no point" in refuse({"kty": "OKP", "crv": "X25519", "x": text(point.to_bytes(32, "little"))})


@given(st.dictionaries(st.sampled_from(["kty", "crv", "x", "y", "d", "use", "alg", "zz"]), st.text(max_size=50)))
def test_no_members_bring_out_anything_but_our_error(members: dict[str, str]) -> None:
    refuse(members)
    if members:
        refuse({**public(P256), **members})
