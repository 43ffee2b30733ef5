from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker import addresses
from broker.outbound.http import forbidden

NO_HOSTS = [
    "0.0.0.0",  # noqa: S104 - judged, not listened on
    "::",
    "169.254.169.254",
    "fe80::1",
    "224.0.0.1",
    "ff02::1",
    "255.255.255.255",
    "240.0.0.1",
    "fd00:ec2::254",
    "100.100.100.200",
    "192.0.0.192",
]
PRIVATE = ["127.0.0.1", "127.9.9.9", "::1", "10.0.0.8", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd12::1", "fec0::1"]
PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111"]


def disguises(address: str) -> list[str]:
    """Write an IPv4 address in every way in which an IPv6 one can stand for it."""
    plain = ip_address(address)
    if isinstance(plain, IPv6Address):
        return [address]
    return [
        address,
        f"::ffff:{address}",
        str(IPv6Address(0x2002 << 112 | int(plain) << 80)),
        str(IPv6Address((0x64_FF9B << 96) | int(plain))),
    ]


@pytest.mark.parametrize("text", [form for address in NO_HOSTS for form in disguises(address)])
def test_nobody_can_be_told_anything_at_metadata_link_local_multicast_and_nowhere(text: str) -> None:
    address = addresses.parse(text)
    assert address is not None
    assert addresses.is_no_host(address)
    assert forbidden(address, allow_private=False)
    assert forbidden(address, allow_private=True)


@pytest.mark.parametrize("text", [form for address in PRIVATE for form in disguises(address)])
def test_private_networks_and_this_machine_must_be_allowed(text: str) -> None:
    address = addresses.parse(text)
    assert address is not None
    assert forbidden(address, allow_private=False) == "a private address, which is not allowed"
    assert forbidden(address, allow_private=True) == ""


@pytest.mark.parametrize("text", [form for address in PUBLIC for form in disguises(address)])
def test_the_internet_is_allowed(text: str) -> None:
    address = addresses.parse(text)
    assert address is not None
    assert forbidden(address, allow_private=False) == ""


@given(st.ip_addresses(v=4))
def test_no_disguise_of_an_address_is_judged_otherwise(address: IPv4Address) -> None:
    plain, *others = disguises(str(address))
    for allow_private in (False, True):
        verdict = forbidden(ip_address(plain), allow_private=allow_private)
        assert {forbidden(ip_address(other), allow_private=allow_private) for other in others} == {verdict}


def test_a_zone_changes_nothing_and_what_is_no_address_is_none() -> None:
    assert addresses.parse("fe80::1%eth0") == ip_address("fe80::1")
    assert addresses.parse("example.com") is None
    assert addresses.parse("127.1") is None
