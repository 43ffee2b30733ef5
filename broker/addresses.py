"""Which network addresses nobody outside may lead the service to. Standard library only.

Whoever names a host for the service to connect to, or answers for its name in the DNS, must not reach the machine's
own neighbours that way (server-side request forgery).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address

# Metadata services that are not link-local: AWS over IPv6, Alibaba, Oracle. Every process on a host may ask them.
_METADATA: Final = frozenset(map(ip_address, ("fd00:ec2::254", "100.100.100.200", "192.0.0.192")))
_NAT64: Final = ip_network("64:ff9b::/96")
"""Well-known prefix behind which a translator finds the IPv4 address in the last 32 bits (RFC 6052)."""
_SITE_LOCAL: Final = ip_network("fec0::/10")
"""Private in the sense of RFC 3513, which is given up, but some systems still route it."""


def parse(text: str) -> Address | None:
    """Read an address, with or without a zone; None when it is none."""
    try:
        return ip_address(text.partition("%")[0])
    except ValueError:
        return None


def plain(address: Address) -> Address:
    """Answer the IPv4 address that an IPv6 one stands for (mapped, 6to4, NAT64), else the address itself."""
    if isinstance(address, IPv4Address):
        return address
    inside = address.ipv4_mapped or address.sixtofour
    return inside or (IPv4Address(int(address) & 0xFFFF_FFFF) if address in _NAT64 else address)


def is_loopback(address: Address) -> bool:
    """Tell whether it is this machine itself."""
    return plain(address).is_loopback


def is_no_host(address: Address) -> bool:
    """Tell whether no service of a company or of the internet lives there: metadata, link-local, multicast, nowhere."""
    found = plain(address)
    return (
        found.is_unspecified
        or found.is_multicast
        or found.is_link_local
        or found in _METADATA
        or (isinstance(found, IPv4Address) and found.is_reserved)  # with the broadcast address
    )


def is_public(address: Address) -> bool:
    """Tell whether it is of the internet, neither this machine's nor of a private network."""
    found = plain(address)
    return found.is_global and not is_no_host(address) and found not in _SITE_LOCAL
