"""What an SSH certificate says about itself (OpenSSH, PROTOCOL.certkeys); its signature is for the server to verify."""

from __future__ import annotations

import re

from broker.client.agent import Fields
from broker.client.diagnosis.finding import Finding, problem
from broker.client.diagnosis.spans import span
from broker.client.keys import certificate_blob

_STRICT_SINCE = (8, 2)
"""The OpenSSH from which on SHA-1 signatures of authorities are refused."""

_VERSION = re.compile(r"SSH-2\.0-OpenSSH_(\d+)\.(\d+)", re.ASCII)


class Certificate:
    """The members that decide about a login; times in seconds since 1970."""

    def __init__(self, line: str) -> None:
        """Read the line of a `-cert.pub` file; a ValueError or Unreachable when it is cut short or no certificate."""
        fields = Fields(certificate_blob(line))
        kind = fields.string()
        for _ in range(2 if kind.startswith(b"ssh-ed25519") else 3):  # a nonce, and the key's own fields
            fields.string()
        _long(fields)
        fields.number()
        fields.string()
        self.principals = _strings(fields.string())
        self.begins, self.ends = _long(fields), _long(fields)
        for _ in range(4):  # critical options, extensions, reserved, the authority's key
            fields.string()
        self.algorithm = Fields(fields.string()).string().decode("ascii", "replace")


def refusal(certificate: Certificate, username: str, banner: str, now: float) -> Finding:
    """Say why a server that took the connection refused the certificate; `now` by the service's clock."""
    if now < certificate.begins:
        return problem("login", "certificate-early", f"it is valid only in {span(certificate.begins - now)}")
    if now >= certificate.ends:
        return problem("login", "certificate-expired", f"it ended {span(now - certificate.ends)} ago")
    if certificate.principals and username not in certificate.principals:
        names = ", ".join(certificate.principals)
        return problem("login", "principal", f"the certificate is for {names}, and the user is {username}")
    if certificate.algorithm == "ssh-rsa" and _is_strict(banner):
        return problem(
            "login", "sha1-authority", f"the authority signs by SHA-1 (ssh-rsa), which {banner} refuses by default"
        )
    return problem(
        "login", "authority-lost", "the certificate is in order, and yet refused: sshd does not trust its authority"
    )


def _is_strict(banner: str) -> bool:
    found = _VERSION.match(banner)
    return bool(found) and (int(found[1]), int(found[2])) >= _STRICT_SINCE if found else False


def _long(fields: Fields) -> int:
    return fields.number() << 32 | fields.number()


def _strings(packed: bytes) -> list[str]:
    fields, found = Fields(packed), []
    left = len(packed)
    while left > 0:
        text = fields.string()
        found.append(text.decode("utf-8", "replace"))
        left -= len(text) + 4
    return found
