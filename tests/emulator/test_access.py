"""GetInstanceAccessDetails, judged by ssh-keygen, openssl and a real sshd."""

from __future__ import annotations

import asyncio
import base64
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_public_identity
from cryptography.hazmat.primitives.serialization.ssh import SSHCertificate

from broker.demo.sshd import Sshd
from broker.emulator import Emulator, Fixture
from tests.emulator.clients import Refusal, lightsail
from tests.emulator.conftest import PASSWORD, MovedClock

if TYPE_CHECKING:
    from types_aiobotocore_lightsail.literals import InstanceAccessProtocolType
    from types_aiobotocore_lightsail.type_defs import InstanceAccessDetailsTypeDef


async def details(emulator: Emulator, name: str, protocol: InstanceAccessProtocolType) -> InstanceAccessDetailsTypeDef:
    async with lightsail(emulator) as client:
        answer = await client.get_instance_access_details(instanceName=name, protocol=protocol)
    return answer["accessDetails"]


async def run(*words: str | Path, given: bytes = b"") -> str:
    """Run a program; answer what it prints."""
    done = await asyncio.to_thread(subprocess.run, words, input=given, capture_output=True, check=True)
    return str(done.stdout.decode())


async def test_an_ssh_answer_has_the_members_of_ssh(emulator: Emulator) -> None:
    answer = await details(emulator, "web-1", "ssh")
    assert not {"password", "passwordData", "ipv6Addresses"} & set(answer)
    assert answer["ipAddress"] == "203.0.113.7"
    assert answer["username"] == "ec2-user"
    assert (answer["instanceName"], answer["protocol"]) == ("web-1", "ssh")
    assert answer["privateKey"].startswith("-----BEGIN RSA PRIVATE KEY-----\n")
    assert answer["privateKey"].endswith("-----END RSA PRIVATE KEY-----\n")
    assert answer["certKey"].startswith("ssh-rsa-cert-v01@openssh.com ")
    assert len(answer["certKey"].split()) == 2


@pytest.mark.real("ssh-keygen")
async def test_ssh_keygen_reads_the_certificate_as_lightsail_s(emulator: Emulator, tmp_path: Path) -> None:
    answer = await details(emulator, "web-1", "ssh")
    file = tmp_path / "key-cert.pub"
    file.write_text(answer["certKey"])
    shown = await run("ssh-keygen", "-L", "-f", file)
    assert "Type: ssh-rsa-cert-v01@openssh.com user certificate" in shown
    assert "Serial: 0\n" in shown
    assert "Critical Options: (none)" in shown
    after = shown.partition("Principals:")[2].split()
    assert after[0] == "ec2-user"
    assert after[1] == "Critical"
    assert after[after.index("Extensions:") + 1 :] == [
        "permit-X11-forwarding",
        "permit-agent-forwarding",
        "permit-port-forwarding",
        "permit-pty",
        "permit-user-rc",
    ]
    assert "(using rsa-sha2-512)" in shown


async def test_the_certificate_is_for_the_key_and_for_780_seconds(emulator: Emulator, clock: MovedClock) -> None:
    answer = await details(emulator, "web-1", "ssh")
    certificate = load_ssh_public_identity(answer["certKey"].encode())
    assert isinstance(certificate, SSHCertificate)
    key = load_pem_private_key(answer["privateKey"].encode(), None)
    assert key.public_key() == certificate.public_key()
    certificate.verify_cert_signature()
    assert certificate.valid_before - certificate.valid_after == 780
    assert abs(certificate.valid_after - clock().timestamp()) < 10
    assert answer["expiresAt"].astimezone(UTC) == datetime.fromtimestamp(certificate.valid_before, UTC)
    number, _, rest = certificate.key_id.decode().partition(":")
    assert -(2**63) <= int(number) < 2**63
    assert len(base64.b64decode(rest, validate=True)) == 16


async def test_every_call_brings_a_new_key(emulator: Emulator) -> None:
    answers = [await details(emulator, "web-1", "ssh") for _ in range(3)]
    assert len({answer["privateKey"] for answer in answers}) == 3


async def test_keys_may_go_round_where_only_speed_matters(company: Mapping[str, Any], tmp_path: Path) -> None:
    async with Emulator(Fixture.of(company, tmp_path), key_pool=2, fresh_keys=False) as emulator:
        answers = [await details(emulator, "web-1", "ssh") for _ in range(5)]
    assert len({answer["privateKey"] for answer in answers}) == 2
    assert len({answer["certKey"] for answer in answers}) == 5


