"""Credentials that are good now, shared by every `ssh` of this person on this machine.

    leases/<of whom, at which service, for what>.lock    held while a credential is asked for
    leases/<the same>/<end>-<random>/lease.json          what it is; written last, holds no secret
                                    /id-cert.pub         the certificate
                                    /known_hosts         the host's keys
                                    /agent               the socket of an agent of ours, where there is one

All of it is 0700 and 0600. The private key is in an agent (see `broker.client.holders`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time

from broker.client import folders, holders
from broker.client.lease import STATE, Facts, Lease, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from broker.client.documents import CredentialDocument
    from broker.client.purpose import Purpose

QUEUE_SECONDS = 60.0
"""For one answer of the service, by another process that is asking for the same."""

_ABANDONED_SECONDS = 3600


class Leases:
    """The folder of them.

    Args:
        environment: with `XDG_RUNTIME_DIR` or `HOME`, `SSH_AUTH_SOCK` and `PATH`.
        service: the service's URL.
        person: whatever tells people apart who use this folder.
        notice: told what the person should know.
        clock: seconds since 1970.
        queue_seconds: how long to wait for another process that is asking for the same.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        service: str,
        person: str,
        notice: Callable[[str], None],
        clock: Callable[[], float] = time.time,
        queue_seconds: float = QUEUE_SECONDS,
    ) -> None:
        self._environment = environment
        self._of = (service, person)
        self._notice = notice
        self._clock = clock
        self._queue_seconds = queue_seconds
        self._root = folders.made(_root(environment))

    def obtain(
        self,
        instance: str,
        purpose: Purpose,
        ask: Callable[[], CredentialDocument],
        *,
        protocol: str = "ssh",
    ) -> Lease:
        """Answer a credential that is good: one that is there, else a new one. One process at a time asks.

        Args:
            instance: as the person names it.
            purpose: what for.
            ask: gets a new one from the service.
            protocol: which one it is for.
        """
        name = _hashed(*self._of, instance, protocol)
        folder = self._root / name
        if found := self._good(folder, purpose):
            return found
        with folders.locked(self._root / f"{name}.lock", self._queue_seconds):
            return self._good(folder, purpose) or self._kept(folder, ask(), purpose)

    def _good(self, folder: Path, purpose: Purpose) -> Lease | None:
        """Find the credential with the most time left that fits."""
        for place in sorted(_places(folder), key=lambda place: place.name, reverse=True):
            lease = read(place)
            if lease and lease.usable_until > self._clock() and purpose.is_met_by(lease) and lease.has_its_key():
                return lease
        return None

    def _kept(self, folder: Path, credential: CredentialDocument, purpose: Purpose) -> Lease:
        """Keep a new credential: its key in an agent, what is no secret in files."""
        facts = Facts(credential, self._clock())
        self._sweep()
        place = folders.made(folders.made(folder) / f"{int(facts.expires)}-{os.urandom(3).hex()}")
        agent = holders.hold(
            facts.private_key,
            facts.certificate,
            place,
            name=facts.instance,
            seconds=facts.seconds,
            environment=self._environment,
            notice=self._notice,
        )
        is_own = agent not in {"", self._environment.get("SSH_AUTH_SOCK")}
        return facts.written(place, agent, purpose, own_agent=is_own)

    def _sweep(self) -> None:
        """Remove what has ended, and what was begun long ago and never finished."""
        for folder in _folders(self._root):
            for place in _places(folder):
                ended = int(place.name.partition("-")[0]) < self._clock()
                if ended or (not (place / STATE).exists() and _age(place) > _ABANDONED_SECONDS):
                    shutil.rmtree(place, ignore_errors=True)


def forget(environment: Mapping[str, str]) -> int:
    """Forget every credential of this machine's user: keys leave the agents, our agents end, the folders go.

    Returns:
        How many were still good.
    """
    root, good = _root(environment), 0
    for folder in _folders(root):
        for place in _places(folder):
            if (lease := read(place)) and lease.expires > time.time():
                good += 1
                lease.drop_its_key()
        shutil.rmtree(folder, ignore_errors=True)
    return good


def _root(environment: Mapping[str, str]) -> Path:
    return folders.passing(environment) / "leases"


def _hashed(*parts: str) -> str:
    """Name a folder; short, because the path of a socket must be."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _folders(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []


def _places(folder: Path) -> list[Path]:
    return [path for path in _folders(folder) if path.name.partition("-")[0].isdecimal()]


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0
