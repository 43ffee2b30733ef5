"""A real OpenSSH server, to log in to with a certificate of an authority that it trusts.

    with Sshd(folder, trusted_ca=emulator.ssh_ca_line, principals=["ec2-user"]) as sshd:
        result = sshd.login(private_key=pem, certificate=line)

It runs as whoever starts it, on loopback, and lets only that user in: with a certificate of the trusted authority that
names one of the principals. So nobody needs to be root, and no user has to be made.
"""

from __future__ import annotations

import os
import pwd
import random
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

# Below the range from which systems pick ports for outgoing connections.
PORTS = range(20_000, 32_000)
START_SECONDS = 5.0
LOG_SECONDS = 3.0
LOGIN_SECONDS = 20.0

CONFIGURATION = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {directory}/ssh_host_ed25519_key
PidFile none
TrustedUserCAKeys {directory}/ca.pub
AuthorizedPrincipalsFile {directory}/principals
AuthorizedKeysFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM no
StrictModes no
LogLevel VERBOSE
Subsystem sftp internal-sftp
"""


class Sshd:
    """An sshd that runs inside `with`; everything it needs and writes is in `directory`.

    Args:
        directory: Made when missing.
        trusted_ca: Public key line of the authority whose certificates it accepts.
        principals: Who, according to the certificate, may log in as `user`.
        settings: More lines for sshd_config.
    """

    def __init__(
        self, directory: Path, *, trusted_ca: str, principals: Iterable[str], settings: Sequence[str] = ()
    ) -> None:
        self.directory = directory
        self.user = pwd.getpwuid(os.getuid()).pw_name
        self.host_key_file = directory / "ssh_host_ed25519_key.pub"
        self.port = 0
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        self.trust(trusted_ca)
        (directory / "principals").write_text("".join(f"{name}\n" for name in principals))
        self._make_host_key()

    def trust(self, ca_line: str) -> None:
        """Trust this authority from the next login on, instead of the one before."""
        (self.directory / "ca.pub").write_text(f"{ca_line.strip()}\n")

    @property
    def known_hosts_line(self) -> str:
        """The line by which a client knows this server."""
        algorithm, key = self.host_key_file.read_text().split()[:2]
        return f"[127.0.0.1]:{self.port} {algorithm} {key}"

    def log(self) -> str:
        """Answer what the server has logged so far."""
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def logged(self, text: str) -> bool:
        """Tell whether the server logs this text, now or within a moment."""
        deadline = time.monotonic() + LOG_SECONDS
        while text not in self.log():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def login(
        self,
        *,
        private_key: str,
        certificate: str,
        command: Sequence[str] = ("id", "-un"),
        known_hosts: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Log in with `ssh` as `user` and run a command; returncode 255 means that it was not let in."""
        folder = self.directory / f"login-{time.monotonic_ns()}"
        folder.mkdir(mode=0o700)
        key = folder / "key"
        key.touch(mode=0o600)
        key.write_text(private_key)
        (folder / "key-cert.pub").write_text(f"{certificate}\n")
        (folder / "known_hosts").write_text(f"{known_hosts or self.known_hosts_line}\n")
        options = (
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            f"UserKnownHostsFile={folder / 'known_hosts'}",
            "GlobalKnownHostsFile=/dev/null",
        )
        return subprocess.run(
            ["ssh", "-F", "none", "-p", str(self.port), "-i", str(key)]
            + [word for option in options for word in ("-o", option)]
            + [f"{self.user}@127.0.0.1", *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LOGIN_SECONDS,
            check=False,
        )

    def __enter__(self) -> Self:
        if os.getuid() == 0:  # sshd of root separates its privileges, and wants this folder for it
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        for _ in range(5):
            if self._started():
                return self
        raise RuntimeError(f"sshd does not start:\n{self.log()}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _make_host_key(self) -> None:
        private = self.directory / "ssh_host_ed25519_key"
        if not private.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(private)], check=True)

    def _started(self) -> bool:
        self.port = random.choice(PORTS)  # noqa: S311 - a port, not a secret
        configuration = self.directory / "sshd_config"
        lines = CONFIGURATION.format(port=self.port, directory=self.directory) + "\n".join(self._settings)
        configuration.write_text(f"{lines}\n")
        program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or "sshd"
        self._process = subprocess.Popen(
            [program, "-D", "-f", str(configuration), "-E", str(self.directory / "log")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            if f"Server listening on 127.0.0.1 port {self.port}." in self.log():
                return True
            time.sleep(0.02)
        self._end()
        return False

    def _end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=5)
            self._process = None