async def test_answers_may_be_given_again_where_only_speed_matters(
    company: Mapping[str, Any], clock: MovedClock, tmp_path: Path
) -> None:
    fixture = Fixture.of(company, tmp_path)
    async with Emulator(fixture, clock=clock, reuse_answers=timedelta(minutes=1)) as emulator:
        first = await details(emulator, "web-1", "ssh")
        again = await details(emulator, "web-1", "ssh")
        other = await details(emulator, "new", "ssh")
        clock.ahead = timedelta(minutes=2)
        later = await details(emulator, "web-1", "ssh")
    assert first["certKey"] == again["certKey"]
    assert len({answer["certKey"] for answer in (first, other, later)}) == 3


async def test_more_calls_at_once_than_keys_wait_for_theirs(emulator: Emulator) -> None:
    answers = await asyncio.gather(*(details(emulator, "web-1", "ssh") for _ in range(4)))
    assert len({answer["privateKey"] for answer in answers}) == 4


@pytest.mark.real("ssh-keygen")
async def test_host_keys_come_from_files_with_both_fingerprints(company: Mapping[str, Any], tmp_path: Path) -> None:
    for kind in ("ed25519", "ecdsa", "rsa"):
        await run("ssh-keygen", "-q", "-t", kind, "-N", "", "-f", tmp_path / f"host_{kind}")
    company["instances"][0]["host_keys"] = [f"host_{kind}.pub" for kind in ("ed25519", "ecdsa", "rsa")]
    async with Emulator(Fixture.of(company, tmp_path)) as emulator:
        answer = await details(emulator, "web-1", "ssh")
    algorithms = [key["algorithm"] for key in answer["hostKeys"]]
    assert algorithms == ["ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"]
    for kind, key in zip(("ed25519", "ecdsa", "rsa"), answer["hostKeys"], strict=True):
        file = tmp_path / f"host_{kind}.pub"
        assert file.read_text().split()[1] == key["publicKey"]
        assert key["fingerprintSHA256"] in await run("ssh-keygen", "-l", "-E", "sha256", "-f", file)
        assert key["fingerprintSHA1"] in await run("ssh-keygen", "-l", "-E", "sha1", "-f", file)
        assert key["witnessedAt"] <= datetime.now(UTC)
        assert "notValidBefore" not in key


async def test_a_new_instance_has_no_host_keys_yet(emulator: Emulator, clock: MovedClock) -> None:
    assert (await details(emulator, "new", "ssh"))["hostKeys"] == []
    clock.ahead = timedelta(minutes=11)
    assert len((await details(emulator, "new", "ssh"))["hostKeys"]) == 1


async def test_an_ipv6_only_instance_has_no_ip_address(emulator: Emulator) -> None:
    answer = await details(emulator, "edge", "ssh")
    assert "ipAddress" not in answer
    assert answer["ipv6Addresses"] == ["2001:db8::1"]


async def test_a_default_key_pair_gives_the_password_in_clear(emulator: Emulator) -> None:
    answer = await details(emulator, "win-2", "rdp")
    assert answer["password"] == PASSWORD
    assert answer["username"] == "Administrator"
    assert answer["passwordData"]["keyPairName"] == "LightsailDefaultKeyPair"
    assert not {"privateKey", "certKey", "expiresAt"} & set(answer)


@pytest.mark.real("openssl")
@pytest.mark.parametrize(("instance", "key"), [("win-1", "team-key.pem"), ("win-2", "default-eu.pem")])
async def test_openssl_opens_the_ciphertext_with_the_private_key(
    emulator: Emulator, keys: Path, instance: str, key: str
) -> None:
    answer = await details(emulator, instance, "rdp")
    sealed = base64.b64decode(answer["passwordData"]["ciphertext"], validate=True)
    assert len(sealed) == 256
    words = ("openssl", "pkeyutl", "-decrypt", "-inkey", keys / key, "-pkeyopt", "rsa_padding_mode:pkcs1")
    assert await run(*words, given=sealed) == PASSWORD


async def test_a_custom_key_pair_gives_only_the_ciphertext(emulator: Emulator) -> None:
    answer = await details(emulator, "win-1", "rdp")
    assert answer["password"] == ""
    assert answer["passwordData"]["keyPairName"] == "team-key"
    assert answer == await details(emulator, "win-1", "rdp")


async def test_a_new_windows_has_neither_password_nor_ciphertext(emulator: Emulator, clock: MovedClock) -> None:
    early = await details(emulator, "win-new", "rdp")
    clock.ahead = timedelta(minutes=10, seconds=30)
    ready = await details(emulator, "win-new", "rdp")
    assert (early["password"], early["passwordData"]["ciphertext"], early["hostKeys"]) == ("", "", [])
    assert ready["password"] == PASSWORD
    assert ready["passwordData"]["ciphertext"]


