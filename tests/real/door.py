"""An instance with a real sshd, a service double that opens it, and a person's machine with real OpenSSH programs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from broker.demo.sshd import Sshd
from tests.doubles.client import Answer, Authority, ServiceDouble, instance, page, ssh_credential

ROUTE = "POST /v1/credentials"
LIFETIME = 780
SSH = """\
#!/bin/sh
exec {ssh} -F {config} "$@"
"""


class Door:
    """What a person has: an environment, a folder of their own, and an `ssh` that reads the configuration in there."""

    def __init__(self, folder: Path, service: ServiceDouble, ca_file: str, token: str) -> None:
        self.folder = folder
        self.service = service
        self.authority = ed25519.Ed25519PrivateKey.generate()
        self.config = folder / "config"
        self.config.touch(0o600)
        self.state = folder / "run" / "broker"
        self.sshd = Sshd(
            folder / "sshd",
            trusted_ca=self._authority_line(),
            principals=["somebody"],
            settings=["MaxStartups 100"],
        )
        programs = folder / "bin"
        programs.mkdir()
        (programs / "ssh").write_text(SSH.format(ssh=shutil.which("ssh"), config=self.config))
        (programs / "ssh").chmod(0o700)
        (folder / "run").mkdir(0o700)
        self.environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(folder / "run"),
            "BROKER_URL": service.url,
            "BROKER_TOKEN": token,
            "BROKER_CA_FILE": ca_file,
        }
        service.tell("GET /v1/instances", page(instance("web-1")))

    def credential(self, *, lifetime: int = LIFETIME, **ssh: Any) -> Answer:
        """Answer a credential with which the sshd lets in, unless it is changed."""
        document = ssh_credential(username="somebody", port=self.sshd.port, authority=self.authority)
        document["username"] = self.sshd.user
        begin = datetime(2030, 1, 1, tzinfo=UTC)
        ends = (begin + timedelta(seconds=lifetime)).isoformat().replace("+00:00", "Z")
        document["lease"] |= {"issued_at": begin.isoformat().replace("+00:00", "Z"), "expires_at": ends}
        document["ssh"] |= {"known_hosts": [self.sshd.known_hosts_line], **ssh}
        return Answer(document, 201)

    def open(self, **changes: Any) -> None:
        """Let the service answer credentials: each time another one."""
        self.service.tell(ROUTE, *(self.credential(**changes) for _ in range(3)))

    def broker(self, *words: str, **changes: str | None) -> subprocess.CompletedProcess[str]:
        """Run a command of ours."""
        return self.run([sys.executable, "-m", "broker", *words], **changes)

    def run(self, words: Sequence[str | Path], **changes: str | None) -> subprocess.CompletedProcess[str]:
        """Run any program in the person's environment; variables that are None are not set."""
        variables = {name: value for name, value in {**self.environment, **changes}.items() if value is not None}
        return subprocess.run(
            [str(word) for word in words],
            env=variables,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def asked(self) -> list[Any]:
        """Answer the bodies of the requests for credentials."""
        return [seen.body for seen in self.service.seen if seen.path == "/v1/credentials"]

    def kept(self) -> Iterator[Path]:
        """Go through all the files of this person."""
        return (path for path in self.folder.rglob("*") if path.is_file() and self.sshd.directory not in path.parents)

    def _authority_line(self) -> str:
        public = self.authority.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        return public.decode()


@contextmanager
def a_door(folder: Path, authority: Authority, token: str) -> Iterator[Door]:
    """Run the service double and the sshd, until the context ends; then end every agent that was started."""
    with ServiceDouble(authority.server_context()) as service:
        door = Door(folder, service, authority.ca_file, token)
        with door.sshd:
            yield door
    shutil.rmtree(door.state, ignore_errors=True)  # agents of ours end when their socket is gone


@contextmanager
def an_agent(folder: Path) -> Iterator[str]:
    """Run a person's own ssh-agent; answer its socket."""
    path = folder / "own-agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    process.stdout.readline()
    try:
        yield str(path)
    finally:
        process.terminate()
        process.communicate(timeout=5)
