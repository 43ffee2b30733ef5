"""One credential for ssh that is good now: what is kept of it, in a folder of its own, and how it is read again."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path

from broker.client import folders, holders, names
from broker.client.errors import HostKeysUnknown, Unreachable
from broker.client.keys import certificate_blob

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from broker.client.documents import CredentialDocument
    from broker.client.purpose import Purpose

STATE = "lease.json"
"""Written last: without it a folder holds nothing that is used."""

MARGIN = 60.0
"""Seconds that a credential has to have left to be used for something new; a quarter of a short one's life."""

_CERTIFICATE, _KNOWN_HOSTS, _KEY = "id-cert.pub", "known_hosts", "id"
_HOST_KEY = re.compile(r"(\S+) [a-z0-9@.-]+ [A-Za-z0-9+/]+={0,2}", re.ASCII)
_PORTS = range(1, 65536)


class Lease:
    """A credential whose key is in an agent, or in a file where there is no agent.

    Raises:
        LookupError, TypeError: the state is not what this version writes.
    """

    def __init__(self, folder: Path, state: dict[str, Any]) -> None:
        self.folder = folder
        self.id = str(state["id"])
        self.host = str(state["host"])
        self.port = int(state["port"])
        self.username = str(state["username"])
        self.expires_at = str(state["expires_at"])
        self.warnings = [str(warning) for warning in state["warnings"]]
        self.agent = str(state["agent"])
        self.has_own_agent = bool(state["own_agent"])
        self.purpose: dict[str, Any] = state["purpose"]
        self.expires = float(state["expires"])
        """Seconds since 1970 by this machine's clock, which need not be right: only differences count."""
        self.usable_until = self.expires - float(state["margin"])

    @property
    def certificate(self) -> Path:
        """The certificate's file."""
        return self.folder / _CERTIFICATE

    @property
    def known_hosts(self) -> Path:
        """The file with the keys by which the host proves itself, and nobody else."""
        return self.folder / _KNOWN_HOSTS

    @property
    def identity_file(self) -> Path:
        """What ssh calls IdentityFile: the certificate, which names the key in an agent, or the key beside it."""
        return self.certificate if self.agent else self.folder / _KEY

    def has_its_key(self) -> bool:
        """Tell whether the key is still where it was put."""
        if self.agent:
            return holders.holds(self.agent, self._certificate_line())
        return self.certificate.is_file() and self.identity_file.is_file()

    def drop_its_key(self) -> None:
        """Have the agent forget the key; an agent of its own ends soon after its socket is gone."""
        if self.agent:
            holders.drop(self.agent, self._certificate_line())
        if self.has_own_agent:
            holders.end(self.agent)

    def _certificate_line(self) -> str:
        try:
            return self.certificate.read_text(encoding="ascii")
        except (OSError, ValueError):
            return ""


def read(folder: Path) -> Lease | None:
    """Read what was written; None when it is not there, not whole or not of this version."""
    try:
        return Lease(folder, json.loads((folder / STATE).read_text(encoding="utf-8")))
    except (OSError, ValueError, LookupError, TypeError):
        return None


class Facts:
    """What the service answered, held against what ssh can use: it runs what stands in its configuration.

    Raises:
        Unreachable: something in it is not what it should be.
        HostKeysUnknown: it does not say by which keys the host proves itself.
    """

    def __init__(self, credential: CredentialDocument, now: float) -> None:
        ssh, self._lease = credential.get("ssh"), credential["lease"]
        self.instance = credential["instance"]["name"]
        if not ssh:
            raise Unreachable("the service answered a credential that is not for ssh")
        self._host, self._username, self._port = credential["host"], credential["username"], int(credential["port"])
        if not names.HOST.fullmatch(self._host) or not names.USER.fullmatch(self._username):
            raise Unreachable("the service answered a host or a user name that ssh cannot use")
        self._known_hosts = host_keys(ssh["known_hosts"], self._host, self._port)
        self.private_key, self.certificate = ssh["private_key"], ssh["certificate"].strip()
        certificate_blob(self.certificate)
        self.seconds = _span(self._lease["issued_at"], self._lease["expires_at"])
        self.expires = now + self.seconds
        self._warnings = list(credential["warnings"])

    def written(self, folder: Path, agent: str, purpose: Purpose, *, own_agent: bool) -> Lease:
        """Write all but the key into a folder; answer what can be read there from now on."""
        folders.replace(folder / _CERTIFICATE, f"{self.certificate}\n")
        folders.replace(folder / _KNOWN_HOSTS, self._known_hosts)
        state = {
            "id": self._lease["id"],
            "host": self._host,
            "port": self._port,
            "username": self._username,
            "expires_at": self._lease["expires_at"],
            "warnings": self._warnings,
            "agent": agent,
            "own_agent": own_agent,
            "purpose": purpose.document(),
            "expires": self.expires,
            "margin": min(MARGIN, self.seconds / 4),
        }
        folders.replace(folder / STATE, json.dumps(state))
        return Lease(folder, state)


def host_keys(lines: list[str], host: str, port: int) -> str:
    """Answer the lines as a file; they may speak of this host alone.

    Raises:
        HostKeysUnknown: there is none.
        Unreachable: the service answered others.
    """
    if port not in _PORTS:
        raise Unreachable("the service answered a port that there is not")
    if not lines:
        raise HostKeysUnknown
    for line in lines:
        found = _HOST_KEY.fullmatch(line)
        if not found or found[1] not in {host, f"[{host}]:{port}"}:
            raise Unreachable("the service answered host keys that are not of the instance's host and port")
    return "".join(f"{line}\n" for line in lines)


def _span(begin: str, end: str) -> int:
    """Answer the seconds between two times of the service, whose clock may not be ours."""
    try:
        seconds = int((datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds())
    except (ValueError, TypeError):
        raise Unreachable("the service answered times that cannot be read") from None
    if seconds <= 0:
        raise Unreachable("the service answered a credential that has ended already")
    return seconds
