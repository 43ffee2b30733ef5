from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from broker.delivery.credentials import (
    LOGIN_ONLY,
    NOT_PINNED,
    RDP_FIRST_ONE,
    RDP_LIVES_ON,
    credential,
)
from broker.errors import InstanceNotRunning, UpstreamError
from broker.model import (
    AccessDetails,
    Credential,
    CredentialFacts,
    HostKey,
    Instance,
    Opened,
    Platform,
    RdpCredential,
    Secret,
    SshCredential,
    SshKeyPair,
)
from tests.doubles.unsealing import NOW, WEB, WIN, access, windows_certificate

END = NOW + timedelta(seconds=780)
SSH_SECRET = Opened(
    private_key=Secret("key"), certificate="certificate", expires_at=END, facts=CredentialFacts(certificate_serial=0)
)
RDP_SECRET = Opened(password=Secret("kV=3S?(tWn;uE8e*"), facts=CredentialFacts(key_pair="team-key"))


def linux(**tags: str) -> Instance:
    return instance(Platform.LINUX_UNIX, tags)


def windows(**tags: str) -> Instance:
    return instance(Platform.WINDOWS, tags)


def instance(platform: Platform, tags: Mapping[str, str]) -> Instance:
    ref = WIN if platform is Platform.WINDOWS else WEB
    named = {name.replace("_", "-"): value for name, value in tags.items()}
    return Instance(ref=ref, platform=platform, blueprint="b", bundle="c", state="running", tags=named)


def ssh(
    details: AccessDetails, to: Instance | None = None, *, lease: datetime = END, opened: Opened = SSH_SECRET
) -> Credential:
    return credential(to or linux(), details, opened, lease_expires_at=lease, now=NOW)


def rdp(details: AccessDetails, to: Instance | None = None, *, opened: Opened = RDP_SECRET) -> Credential:
    return credential(to or windows(), details, opened, lease_expires_at=NOW + timedelta(hours=1), now=NOW)


@pytest.fixture
def ssh_access(host_keys: tuple[HostKey, ...]) -> AccessDetails:
    return access(SshKeyPair(Secret("key"), "certificate", None), host_keys=host_keys)


@pytest.fixture
def rdp_access() -> AccessDetails:
    return access(Secret("password"), host_keys=(windows_certificate(),))


def test_an_ssh_credential_has_all_that_a_client_needs(ssh_access: AccessDetails) -> None:
    given = ssh(ssh_access)
    assert (given.host, given.port, given.username, given.protocol) == ("203.0.113.7", 22, "ec2-user", "ssh")
    assert isinstance(given.secret, SshCredential)
    assert given.secret.private_key is SSH_SECRET.private_key
    assert given.secret.expires_at == END
    assert [line.split()[0] for line in given.secret.known_hosts] == ["203.0.113.7"] * 3
    assert given.warnings == (LOGIN_ONLY,)


def test_an_rdp_credential_has_all_that_a_client_needs(rdp_access: AccessDetails) -> None:
    given = rdp(rdp_access)
    assert (given.host, given.port, given.username, given.protocol) == ("203.0.113.7", 3389, "Administrator", "rdp")
    assert isinstance(given.secret, RdpCredential)
    assert given.secret.password is RDP_SECRET.password
    assert given.secret.certificate_sha256 == (":".join(["ab"] * 32),)
    assert "full address:s:203.0.113.7\r\n" in given.secret.file
    assert given.warnings == (RDP_LIVES_ON, RDP_FIRST_ONE)


def test_ports_come_from_the_tags(ssh_access: AccessDetails, rdp_access: AccessDetails) -> None:
    given = ssh(ssh_access, linux(ssh_port="2222", rdp_port="1"))
    assert given.port == 2222
    assert isinstance(given.secret, SshCredential)
    assert given.secret.known_hosts[0].startswith("[203.0.113.7]:2222 ")
    elsewhere = rdp(rdp_access, windows(rdp_port="65535"))
    assert elsewhere.port == 65535
    assert isinstance(elsewhere.secret, RdpCredential)
    assert "server port:i:65535\r\n" in elsewhere.secret.file


