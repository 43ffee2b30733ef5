import base64
import contextlib
import copy
import hashlib
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.errors import BrokerError, PasswordNotReady, UpstreamError
from broker.lightsail.responses import access_details
from broker.model import AccessDetails, InstanceRef, Protocol, SealedPassword, Secret, SshKeyPair

REF = InstanceRef("main", "eu-west-1", "web-1")
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIBOgIBAAJBAK\n-----END RSA PRIVATE KEY-----\n"
CERTIFICATE = "ssh-rsa-cert-v01@openssh.com AAAAHHNzaC1yc2EtY2VydC12MDFAb3BlbnNzaC5jb20="


def encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def host_key(algorithm: str = "ssh-ed25519", content: bytes = b"\x07" * 36) -> dict[str, Any]:
    blob = struct.pack(">I", len(algorithm)) + algorithm.encode() + content
    return {
        "algorithm": algorithm,
        "publicKey": encoded(blob),
        "fingerprintSHA1": "SHA1:" + encoded(hashlib.sha1(blob, usedforsecurity=False).digest()).rstrip("="),
        "fingerprintSHA256": "SHA256:" + encoded(hashlib.sha256(blob).digest()).rstrip("="),
    }


def rdp_certificate() -> dict[str, Any]:
    der = b"\x30\x82\x01\x20" + b"\x05" * 200
    return {
        "algorithm": "x509-cert",
        "publicKey": encoded(der),
        "fingerprintSHA256": hashlib.sha256(der).hexdigest(),
        "fingerprintSHA1": hashlib.sha1(der, usedforsecurity=False).digest().hex(":"),
    }


def ssh() -> dict[str, Any]:
    return {
        "instanceName": "web-1",
        "protocol": "ssh",
        "username": "ec2-user",
        "ipAddress": "203.0.113.7",
        "ipv6Addresses": ["2001:db8::17"],
        "privateKey": PEM,
        "certKey": CERTIFICATE,
        "expiresAt": datetime(2026, 1, 31, 11, 43, tzinfo=timezone(timedelta(hours=2))),
        "hostKeys": [host_key()],
    }


def rdp() -> dict[str, Any]:
    return {
        "instanceName": "web-1",
        "protocol": "rdp",
        "username": "Administrator",
        "ipAddress": "203.0.113.7",
        "password": "",
        "passwordData": {"ciphertext": encoded(b"\x01" * 256), "keyPairName": "team-key"},
        "hostKeys": [rdp_certificate()],
    }


def read(details: object, protocol: Protocol = Protocol.SSH) -> AccessDetails:
    return access_details({"accessDetails": details}, REF, protocol, attempts=2, request_id="a-1")


def test_a_sound_ssh_answer_is_read_as_it_is() -> None:
    details = read(ssh())
    assert details.instance == REF
    assert (details.host, details.ipv6_addresses) == ("203.0.113.7", ("2001:db8::17",))
    assert isinstance(details.material, SshKeyPair)
    assert details.material.private_key.reveal() == PEM
    assert details.material.certificate == CERTIFICATE
    assert details.material.expires_at == datetime(2026, 1, 31, 9, 43, tzinfo=UTC)
    assert details.material.expires_at.tzinfo is UTC
    assert details.host_keys[0].sha256 == hashlib.sha256(base64.b64decode(host_key()["publicKey"])).hexdigest()
    assert (details.upstream_request_id, details.attempts) == ("a-1", 2)


def test_what_an_answer_may_leave_out_is_left_out() -> None:
    details = read({key: value for key, value in ssh().items() if key not in {"expiresAt", "ipAddress", "hostKeys"}})
    assert isinstance(details.material, SshKeyPair)
    assert details.material.expires_at is None
    assert (details.ip_address, details.host, details.host_keys) == (None, "2001:db8::17", ())


@pytest.mark.parametrize("missing", ["instanceName", "protocol", "username", "privateKey", "certKey"])
def test_an_ssh_answer_without_a_member_it_needs_is_refused_by_its_name(missing: str) -> None:
    with pytest.raises(UpstreamError, match=missing):
        read({key: value for key, value in ssh().items() if key != missing})


