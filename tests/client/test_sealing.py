"""Sealed delivery: what another implementation sealed opens, and nothing else does."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwe
from joserfc.jwk import ECKey, OKPKey

from broker.client.errors import Untrusted
from broker.client.sealing import SealingKey
from broker.delivery.sealing import recipient, seal

SECRET = {"password": "caf\u00e9 \U0001f512 - never in clear", "certificate_sha256": ["ab"], "expires_at": None}


@pytest.fixture(scope="module")
def key() -> SealingKey:
    return SealingKey()


def test_what_the_service_seals_opens(key: SealingKey) -> None:
    assert key.open(seal(SECRET, recipient(key.jwk))) == SECRET


@pytest.mark.parametrize("agreement", [{}, {"apu": "QWxpY2U", "apv": "Qm9i"}])
def test_what_another_library_seals_opens(key: SealingKey, agreement: dict[str, str]) -> None:
    header = {"alg": "ECDH-ES", "enc": "A256GCM", **agreement}
    assert key.open(encrypted(key, header)) == SECRET


def test_every_key_is_new() -> None:
    assert SealingKey().jwk != SealingKey().jwk


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "ECDH-ES", "enc": "A128GCM"},
        {"alg": "ECDH-ES", "enc": "A128CBC-HS256"},
        {"alg": "ECDH-ES+A256KW", "enc": "A256GCM"},
        {"alg": "ECDH-ES", "enc": "A256GCM", "zip": "DEF"},
    ],
)
def test_another_kind_of_sealing_is_refused(key: SealingKey, header: dict[str, str]) -> None:
    with pytest.raises(Untrusted, match="cannot be opened"):
        key.open(encrypted(key, header))


def test_what_was_sealed_to_another_key_is_refused(key: SealingKey) -> None:
    with pytest.raises(Untrusted, match="another key"):
        key.open(seal(SECRET, recipient(SealingKey().jwk)))


def test_what_was_sealed_on_another_curve_is_refused(key: SealingKey) -> None:
    other = ECKey.generate_key("P-256", private=False)
    sealed = jwe.encrypt_compact({"alg": "ECDH-ES", "enc": "A256GCM"}, b"{}", other)
    with pytest.raises(Untrusted):
        key.open(sealed)


@pytest.mark.parametrize(
    "sealed", [None, 7, "", ".", "....", "a.b.c.d.e", "a.b.c.d.e.f", "e30....", "\u00e9....", ["x"]]
)
def test_what_is_no_sealed_text_is_refused(key: SealingKey, sealed: object) -> None:
    with pytest.raises(Untrusted):
        key.open(sealed)


@pytest.mark.parametrize("plaintext", [b"[]", b"7", b"not json", b"\xff", b"[" * 100_000])
def test_what_is_no_object_inside_is_refused(key: SealingKey, plaintext: bytes) -> None:
    sealed = jwe.encrypt_compact({"alg": "ECDH-ES", "enc": "A256GCM"}, plaintext, OKPKey.import_key(dict(key.jwk)))
    with pytest.raises(Untrusted):
        key.open(sealed)


def test_a_sender_of_low_order_is_refused(key: SealingKey) -> None:
    header = {"alg": "ECDH-ES", "enc": "A256GCM", "epk": {"kty": "OKP", "crv": "X25519", "x": "A" * 43}}
    protected = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    with pytest.raises(Untrusted):
        key.open(f"{protected}..{'A' * 16}.AAAA.{'A' * 22}")


@given(data=st.data())
def test_one_changed_character_is_noticed(key: SealingKey, data: st.DataObject) -> None:
    sealed = seal(SECRET, recipient(key.jwk))
    # What is sealed is another text each time, so what is drawn must not depend on it.
    places = [index for index, character in enumerate(sealed) if character != "."]
    place = places[data.draw(st.integers(0, 2000)) % len(places)]
    drawn = data.draw(st.sampled_from("ABCDwxyz0189-_"))
    changed = drawn if drawn != sealed[place] else "a"
    mutant = sealed[:place] + changed + sealed[place + 1 :]
    try:
        assert key.open(mutant) == SECRET  # the last character of a part may hold bits that mean nothing
        assert [_raw(part) for part in mutant.split(".")] == [_raw(part) for part in sealed.split(".")]
    except Untrusted:
        pass


def _raw(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def encrypted(key: SealingKey, header: dict[str, Any]) -> str:
    algorithms = ["ECDH-ES", "ECDH-ES+A256KW", "A256GCM", "A128GCM", "A128CBC-HS256", "DEF"]
    public = OKPKey.import_key(dict(key.jwk))
    return jwe.encrypt_compact(header, json.dumps(SECRET).encode(), public, algorithms=algorithms)
