"""Lines of the known_hosts file, the keys by which a server proves itself (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from typing import Final

from broker.errors import UpstreamError
from broker.model import HostKey

SSH_PORT: Final = 22
ALGORITHMS: Final = frozenset(
    {"ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"}
)
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:.]{2,45}", re.ASCII)


def known_hosts_lines(host: str, port: int, keys: Iterable[HostKey]) -> tuple[str, ...]:
    """Write one line per SSH host key; they hold for this host and port as they are.

    `host alg key` on port 22, `[host]:port alg key` on others; an IPv6 address has brackets only with a port.

    Raises:
        UpstreamError: When the host or a key would not be one word of such a line, or a key is not of its algorithm.
    """
    if not _HOST.fullmatch(host):
        raise UpstreamError("an odd host", detail="AWS answered with an address that is none.")
    name = host if port == SSH_PORT else f"[{host}]:{port}"
    return tuple(f"{name} {key.algorithm} {_blob(key)}" for key in keys if key.algorithm in ALGORITHMS)


def _blob(key: HostKey) -> str:
    """Check that the blob starts with its own algorithm, as the wire format has it (RFC 4253, 6.6)."""
    name = key.algorithm.encode("ascii")
    try:
        blob = base64.b64decode(key.public_key, validate=True)
    except (binascii.Error, ValueError):
        blob = b""
    if not blob.startswith(len(name).to_bytes(4) + name):
        raise UpstreamError("a host key is not of its algorithm", detail="AWS answered with a host key that is none.")
    return key.public_key