@pytest.mark.parametrize("answer", [None, [], "text", {}, {"accessDetails": None}, {"accessDetails": []}])
def test_an_answer_that_is_no_structure_is_refused(answer: object) -> None:
    with pytest.raises(UpstreamError):
        access_details(answer, REF, Protocol.SSH)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("instanceName", "web-2"),
        ("instanceName", "WEB-1"),
        ("protocol", "rdp"),
        ("username", ""),
        ("username", "-oProxyCommand=x"),
        ("username", "root\n"),
        ("username", "\u0430dmin"),
        ("username", 7),
        ("ipAddress", "203.0.113"),
        ("ipAddress", "203.0.113.7 "),
        ("ipAddress", "0.0.0.0"),  # noqa: S104 - an address in an answer, nothing listens on it
        ("ipAddress", "224.0.0.1"),
        ("ipAddress", "2001:db8::17"),
        ("ipAddress", "host.example.com"),
        ("ipv6Addresses", ["fe80::1%eth0"]),
        ("ipv6Addresses", ["203.0.113.7"]),
        ("ipv6Addresses", ["::"]),
        ("ipv6Addresses", [None]),
        ("ipv6Addresses", ["2001:db8::17"] * 33),
        ("ipv6Addresses", "2001:db8::17"),
        ("privateKey", "not a key"),
        ("privateKey", PEM + "trailing"),
        ("privateKey", PEM.replace("MII", "M\x00I")),
        ("privateKey", "-----BEGIN RSA PRIVATE KEY-----\n" + "A" * 20_000 + "\n-----END RSA PRIVATE KEY-----\n"),
        ("certKey", "ssh-rsa AAAAHHNzaC1yc2E="),
        ("certKey", CERTIFICATE + "\nssh-rsa AAAA"),
        ("certKey", CERTIFICATE.removesuffix("=")),
        ("certKey", CERTIFICATE + "=="),
        ("expiresAt", "tomorrow"),
        ("expiresAt", datetime(2026, 1, 31, 9, 43)),  # noqa: DTZ001 - a naive one is what is refused
        ("hostKeys", [host_key()] * 33),
        ("hostKeys", {"0": host_key()}),
        ("hostKeys", [{}]),
        ("hostKeys", [host_key() | {"algorithm": "ssh-rsa"}]),
        ("hostKeys", [host_key() | {"algorithm": "ssh-ed25519 AAAA\n@cert-authority *"}]),
        ("hostKeys", [host_key() | {"publicKey": "AAAA BBBB"}]),
        ("hostKeys", [host_key() | {"publicKey": ""}]),
        ("hostKeys", [host_key() | {"fingerprintSHA256": host_key(content=b"\x08" * 36)["fingerprintSHA256"]}]),
        ("hostKeys", [host_key() | {"fingerprintSHA1": "SHA1:AAAA"}]),
        ("hostKeys", [host_key(), host_key() | {"fingerprintSHA1": "SHA1:AAAA"}]),
    ],
)
def test_an_answer_with_a_member_that_is_not_sound_is_refused(member: str, value: object) -> None:
    with pytest.raises(UpstreamError):
        read(ssh() | {member: value})


@pytest.mark.parametrize("name", ["privateKey", "certKey", "password"])
def test_a_refusal_does_not_quote_what_was_refused(name: str) -> None:
    details = (rdp() if name == "password" else ssh()) | {name: "planted\x00secret"}
    with pytest.raises(UpstreamError) as caught:
        read(details, Protocol(details["protocol"]))
    assert "planted" not in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize("algorithm", ["ssh-rsa", "ssh-ed25519", "ecdsa-sha2-nistp256", "sk-ssh-ed25519@openssh.com"])
def test_every_kind_of_ssh_host_key_is_taken(algorithm: str) -> None:
    assert read(ssh() | {"hostKeys": [host_key(algorithm)]}).host_keys[0].algorithm == algorithm


