import base64
import hashlib
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from broker.unsealing import fingerprints
from tests.doubles.unsealing import pem, rsa_key


@pytest.mark.parametrize("form", list(fingerprints.of(rsa_key())))
def test_each_known_form_is_recognised(form: str) -> None:
    digest = fingerprints.of(rsa_key())[form]
    assert fingerprints.matching_form(rsa_key(), digest.hex(":")) == form


def test_the_spelling_does_not_matter() -> None:
    digest = fingerprints.of(rsa_key())["SHA-256 of the SSH public key"]
    text = base64.b64encode(digest).decode()
    spellings = [
        digest.hex(),
        digest.hex(":").upper(),
        f" {digest.hex(':')}\n",
        f"SHA256:{text}",
        f"SHA256:{text.rstrip('=')}",
        f"SHA256:{digest.hex()}",
        f"SHA-256:{digest.hex(':')}",
    ]
    assert {fingerprints.parse(spelling) for spelling in spellings} == {digest}


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "SHA256:",
        "not a fingerprint",
        "ab" * 15,
        "ab" * 33,
        "SHA256:" + "A" * 42,
        "zz" * 16,
        "é" * 32,
        "SHA256:" + "!" * 43,
        "SHA256:" + "x" * 41,
        "SHA256:" + "é" * 43,
    ],
)
def test_what_is_no_fingerprint_matches_nothing(text: str) -> None:
    assert fingerprints.parse(text) is None
    assert fingerprints.matching_form(rsa_key(), text) is None


def test_another_key_has_no_fingerprint_in_common() -> None:
    assert not set(fingerprints.of(rsa_key(0)).values()) & set(fingerprints.of(rsa_key(1)).values())


@pytest.mark.real("openssl")
def test_openssl_computes_the_same_as_aws_documents_for_ec2(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text(pem(rsa_key()))
    created = ["openssl", "pkcs8", "-in", str(key), "-outform", "DER", "-topk8", "-nocrypt"]
    imported = ["openssl", "rsa", "-in", str(key), "-pubout", "-outform", "DER"]
    sha1 = hashlib.sha1(subprocess.run(created, check=True, capture_output=True).stdout, usedforsecurity=False)
    md5 = hashlib.md5(subprocess.run(imported, check=True, capture_output=True).stdout, usedforsecurity=False)
    known = fingerprints.of(rsa_key())
    assert known["SHA-1 of PKCS#8"] == sha1.digest()
    assert known["MD5 of the public key"] == md5.digest()


@pytest.mark.real("ssh-keygen")
@pytest.mark.parametrize(
    ("kind", "form"), [("md5", "MD5 of the SSH public key"), ("sha256", "SHA-256 of the SSH public key")]
)
def test_ssh_keygen_computes_the_same(tmp_path: Path, kind: str, form: str) -> None:
    public = tmp_path / "key.pub"
    public.write_bytes(rsa_key().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b" me\n")
    answer = subprocess.run(["ssh-keygen", "-lE", kind, "-f", str(public)], check=True, capture_output=True, text=True)
    assert fingerprints.matching_form(rsa_key(), answer.stdout.split()[1]) == form
