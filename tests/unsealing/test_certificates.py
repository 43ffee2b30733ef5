import base64
import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    SSHCertificateType,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.errors import UpstreamError
from broker.model import Opened, Secret, SshKeyPair
from broker.unsealing.certificates import SHA1_WARNING, inspect
from tests.doubles.unsealing import NOW, CertificateMaker, ed25519_key, pem, rsa_key

MAKER = CertificateMaker()
SECOND = timedelta(seconds=1)


def look(pair: SshKeyPair, username: str = "ec2-user") -> Opened:
    return inspect(pair, username, NOW)


def fault(pair: SshKeyPair, username: str = "ec2-user") -> str:
    with pytest.raises(UpstreamError) as caught:
        look(pair, username)
    assert caught.value.__cause__ is None
    return caught.value.cause


def test_a_good_answer_is_handed_on_with_its_own_window() -> None:
    pair = MAKER.pair()
    opened = look(replace(pair, expires_at=NOW + timedelta(hours=9)))
    assert opened.certificate == pair.certificate
    assert opened.private_key is not None
    assert opened.private_key.reveal() == pair.private_key.reveal()
    assert opened.expires_at == NOW + timedelta(seconds=780)
    assert opened.warnings == ()


def test_the_facts_name_the_certificate_and_no_secret() -> None:
    facts = look(MAKER.but(serial=2**64 - 1).pair()).facts
    assert facts.certificate_serial == 2**64 - 1
    assert facts.key_id == "-42:MDEyMzQ1Njc4OTAxMjM0NQ=="
    assert facts.key_pair == ""


@pytest.mark.real("ssh-keygen")
def test_the_facts_are_what_ssh_keygen_reads(tmp_path: Path) -> None:
    pair = MAKER.but(serial=7).pair()
    path = tmp_path / "key-cert.pub"
    path.write_text(pair.certificate + "\n")
    shown = subprocess.run(["ssh-keygen", "-Lf", str(path)], check=True, capture_output=True, text=True).stdout
    facts = look(pair).facts
    assert f"Serial: {facts.certificate_serial}" in shown
    assert f'Key ID: "{facts.key_id}"' in shown
    assert f"SHA256:{facts.public_key_sha256.rstrip('=')}" in shown


@pytest.mark.parametrize(
    ("key", "form"),
    [
        (rsa_key(), PrivateFormat.TraditionalOpenSSL),
        (rsa_key(), PrivateFormat.PKCS8),
        (rsa_key(), PrivateFormat.OpenSSH),
        (ed25519_key(), PrivateFormat.PKCS8),
        (ed25519_key(), PrivateFormat.OpenSSH),
        (ec.generate_private_key(ec.SECP256R1()), PrivateFormat.TraditionalOpenSSL),
    ],
)
@pytest.mark.parametrize("authority", [rsa_key(1), ed25519_key(), ec.generate_private_key(ec.SECP384R1())])
def test_every_kind_of_key_and_authority_is_taken(key: object, form: PrivateFormat, authority: object) -> None:
    maker = MAKER.but(key=key, authority=authority)
    pair = maker.but(private_key=pem(maker.key, form)).pair()
    assert look(pair).certificate == pair.certificate


def test_the_private_key_gets_the_line_ends_that_openssh_wants() -> None:
    text = pem(rsa_key())
    pair = MAKER.but(private_key="\r\n" + text.rstrip().replace("\n", "\r\n")).pair()
    opened = look(pair)
    assert opened.private_key is not None
    assert opened.private_key.reveal() == text


def test_space_around_the_certificate_is_taken_off() -> None:
    pair = MAKER.pair()
    assert look(replace(pair, certificate=pair.certificate + "\r\n")).certificate == pair.certificate


def test_a_host_certificate_is_refused() -> None:
    assert "user certificate" in fault(MAKER.but(kind=SSHCertificateType.HOST).pair())


def test_a_plain_public_key_is_refused() -> None:
    line = rsa_key().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    assert "no line" in fault(replace(MAKER.pair(), certificate=line))


@pytest.mark.parametrize(
    "principals", [[], ["root"], ["ec2-user", "root"], ["EC2-USER"], ["ec2-user "], ["ec2-user\n"]]
)
def test_any_other_principals_than_the_one_user_are_refused(principals: list[str]) -> None:
    assert "user name" in fault(MAKER.but(principals=principals).pair())


def test_a_user_name_that_differs_from_the_certificate_is_refused() -> None:
    assert "user name" in fault(MAKER.pair(), username="root")