@pytest.mark.parametrize("tag", ["0", "65536", "99999", "-1", "22 ", "+22", "022", "٢٢", "ssh", "2222222", "22\n"])
def test_a_tag_that_is_no_port_gives_the_default_and_a_warning(ssh_access: AccessDetails, tag: str) -> None:
    given = ssh(ssh_access, linux(ssh_port=tag))
    assert given.port == 22
    assert any("`ssh-port`" in warning for warning in given.warnings)


def test_an_empty_tag_is_no_tag(ssh_access: AccessDetails) -> None:
    given = ssh(ssh_access, linux(ssh_port=""))
    assert (given.port, given.warnings) == (22, (LOGIN_ONLY,))


def test_without_ipv4_the_first_ipv6_address_is_the_host(ssh_access: AccessDetails) -> None:
    given = ssh(replace(ssh_access, ip_address=None, ipv6_addresses=("2001:DB8:0:0::7", "2001:db8::8")))
    assert (given.host, given.ipv6_addresses) == ("2001:db8::7", ("2001:db8::7", "2001:db8::8"))
    assert isinstance(given.secret, SshCredential)
    assert given.secret.known_hosts[0].startswith("2001:db8::7 ")


def test_an_instance_without_an_address_cannot_be_reached(ssh_access: AccessDetails) -> None:
    with pytest.raises(InstanceNotRunning) as caught:
        ssh(replace(ssh_access, ip_address=None))
    assert "no public address, neither IPv4 nor IPv6" in caught.value.detail
    assert "static IP" in caught.value.next_step


@pytest.mark.parametrize(
    "address", ["", "example", "1.2.3", "fe80::1%eth0", "203.0.113.7 ", "203.0.113.7\nx", "٢.2.2.2"]
)
def test_an_address_that_is_none_is_refused(ssh_access: AccessDetails, address: str) -> None:
    with pytest.raises(UpstreamError):
        ssh(replace(ssh_access, ip_address=None, ipv6_addresses=(address,)))


def test_a_certificate_that_outlives_the_lease_is_said(ssh_access: AccessDetails) -> None:
    given = ssh(ssh_access, lease=NOW + timedelta(seconds=60))
    [said] = [warning for warning in given.warnings if "lease ends" in warning]
    assert "2026-03-04T05:19:07.000Z" in said
    assert "2026-03-04T05:07:07.000Z" in said


def test_what_the_vault_and_the_inventory_found_is_passed_on(ssh_access: AccessDetails) -> None:
    to = replace(linux(), warnings=("The blueprint is not known.",))
    given = ssh(ssh_access, to, opened=replace(SSH_SECRET, warnings=("SHA-1.",)))
    assert given.warnings == (LOGIN_ONLY, "SHA-1.", "The blueprint is not known.")


def test_without_host_keys_the_missing_pin_is_said(ssh_access: AccessDetails, rdp_access: AccessDetails) -> None:
    for given in (ssh(replace(ssh_access, host_keys=())), rdp(replace(rdp_access, host_keys=()))):
        assert NOT_PINNED in given.warnings
    assert NOT_PINNED in ssh(replace(ssh_access, host_keys=(windows_certificate(),))).warnings


def test_an_ssh_key_is_no_pin_for_rdp(rdp_access: AccessDetails, host_keys: tuple[HostKey, ...]) -> None:
    assert NOT_PINNED in rdp(replace(rdp_access, host_keys=host_keys)).warnings


def test_a_secret_of_the_other_protocol_is_refused(ssh_access: AccessDetails, rdp_access: AccessDetails) -> None:
    with pytest.raises(UpstreamError):
        ssh(ssh_access, opened=RDP_SECRET)
    with pytest.raises(UpstreamError):
        rdp(rdp_access, opened=SSH_SECRET)


def test_a_certificate_that_has_expired_meanwhile_is_not_handed_over(ssh_access: AccessDetails) -> None:
    with pytest.raises(UpstreamError):
        ssh(ssh_access, opened=replace(SSH_SECRET, expires_at=NOW))
