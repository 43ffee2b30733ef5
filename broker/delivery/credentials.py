"""The door of this room: put together what is handed over, with warnings that tell what the platform really does."""

from __future__ import annotations

import ipaddress
import re
from datetime import datetime
from functools import lru_cache
from typing import Final

from broker.delivery.known_hosts import known_hosts_lines
from broker.delivery.rdp_file import rdp_file
from broker.errors import InstanceNotRunning, UpstreamError
from broker.model import (
    AccessDetails,
    Credential,
    HostKey,
    Instance,
    Opened,
    Protocol,
    RdpCredential,
    SshCredential,
    rfc3339,
)

PORT_TAGS: Final = {Protocol.SSH: "ssh-port", Protocol.RDP: "rdp-port"}
DEFAULT_PORTS: Final = {Protocol.SSH: 22, Protocol.RDP: 3389}
CERTIFICATE_ALGORITHM: Final = "x509-cert"
_LAST_PORT: Final = 65535
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)

LOGIN_ONLY: Final = (
    "The certificate is checked at login only: a session that is open then goes on after it has expired."
)
RDP_LIVES_ON: Final = (
    "The password does not expire and cannot be taken back here: it stays valid until somebody changes it in Windows."
)
RDP_FIRST_ONE: Final = (
    "Lightsail knows only the first password of the instance: if it was changed in Windows since, this one is refused."
)
NOT_PINNED: Final = "AWS has not reported the host keys of the instance yet, so its identity cannot be pinned."


def credential(
    instance: Instance, details: AccessDetails, opened: Opened, *, lease_expires_at: datetime, now: datetime
) -> Credential:
    """Put a credential together.

    Args:
        instance: The one that was decided on; its tags `ssh-port` and `rdp-port` say where it listens.
        details: What AWS answered: addresses, host keys, user name.
        opened: The secrets in clear.
        lease_expires_at: Until when access was granted.
        now: The time of the issue.

    Raises:
        InstanceNotRunning: The instance has no address at which it could be reached.
        UpstreamError: An address, user name or host key of the answer is none.
    """
    if details.host is None:
        raise InstanceNotRunning(
            "no address",
            detail="The instance has no public address, neither IPv4 nor IPv6, so it cannot be reached.",
            next_step="Attach a static IP address to it in Lightsail, or turn on IPv6, and ask again in a minute.",
        )
    host = _address(details.host)
    port, port_warnings = _port(instance, details.protocol)
    secret: SshCredential | RdpCredential
    if details.protocol is Protocol.SSH:
        secret, truths = _ssh(details, opened, host, port, lease_expires_at, now)
    else:
        secret, truths = _rdp(details, opened, host, port)
    return Credential(
        instance=instance,
        protocol=details.protocol,
        host=host,
        ipv6_addresses=tuple(_address(address) for address in details.ipv6_addresses),
        port=port,
        username=details.username,
        secret=secret,
        warnings=(*truths, *opened.warnings, *port_warnings, *instance.warnings),
    )


def _ssh(
    details: AccessDetails, opened: Opened, host: str, port: int, lease_expires_at: datetime, now: datetime
) -> tuple[SshCredential, tuple[str, ...]]:
    if opened.private_key is None or opened.expires_at is None or opened.expires_at <= now:
        raise UpstreamError("no key and certificate that are valid now")
    lines = known_hosts_lines(host, port, details.host_keys)
    secret = SshCredential(
        private_key=opened.private_key,
        certificate=opened.certificate,
        known_hosts=lines,
        expires_at=opened.expires_at,
    )
    outlives = opened.expires_at > lease_expires_at
    return secret, (
        LOGIN_ONLY,
        *((_outlives(opened.expires_at, lease_expires_at),) if outlives else ()),
        *(() if lines else (NOT_PINNED,)),
    )


def _rdp(details: AccessDetails, opened: Opened, host: str, port: int) -> tuple[RdpCredential, tuple[str, ...]]:
    if opened.password is None:
        raise UpstreamError("no password")
    pins = tuple(_colon_hex(key) for key in details.host_keys if key.algorithm == CERTIFICATE_ALGORITHM)
    secret = RdpCredential(
        password=opened.password, certificate_sha256=pins, file=rdp_file(host, port, details.username)
    )
    return secret, (RDP_LIVES_ON, RDP_FIRST_ONE, *(() if pins else (NOT_PINNED,)))


def _outlives(certificate: datetime, lease: datetime) -> str:
    return (
        f"The certificate opens the instance until {rfc3339(certificate)}, though the lease ends at {rfc3339(lease)}: "
        "AWS sets its lifetime, and it cannot be taken back."
    )


def _port(instance: Instance, protocol: Protocol) -> tuple[int, tuple[str, ...]]:
    """Read the port from the instance's tag, since Lightsail has no such attribute."""
    tag, default = PORT_TAGS[protocol], DEFAULT_PORTS[protocol]
    text = instance.tags.get(tag, "")
    if not text:
        return default, ()
    if _PORT.fullmatch(text) and int(text) <= _LAST_PORT:
        return int(text), ()
    return default, (f"The tag `{tag}` of the instance is no port number, so {default} is assumed.",)


@lru_cache(maxsize=4096)
def _address(text: str) -> str:
    """Spell an address as OpenSSH does when it looks a host up: the shortest form, lower case."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        address = None
    if address is None or "%" in text:
        raise UpstreamError("an odd address", detail="AWS answered with an address that is none.")
    return str(address)


def _colon_hex(key: HostKey) -> str:
    """Spell a fingerprint as AWS does and as every FreeRDP takes it: lower-case hex with colons."""
    return bytes.fromhex(key.sha256).hex(":")
