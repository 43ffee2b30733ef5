import base64
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from broker.errors import InvalidRequest
from broker.model import Secret
from broker.unsealing.keypairs import HeldKey, KeyPairId, examine
from tests.doubles.unsealing import NOW, TEAM_KEY, aws_fingerprint, ed25519_key, pem, rsa_key


def take(text: str, fingerprint: str | None = None) -> HeldKey:
    known = aws_fingerprint(rsa_key()) if fingerprint is None else fingerprint
    return examine(TEAM_KEY, Secret(text), known, NOW)


def refusal(text: str, fingerprint: str | None = None) -> str:
    with pytest.raises(InvalidRequest) as caught:
        take(text, fingerprint)
    assert caught.value.__cause__ is None
    return caught.value.detail


@pytest.mark.parametrize("form", [PrivateFormat.TraditionalOpenSSL, PrivateFormat.PKCS8, PrivateFormat.OpenSSH])
def test_every_usual_form_of_an_rsa_key_is_taken(form: PrivateFormat) -> None:
    kept = take(pem(rsa_key(), form))
    assert kept.private_key.private_numbers() == rsa_key().private_numbers()
    assert (kept.id, kept.bits, kept.added_at) == (TEAM_KEY, 2048, NOW)


@pytest.mark.parametrize("bits", [3072, 4096])
def test_larger_keys_are_taken(bits: int) -> None:
    key = rsa_key(0, bits)
    assert take(pem(key), aws_fingerprint(key)).bits == bits


def test_line_ends_and_spaces_around_do_not_matter() -> None:
    assert take("\n\n  " + pem(rsa_key()).replace("\n", "\r\n") + "\r\n \n").bits == 2048


def test_a_key_that_aws_does_not_mean_is_refused_with_both_fingerprints() -> None:
    other = aws_fingerprint(rsa_key(1))
    said = refusal(pem(rsa_key()), other)
    assert other in said
    assert aws_fingerprint(rsa_key()) in said
    assert str(TEAM_KEY) in said


def test_a_pair_without_a_fingerprint_is_not_bound_and_so_refused() -> None:
    assert "no fingerprint of a known form" in refusal(pem(rsa_key()), "")


def encrypted(form: PrivateFormat) -> str:
    return rsa_key().private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"open sesame")).decode()


@pytest.mark.parametrize("form", [PrivateFormat.TraditionalOpenSSL, PrivateFormat.PKCS8])
def test_an_encrypted_key_is_refused_and_the_way_out_is_named(form: PrivateFormat) -> None:
    said = refusal(encrypted(form))
    assert "encrypted" in said
    assert "ssh-keygen -p" in said


@pytest.mark.real("ssh-keygen")
def test_the_way_out_that_is_named_works(tmp_path: Path) -> None:
    key = tmp_path / "key"
    make = ["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "open sesame", "-f", str(key)]
    subprocess.run(make, check=True)
    assert "encrypted" in refusal(key.read_text())
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "open sesame", "-N", "", "-f", str(key)], check=True)
    shown = subprocess.run(["ssh-keygen", "-lf", str(key)], check=True, capture_output=True, text=True)
    assert take(key.read_text(), shown.stdout.split()[1]).bits == 2048


def test_keys_of_other_kinds_are_refused() -> None:
    elliptic = ec.generate_private_key(ec.SECP256R1())
    assert "Only an RSA key" in refusal(pem(elliptic, PrivateFormat.PKCS8))
    assert "Only an RSA key" in refusal(pem(ed25519_key(), PrivateFormat.OpenSSH))


def test_a_small_key_is_refused() -> None:
    assert "1024 bits" in refusal(pem(rsa_key(0, 1024)))


def test_a_small_exponent_is_refused() -> None:
    assert "exponent" in refusal(pem(rsa.generate_private_key(3, 2048)))


def test_two_keys_in_one_file_are_refused() -> None:
    assert "exactly one" in refusal(pem(rsa_key(0)) + pem(rsa_key(1)))


def test_a_key_beside_a_certificate_is_refused() -> None:
    beside = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    assert "exactly one" in refusal(pem(rsa_key()) + beside)
    assert "no private key" in refusal(beside)