@pytest.mark.parametrize("kind", ["RSA PRIVATE KEY", "OPENSSH PRIVATE KEY", "PRIVATE KEY", "EC PRIVATE KEY"])
def test_every_kind_of_private_key_is_taken(kind: str) -> None:
    pem = PEM.replace("RSA PRIVATE KEY", kind).replace("\n", "\r\n")
    assert isinstance(read(ssh() | {"privateKey": pem}).material, SshKeyPair)


def test_an_ipv6_address_is_read_into_its_one_form() -> None:
    assert read(ssh() | {"ipv6Addresses": ["2001:0DB8:0::0017"]}).ipv6_addresses == ("2001:db8::17",)


def test_a_sealed_password_is_decoded_with_the_name_of_its_key_pair() -> None:
    details = read(rdp(), Protocol.RDP)
    assert details.material == SealedPassword(b"\x01" * 256, "team-key")
    assert details.host_keys[0].algorithm == "x509-cert"


def test_a_certificate_in_pem_is_the_same_certificate() -> None:
    plain = rdp_certificate()
    armoured = f"-----BEGIN CERTIFICATE-----\n{plain['publicKey']}\n-----END CERTIFICATE-----\n"
    assert (
        read(rdp() | {"hostKeys": [plain | {"publicKey": armoured}]}, Protocol.RDP).host_keys
        == read(rdp(), Protocol.RDP).host_keys
    )


def test_white_space_in_a_ciphertext_is_no_part_of_it() -> None:
    text = encoded(b"\x01" * 256)
    wrapped = "\r\n" + "\r\n".join(text[at : at + 64] for at in range(0, len(text), 64)) + "\n"
    details = rdp() | {"passwordData": {"ciphertext": wrapped, "keyPairName": "team-key"}}
    assert read(details, Protocol.RDP).material == SealedPassword(b"\x01" * 256, "team-key")


def test_a_password_in_clear_wins_over_its_ciphertext() -> None:
    material = read(rdp() | {"password": "An0ther-Admin-Pw"}, Protocol.RDP).material
    assert isinstance(material, Secret)
    assert material.reveal() == "An0ther-Admin-Pw"


@pytest.mark.parametrize(
    "change",
    [
        {"passwordData": {"ciphertext": "", "keyPairName": "team-key"}},
        {"passwordData": {"ciphertext": "\r\n", "keyPairName": "team-key"}},
        {"passwordData": {}},
        {"passwordData": None},
    ],
)
def test_no_password_and_no_ciphertext_is_a_password_that_is_not_ready(change: dict[str, Any]) -> None:
    with pytest.raises(PasswordNotReady) as caught:
        read(rdp() | change, Protocol.RDP)
    assert caught.value.retry_after == 30


@pytest.mark.parametrize(
    "change",
    [
        {"password": None, "passwordData": None},
        {"password": "with\nnewline"},
        {"password": "x" * 257},
        {"passwordData": {"ciphertext": "!!!!", "keyPairName": "team-key"}},
        {"passwordData": {"ciphertext": "AAAA-_==", "keyPairName": "team-key"}},
        {"passwordData": {"ciphertext": "AAA", "keyPairName": "team-key"}},
        {"passwordData": {"ciphertext": "A" * 9000, "keyPairName": "team-key"}},
        {"passwordData": {"ciphertext": encoded(b"1"), "keyPairName": "../team-key"}},
        {"passwordData": {"ciphertext": encoded(b"1")}},
        {"passwordData": []},
    ],
)
def test_a_password_that_is_not_sound_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UpstreamError):
        read(rdp() | change, Protocol.RDP)


SOUND: list[Callable[[], dict[str, Any]]] = [ssh, rdp]
JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.lists(st.text(), max_size=3)
)


@settings(max_examples=150, deadline=None)
@given(make=st.sampled_from(SOUND), data=st.data())
def test_whatever_stands_in_a_member_only_our_own_errors_come_out(
    make: Callable[[], dict[str, Any]], data: st.DataObject
) -> None:
    details = copy.deepcopy(make())
    protocol = Protocol(details["protocol"])
    details[data.draw(st.sampled_from(sorted(details)))] = data.draw(JUNK)
    with contextlib.suppress(BrokerError):
        assert read(details, protocol).instance == REF
