"""AWS's answer to GetInstanceAccessDetails → `AccessDetails`, read as if an enemy had sent it (pure).

Shapes: API version 2016-11-28, structure InstanceAccessDetails. Private keys and passwords become `Secret` at once.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

from broker.errors import PasswordNotReady, UpstreamError
from broker.lightsail.host_keys import MAX_HOST_KEYS, host_key
from broker.lightsail.members import ANY_PRINTABLE, Members, strict_base64
from broker.model import AccessDetails, InstanceRef, Protocol, SealedPassword, Secret, SshKeyPair, is_resource_name

PASSWORD_RETRY_SECONDS = 30
"""A password takes up to 15 minutes; asking twice a minute is soon enough."""

_USERNAME = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,63}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----\r?\n[A-Za-z0-9+/=\r\n:, -]+-----END \1-----\s*")
_CERTIFICATE = re.compile(r"[a-z0-9@.-]+-cert-v\d\d@openssh\.com [A-Za-z0-9+/]+={0,2}( [!-~]+)?\n?")
_WHITESPACE = re.compile(r"\s+")
_ANYTHING = re.compile(r".*", re.DOTALL)
_MAX_KEY, _MAX_CERTIFICATE, _MAX_CIPHERTEXT, _MAX_ADDRESSES = 16 * 1024, 16 * 1024, 8 * 1024, 32


def access_details(
    answer: object, instance: InstanceRef, protocol: Protocol, *, attempts: int = 1, request_id: str = ""
) -> AccessDetails:
    """Read the answer to a question for `instance` and `protocol`; the rest is what is known of the call.

    Raises:
        PasswordNotReady: Windows has not made its password yet.
        UpstreamError: a member is missing, malformed, too large, or not an answer to this question.
    """
    members = Members(answer, "answer").inside("accessDetails")
    _echoes(members, "instanceName", instance.name)
    _echoes(members, "protocol", protocol.value)
    return AccessDetails(
        instance=instance,
        protocol=protocol,
        username=members.text("username", _USERNAME),
        ip_address=_ipv4(members),
        ipv6_addresses=tuple(_ipv6(item) for item in members.items("ipv6Addresses", limit=_MAX_ADDRESSES)),
        host_keys=tuple(host_key(item) for item in members.items("hostKeys", limit=MAX_HOST_KEYS)),
        material=_ssh_key_pair(members) if protocol is Protocol.SSH else _password(members),
        upstream_request_id=request_id,
        attempts=attempts,
    )


def sound_request_id(value: object) -> str:
    """Answer the id when it looks like one of AWS's, so that it may be written down; empty otherwise."""
    return value if isinstance(value, str) and _REQUEST_ID.fullmatch(value) else ""


def _echoes(members: Members, name: str, expected: str) -> None:
    if members.text(name) != expected:
        members.fault(name, "is not what was asked for")


def _ipv4(members: Members) -> str | None:
    text = members.text_or_empty("ipAddress", limit=15)
    return _address(text, 4) if text else None


def _ipv6(item: object) -> str:
    return _address(item if isinstance(item, str) else "", 6)


@lru_cache(maxsize=4096)
def _address(text: str, version: int) -> str:
    """Answer the address in its canonical form. Loopback is an emulator's; nowhere and everybody are no hosts."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        address = None
    if address is None or address.version != version or "%" in text:
        raise UpstreamError(f"accessDetails holds text that is no IPv{version} address")
    if address.is_unspecified or address.is_multicast:
        raise UpstreamError("accessDetails holds an address that is no host's")
    return str(address)


def _ssh_key_pair(members: Members) -> SshKeyPair:
    private_key = Secret(members.text("privateKey", _PEM, limit=_MAX_KEY))
    certificate = members.text("certKey", _CERTIFICATE, limit=_MAX_CERTIFICATE).rstrip("\n")
    if strict_base64(certificate.split(" ")[1]) is None:
        members.fault("certKey", "is not base64")
    return SshKeyPair(private_key, certificate, members.moment("expiresAt"))


def _password(members: Members) -> SealedPassword | Secret:
    """A default key pair brings the password in clear, and the ciphertext too: the clear one wins."""
    if not members.has("password") and not members.has("passwordData"):
        members.fault("password", "is missing, and passwordData as well")
    if clear := members.text_or_empty("password", ANY_PRINTABLE):
        return Secret(clear)
    sealed = members.inside("passwordData") if members.has("passwordData") else None
    text = sealed.text_or_empty("ciphertext", _ANYTHING, limit=_MAX_CIPHERTEXT) if sealed else ""
    ciphertext = _WHITESPACE.sub("", text)
    if sealed is None or not ciphertext:
        raise PasswordNotReady("password and ciphertext are still empty", retry_after=PASSWORD_RETRY_SECONDS)
    return _sealed(sealed, ciphertext)


def _sealed(members: Members, text: str) -> SealedPassword:
    ciphertext = strict_base64(text)
    if ciphertext is None:
        members.fault("ciphertext", "is not base64")
    key_pair = members.text("keyPairName")
    if not is_resource_name(key_pair):
        members.fault("keyPairName", "is not a name")
    return SealedPassword(ciphertext, key_pair)