@pytest.mark.parametrize("text", ["", "ssh-rsa AAAA", "-----BEGIN RSA PRIVATE KEY-----\n", "\x00" * 40, "é", "\ud800"])
def test_what_is_no_key_is_refused(text: str) -> None:
    assert refusal(text)


def test_a_huge_file_is_refused_before_it_is_read() -> None:
    assert "64 KiB" in refusal(pem(rsa_key()) + " " * 70_000)


def spoilt(**parts: int) -> str:
    """Write PKCS#1 by hand with some parts replaced, as no library would."""
    numbers = rsa_key().private_numbers()
    public = numbers.public_numbers
    values = {
        "version": 0,
        "n": public.n,
        "e": public.e,
        "d": numbers.d,
        "p": numbers.p,
        "q": numbers.q,
        "dp": numbers.dmp1,
        "dq": numbers.dmq1,
        "qi": numbers.iqmp,
    } | parts
    body = b"".join(der(0x02, value.to_bytes(value.bit_length() // 8 + 1)) for value in values.values())
    text = base64.encodebytes(der(0x30, body)).decode()
    return f"-----BEGIN RSA PRIVATE KEY-----\n{text}-----END RSA PRIVATE KEY-----\n"


def der(tag: int, body: bytes) -> bytes:
    length = len(body)
    if length < 128:
        return bytes([tag, length]) + body
    size = length.to_bytes((length.bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(size)]) + size + body


def test_the_hand_written_form_is_taken_when_nothing_is_spoilt() -> None:
    assert take(spoilt()).bits == 2048


@pytest.mark.parametrize("part", ["d", "p", "q", "dp", "dq", "qi"])
def test_a_key_whose_parts_do_not_agree_is_refused(part: str) -> None:
    numbers = rsa_key(1).private_numbers()
    foreign = {
        "d": numbers.d,
        "p": numbers.p,
        "q": numbers.q,
        "dp": numbers.dmp1,
        "dq": numbers.dmq1,
        "qi": numbers.iqmp,
    }
    assert "damaged" in refusal(spoilt(**{part: foreign[part]}))


def test_a_key_with_one_prime_twice_is_refused() -> None:
    prime = rsa_key().private_numbers().p
    assert "damaged" in refusal(spoilt(q=prime, n=prime * prime))


def test_no_refusal_holds_anything_of_the_key() -> None:
    numbers = rsa_key().private_numbers()
    texts = [pem(rsa_key()), encrypted(PrivateFormat.PKCS8), pem(rsa_key()) * 2, spoilt(dp=5)]
    for text in texts:
        said = refusal(text, aws_fingerprint(rsa_key(1)))
        lines = [line for line in text.splitlines() if len(line) > 20 and "-----" not in line]
        assert not any(line in said for line in lines)
        assert str(numbers.public_numbers.n) not in said


def test_the_printed_form_of_a_held_key_shows_no_key() -> None:
    assert "private_key" not in repr(take(pem(rsa_key())))


@pytest.mark.parametrize(
    "parts", [("main", "eu-west-1", "a"), ("", "eu-west-1", "ab"), ("main", "", "ab"), ("a/b", "r", "ab")]
)
def test_an_odd_name_is_refused(parts: tuple[str, str, str]) -> None:
    with pytest.raises(InvalidRequest):
        KeyPairId.of(*parts)


def test_a_usual_name_is_taken() -> None:
    assert str(KeyPairId.of("main", "eu-west-1", "team-key")) == "main/eu-west-1/team-key"


@pytest.mark.real("openssl")
def test_a_key_that_openssl_made_is_taken(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    subprocess.run(["openssl", "genrsa", "-traditional", "-out", str(key), "2048"], check=True, capture_output=True)
    public = ["openssl", "rsa", "-in", str(key), "-pubout", "-outform", "DER"]
    made = subprocess.run(public, check=True, capture_output=True)
    md5 = subprocess.run(["openssl", "md5", "-c", "-hex"], check=True, input=made.stdout, capture_output=True)
    assert take(key.read_text(), md5.stdout.decode().split("= ")[1]).bits == 2048
