import re
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import KeysUnavailable, PasswordUndecryptable
from broker.model import SealedPassword
from broker.unsealing.passwords import check_openssl, is_password, open_password
from tests.doubles.unsealing import TEAM_KEY, held, rsa_key, sealed

PASSWORD = b"kV=3S?(tWn;uE8e*cQ$r7Bd)YHpXg2Lm"
WRONG_KEY_CIPHERTEXTS = 2_000


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_the_bound_key_opens_the_password(bits: int) -> None:
    assert open_password(sealed(PASSWORD, bits=bits), held(bits=bits)).reveal() == PASSWORD.decode()


@pytest.mark.real("openssl")
def test_a_password_that_openssl_encrypted_is_opened(tmp_path: Path) -> None:
    public = tmp_path / "public.pem"
    public.write_bytes(rsa_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    command = ["openssl", "pkeyutl", "-encrypt", "-pubin", "-inkey", str(public), "-pkeyopt", "rsa_padding_mode:pkcs1"]
    made = subprocess.run(command, check=True, input=PASSWORD, capture_output=True)
    assert open_password(SealedPassword(made.stdout, TEAM_KEY.name), held()).reveal() == PASSWORD.decode()


def test_a_wrong_key_never_gives_a_password() -> None:
    """The library answers garbage for nearly all of them, so this must be recognised."""
    public, wrong = rsa_key(0).public_key(), held(1)
    garbage = 0
    for _ in range(WRONG_KEY_CIPHERTEXTS):
        ciphertext = public.encrypt(PASSWORD, padding.PKCS1v15())
        with pytest.raises(PasswordUndecryptable) as caught:
            open_password(SealedPassword(ciphertext, TEAM_KEY.name), wrong)
        garbage += caught.value.cause == "what came out is no password"
    assert garbage > WRONG_KEY_CIPHERTEXTS / 4


def test_a_ciphertext_for_another_key_pair_is_not_tried() -> None:
    with pytest.raises(PasswordUndecryptable, match="another key pair"):
        open_password(sealed(PASSWORD, key_pair="other-key"), held())


def number(value: int, length: int = 256) -> SealedPassword:
    return SealedPassword(value.to_bytes(length), TEAM_KEY.name)


MODULUS = rsa_key().public_key().public_numbers().n


@pytest.mark.parametrize(
    "ciphertext",
    [
        number(0),
        number(1),
        number(MODULUS - 1),
        number(MODULUS),
        number(MODULUS + 1),
        number(1, 255),
        number(1, 257),
        number(0, 0),
        number(1, 512),
    ],
    ids=["0", "1", "n-1", "n", "n+1", "k-1 bytes", "k+1 bytes", "empty", "2k bytes"],
)
def test_odd_ciphertexts_give_no_password_and_one_and_the_same_error(ciphertext: SealedPassword) -> None:
    with pytest.raises(PasswordUndecryptable) as caught:
        open_password(ciphertext, held())
    assert (caught.value.code, caught.value.detail) == ("password_undecryptable", PasswordUndecryptable.sentence)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "plaintext",
    [
        b"",
        b"x",
        b"1234567",
        b"x" * 128,
        b"x" * 245,
        b"tab\tinside-it",
        b"line\ninside-it",
        b"\x7fdelete-inside",
        b" leading-space",
        b"trailing-space ",
        b"trailing-newline\n",
        b"\xef\xbb\xbfbyte-order-mark",
        b"nul\x00inside-it",
        "pässwörter-mit-umlaut".encode(),
        b"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8",
    ],
)
def test_what_is_no_password_is_not_released(plaintext: bytes) -> None:
    with pytest.raises(PasswordUndecryptable, match="no password"):
        open_password(sealed(plaintext), held())


@pytest.mark.parametrize(
    "plaintext", [b"12345678", b"x" * 127, b"with inner space", b"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"]
)
def test_what_can_be_a_password_is_released_as_it_is(plaintext: bytes) -> None:
    assert open_password(sealed(plaintext), held()).reveal().encode() == plaintext


@given(st.binary(max_size=160))
def test_only_printable_ascii_of_8_to_127_passes(plaintext: bytes) -> None:
    printable = all(0x20 <= byte <= 0x7E for byte in plaintext) and plaintext == plaintext.strip(b" ")
    assert is_password(plaintext) == (printable and 8 <= len(plaintext) <= 127)


def test_no_error_holds_the_plaintext() -> None:
    with pytest.raises(PasswordUndecryptable) as caught:
        open_password(sealed(b"hunter2"), held())
    assert not re.search("hunter2", repr(caught.value) + caught.value.detail)


def test_the_library_in_use_is_new_enough() -> None:
    check_openssl()


@pytest.mark.parametrize("version", ["OpenSSL 3.2.0 23 Nov 2023", "OpenSSL 3.10.1", "OpenSSL 4.0.3 29 Sep 2026"])
def test_a_library_with_implicit_rejection_is_taken(version: str) -> None:
    check_openssl(version)


@pytest.mark.parametrize(
    "version", ["OpenSSL 3.1.9 x", "OpenSSL 1.1.1w  11 Sep 2023", "LibreSSL 3.8.2", "BoringSSL", ""]
)
def test_a_library_without_implicit_rejection_is_refused(version: str) -> None:
    with pytest.raises(KeysUnavailable, match=r"3\.2"):
        check_openssl(version)