@pytest.mark.real("openssl")
async def test_an_rdp_certificate_comes_from_a_file_with_its_fingerprints(
    company: Mapping[str, Any], tmp_path: Path
) -> None:
    words = "req -x509 -newkey rsa:2048 -nodes -subj /CN=win-1 -days 30 -keyout rdp.key -out rdp.pem"
    await asyncio.to_thread(subprocess.run, ["openssl", *words.split()], cwd=tmp_path, check=True, capture_output=True)
    company["instances"][4]["rdp_certificate"] = "rdp.pem"
    async with Emulator(Fixture.of(company, tmp_path)) as emulator:
        (key,) = (await details(emulator, "win-1", "rdp"))["hostKeys"]
    assert key["algorithm"] == "x509-cert"
    for algorithm, told in (("sha1", key["fingerprintSHA1"]), ("sha256", key["fingerprintSHA256"])):
        shown = await run("openssl", "x509", "-in", tmp_path / "rdp.pem", "-noout", "-fingerprint", f"-{algorithm}")
        assert shown.rpartition("=")[2].strip().lower() == told
    assert key["notValidAfter"] - key["notValidBefore"] == timedelta(days=30)
    assert base64.b64decode(key["publicKey"], validate=True) == base64.b64decode(
        "".join((tmp_path / "rdp.pem").read_text().splitlines()[1:-1])
    )


@pytest.mark.parametrize(("instance", "protocol"), [("web-1", "rdp"), ("win-1", "ssh")])
async def test_a_protocol_of_the_other_platform_is_refused(
    emulator: Emulator, instance: str, protocol: InstanceAccessProtocolType
) -> None:
    with Refusal() as refusal:
        await details(emulator, instance, protocol)
    assert refusal.code == "InvalidInputException"


async def test_without_a_protocol_the_platform_s_is_meant(emulator: Emulator) -> None:
    async with lightsail(emulator) as client:
        linux = await client.get_instance_access_details(instanceName="web-1")
        windows = await client.get_instance_access_details(instanceName="win-1")
    assert (linux["accessDetails"]["protocol"], windows["accessDetails"]["protocol"]) == ("ssh", "rdp")


@pytest.mark.parametrize("state", ["pending", "shutting-down", "terminated", "stopping", "stopped"])
async def test_an_instance_that_does_not_run_is_not_opened(
    company: Mapping[str, Any], tmp_path: Path, state: str
) -> None:
    company["instances"][0]["state"] = state
    async with Emulator(Fixture.of(company, tmp_path)) as emulator:
        with Refusal() as refusal:
            await details(emulator, "web-1", "ssh")
    assert refusal.code == "OperationFailureException"


@pytest.mark.real("sshd")
@pytest.mark.real("ssh")
async def test_a_real_sshd_lets_the_certificate_in_and_no_other(
    company: Mapping[str, Any], clock: MovedClock, tmp_path: Path
) -> None:
    company["instances"][0]["host_keys"] = ["sshd/ssh_host_ed25519_key.pub"]
    company["instances"][3] |= {
        "host_keys": ["sshd/ssh_host_ed25519_key.pub"],
        "username": "somebody",
        "ready_after": "0s",
    }
    authority = Path(company["ssh_ca"])
    public = await run("ssh-keygen", "-y", "-f", authority)
    with Sshd(tmp_path / "sshd", trusted_ca=public, principals=["ec2-user"]) as sshd:
        async with Emulator(Fixture.of(company, tmp_path), clock=clock) as emulator:
            good = await details(emulator, "web-1", "ssh")
            misnamed = await details(emulator, "new", "ssh")
            clock.ahead = -timedelta(minutes=14)
            expired = await details(emulator, "web-1", "ssh")
            clock.ahead = timedelta(minutes=14)
            early = await details(emulator, "web-1", "ssh")
        host_key = good["hostKeys"][0]
        known = f"[127.0.0.1]:{sshd.port} {host_key['algorithm']} {host_key['publicKey']}"
        results = [
            await asyncio.to_thread(
                sshd.login, private_key=answer["privateKey"], certificate=answer["certKey"], known_hosts=known
            )
            for answer in (good, misnamed, expired, early)
        ]
        assert [result.returncode for result in results] == [0, 255, 255, 255], sshd.log()
        assert results[0].stdout.strip() == sshd.user
        assert sshd.logged("Accepted publickey for")
        assert sshd.logged("(serial 0) CA RSA SHA256:")
        assert sshd.logged("does not contain an authorized principal")
        assert sshd.logged("Certificate invalid: expired")
        assert sshd.logged("Certificate invalid: not yet valid")