@pytest.mark.parametrize(
    ("start", "lifetime", "said"),
    [
        (-780 * SECOND, 780 * SECOND, "expired"),
        (-800 * SECOND, 780 * SECOND, "expired"),
        (301 * SECOND, 780 * SECOND, "not valid yet"),
        (0 * SECOND, timedelta(days=1, seconds=1), "too long"),
        (0 * SECOND, timedelta(days=365_000), "too long"),
        (0 * SECOND, 0 * SECOND, "window is empty"),
    ],
)
def test_a_window_that_is_not_now_or_not_sane_is_refused(start: timedelta, lifetime: timedelta, said: str) -> None:
    assert said in fault(MAKER.but(valid_from=NOW + start, lifetime=lifetime).pair())


@pytest.mark.parametrize("start", [-779 * SECOND, 0 * SECOND, 300 * SECOND])
def test_a_window_that_holds_now_is_taken_with_a_leeway_for_aws_s_clock(start: timedelta) -> None:
    assert look(MAKER.but(valid_from=NOW + start).pair()).expires_at == NOW + start + 780 * SECOND


@pytest.mark.real("ssh-keygen")
def test_a_certificate_for_ever_is_refused(tmp_path: Path) -> None:
    assert "too long" in fault(by_ssh_keygen(tmp_path, "-V", "always:forever"))


def test_a_private_key_of_another_certificate_is_refused() -> None:
    assert "another key" in fault(MAKER.but(private_key=pem(rsa_key(1))).pair())
    assert "another key" in fault(MAKER.but(private_key=pem(ed25519_key(), PrivateFormat.PKCS8)).pair())


def test_an_encrypted_private_key_is_refused() -> None:
    locked = rsa_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open sesame"))
    assert "private key" in fault(MAKER.but(private_key=locked.decode()).pair())


@pytest.mark.parametrize("text", ["", "garbage", pem(rsa_key()) * 2, pem(rsa_key()) + "x", "x" * 20_000, "é\udc80"])
def test_what_is_no_private_key_is_refused(text: str) -> None:
    assert "PEM block" in fault(replace(MAKER.pair(), private_key=Secret(text)))


def test_a_line_that_would_hold_a_second_one_is_refused() -> None:
    pair = MAKER.pair()
    assert "no line" in fault(replace(pair, certificate=pair.certificate + "\nssh-rsa AAAA"))
    assert "no line" in fault(replace(pair, certificate=f'command="x" {pair.certificate}'))


def test_a_key_id_that_could_forge_a_log_line_is_refused() -> None:
    assert "printable" in fault(MAKER.but(key_id=b"x\naccepted").pair())


def test_any_changed_byte_breaks_the_authority_s_signature() -> None:
    pair = MAKER.pair()
    kind, text = pair.certificate.split()
    blob = base64.b64decode(text)
    for at in range(0, len(blob), 7):
        changed = blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :]
        assert fault(replace(pair, certificate=f"{kind} {base64.b64encode(changed).decode()}"))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 600), st.integers(0, 300))
def test_no_bytes_bring_out_anything_but_our_error(noise: bytes, at: int, cut: int) -> None:
    kind, text = MAKER.pair().certificate.split()
    blob = base64.b64decode(text)
    spoilt = blob[:at] + noise + blob[at + cut :]
    if spoilt != blob:
        assert fault(replace(MAKER.pair(), certificate=f"{kind} {base64.b64encode(spoilt).decode()}"))


def test_critical_options_are_pointed_out() -> None:
    opened = look(MAKER.but(critical_options={b"source-address": b"192.0.2.1"}).pair())
    assert opened.warnings == ("The certificate is limited by: source-address.",)


def by_ssh_keygen(folder: Path, *options: str) -> SshKeyPair:
    """Let OpenSSH make a certificate with an RSA authority."""
    authority, public = folder / "ca", folder / "key.pub"
    authority.write_text(pem(rsa_key(1)))
    authority.chmod(0o600)
    public.write_bytes(rsa_key().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
    command = ["ssh-keygen", "-q", "-s", str(authority), "-I", "id", "-n", "ec2-user", *options, str(public)]
    subprocess.run(command, check=True, capture_output=True)
    return SshKeyPair(Secret(pem(rsa_key())), (folder / "key-cert.pub").read_text(), None)


@pytest.mark.real("ssh-keygen")
@pytest.mark.parametrize(
    ("algorithm", "warnings"), [("ssh-rsa", (SHA1_WARNING,)), ("rsa-sha2-256", ()), ("rsa-sha2-512", ())]
)
def test_a_signature_by_sha_1_is_pointed_out_and_no_other(
    tmp_path: Path, algorithm: str, warnings: tuple[str, ...]
) -> None:
    window = f"{NOW - SECOND:%Y%m%d%H%M%S}Z:{NOW + 780 * SECOND:%Y%m%d%H%M%S}Z"
    pair = by_ssh_keygen(tmp_path, "-t", algorithm, "-V", window)
    assert look(pair).warnings == warnings
