"""A real RDP server with Network Level Authentication, and a real client (FreeRDP's). Mark its users real("freerdp").

with RdpServer(folder, password="…", certificate=pem, private_key=pem) as server:
assert server.log_in("Administrator", "…", fingerprint="AA:BB:…") == 0
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

PORTS = range(20_000, 32_000)
START_SECONDS = 15.0
NEGOTIATION_REQUEST = bytes.fromhex("030000130ee000000000000100080003000000")
"""An X.224 connection request that offers TLS and NLA ([MS-RDPBCGR] 2.2.1.1)."""


def self_signed() -> tuple[bytes, bytes, str]:
    """Make what Windows makes at its first start; answer certificate and key (PEM), and the SHA-256 in hex."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "EC2AMAZ-WIN1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=180))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return certificate.public_bytes(Encoding.PEM), private, certificate.fingerprint(hashes.SHA256()).hex()


def a_display() -> str:
    """Name a display that hardly anybody has. Left to itself, Xvfb locks none, and two at once take the same."""
    return f":{random.randrange(100, 30_000)}"  # noqa: S311 - a number, not a secret


@contextmanager
def an_x_server() -> Iterator[str]:
    """Run an X server; answer its display."""
    process = subprocess.Popen(
        ["Xvfb", a_display(), "-displayfd", "1", "-screen", "0", "800x600x24", "-nolisten", "tcp"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        with process.stdout as said:
            yield f":{int(said.readline())}"
    finally:
        _end(process)


class RdpServer:
    """FreeRDP's shadow server on a display of its own; it lets `Administrator` in, by NLA alone.

    Args:
        folder: made when missing; everything it needs and writes is in there.
        password: of Administrator.
        certificate: PEM, by which it proves itself.
        private_key: PEM, of the certificate.
        security: `nla`, or `tls` for a server that authenticates only within the session.
    """

    def __init__(
        self, folder: Path, *, password: str, certificate: bytes, private_key: bytes, security: str = "nla"
    ) -> None:
        self._folder = folder
        self._security = security
        self.port = 0
        self._stack = ExitStack()
        self._environment: dict[str, str] = {}
        self._process: subprocess.Popen[bytes]
        keys = folder / "server" / ".config" / "freerdp" / "shadow"
        keys.mkdir(parents=True)
        (folder / "client").mkdir()
        (keys / "shadow.crt").write_bytes(certificate)
        (keys / "shadow.key").write_bytes(private_key)
        hashed = subprocess.run(
            ["winpr-hash", "-u", "Administrator", "-p", password, "-f", "sam"],
            capture_output=True,
            text=True,
            check=True,
        )
        (folder / "SAM").write_text(hashed.stdout)

    def __enter__(self) -> Self:
        for _ in range(3):  # ports and displays are whose they are: somebody else may take one in between
            try:
                self.port = random.choice(PORTS)  # noqa: S311 - a port, not a secret
                self._environment = {**os.environ, "DISPLAY": f":{self._display()}"}
                if self._serves():
                    return self
            except BaseException:
                self._stack.close()
                raise
            self._stack.close()
        raise RuntimeError(f"the RDP server does not start:\n{self.log}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def log(self) -> str:
        """What the server said."""
        return (self._folder / "log").read_text(errors="replace")

    @property
    def screen(self) -> str:
        """The X display that it shows, on which a client can be started too."""
        return self._environment["DISPLAY"]

    def log_in(self, user: str, password: str, fingerprint: str) -> int:
        """Authenticate, and leave at once; answer the client's exit code, of which 0 means in."""
        words = ["xfreerdp", f"/v:127.0.0.1:{self.port}", f"/u:{user}", "/d:.", "/from-stdin:force", "+auth-only"]
        words += ["/sec:nla", f"/cert:deny,fingerprint:sha256:{fingerprint}"]
        environment = {**self._environment, "HOME": str(self._folder / "client")}

        def log_in() -> int:
            return subprocess.run(
                words, input=f"{password}\n", env=environment, capture_output=True, text=True, timeout=30, check=False
            ).returncode

        return self.unhung(log_in)

    def unhung(self, log_in: Callable[[], Answer]) -> Answer:
        """Log in; when that hung, once more at the server started anew: it may be stuck for everybody."""
        for _ in range(3):
            answers: list[Answer] = []
            with ended_when_hung() as hung, suppress(subprocess.TimeoutExpired):  # even before the client was started
                answers.append(log_in())
            if answers and not hung.is_set():
                return answers[0]
            self._restart()
        raise AssertionError("three logins hung, one after the other")

    def revive(self) -> None:
        """Start the server anew, at its address, unless it answers."""
        with closing(socket.socket()) as probe, suppress(OSError):
            probe.settimeout(5)
            probe.connect(("127.0.0.1", self.port))
            probe.sendall(NEGOTIATION_REQUEST)
            if probe.recv(2) == b"\x03\x00":
                return
        self._restart()

    def _restart(self) -> None:
        _end(self._process)
        if not self._serves():
            raise RuntimeError(f"the RDP server does not start again:\n{self.log}")

    def _display(self) -> int:
        """Start an X server; answer the number of its display."""
        process = self._start(
            ["Xvfb", a_display(), "-displayfd", "1", "-screen", "0", "800x600x24", "-nolisten", "tcp"],
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        with process.stdout as said:
            return int(said.readline())

    def _serves(self) -> bool:
        environment = {**self._environment, "HOME": str(self._folder / "server")}
        with (self._folder / "log").open("ab") as log:
            process = self._process = self._start(
                [
                    *(
                        "freerdp-shadow-cli",
                        "/bind-address:127.0.0.1",
                        f"/port:{self.port}",
                        f"/sec:{self._security}",
                        "+auth",
                    ),
                    f"/sam-file:{self._folder / 'SAM'}",
                ],
                stdout=log.fileno(),
                environment=environment,
            )
        deadline = time.monotonic() + START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            with closing(socket.socket()) as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return process.poll() is None
            time.sleep(0.05)
        return False

    def _start(
        self, command: list[str], *, stdout: int, environment: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        stderr = subprocess.DEVNULL if stdout == subprocess.PIPE else subprocess.STDOUT
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=environment)
        self._stack.callback(_end, process)
        return process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


HANGING_SECONDS = 20.0
"""After which a login is taken for hung: it takes one or two."""
Answer = TypeVar("Answer")


@contextmanager
def ended_when_hung(seconds: float = HANGING_SECONDS) -> Iterator[threading.Event]:
    """End every xfreerdp that came from this process and is there for so long; the event tells that it happened.

    FreeRDP 2.11 and its own server wait for each other for ever in about one login of two hundred.
    """
    hung = threading.Event()

    def end() -> None:
        for pid in descendants(os.getpid()):
            if _name(pid) == "xfreerdp":
                hung.set()
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        yield hung
    finally:
        timer.cancel()
        timer.join()


def descendants(pid: int) -> list[int]:
    """Answer all processes that came from one."""
    try:
        tasks = [(each / "children").read_text().split() for each in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return []
    children = [int(child) for each in tasks for child in each]
    return [*children, *(other for child in children for other in descendants(child))]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
