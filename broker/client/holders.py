"""Who holds a private key while it is good: the person's own agent, else an agent of ours that ends with the lease.

Only where there is no ssh-agent program at all, the key lies in a file.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from broker.client import keys
from broker.client.agent import Agent, AgentUnusable
from broker.client.errors import ClientError
from broker.client.folders import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

START_SECONDS = 5.0
_LONGEST_PATH = 100
"""Of a socket: 104 bytes on macOS, 108 on Linux, with the zero at the end."""

_LAUNCH = '"$@" </dev/null >/dev/null 2>&1 &'
_WATCH = """\
while [ -S "$0" ] && [ "$(date +%s)" -lt "$1" ]; do sleep 5; done
rm -f "$0"; rmdir "${0%/*}" 2>/dev/null
"""
"""Ends with the lease, or when the socket is gone; and with it ends the ssh-agent that it was started by."""


def hold(
    private_key: str,
    certificate: str,
    folder: Path,
    *,
    name: str,
    seconds: int,
    environment: Mapping[str, str],
    notice: Callable[[str], None],
) -> str:
    """Put a key with its certificate where ssh finds it; answer the agent's socket, or "" when it is a file.

    Args:
        private_key: PEM, as the service answered it.
        certificate: the line that belongs to it.
        folder: where a socket, or the file `id`, may go.
        name: of the instance, for whoever lists the keys of an agent.
        seconds: until it is forgotten.
        environment: with `SSH_AUTH_SOCK` and `PATH`.
        notice: told what the person should know.

    Raises:
        Unreachable: the key and the certificate are not what they should be.
    """
    identity = keys.identity(private_key, certificate)
    comment = f"{name} by broker until {time.strftime('%H:%M:%S', time.localtime(time.time() + seconds))}"
    for find in (_own_agent, _private_agent):
        path = find(folder, seconds, environment)
        if path and _took(path, identity, comment, seconds) and holds(path, certificate):
            return path
    replace(folder / "id", f"{private_key.strip()}\n")
    notice(f"no ssh-agent can be had on this machine, so the key is in a file: {folder / 'id'} (mode 0600)")
    return ""


def holds(path: str, certificate: str) -> bool:
    """Tell whether the agent at a socket has the key of a certificate."""
    try:
        with Agent(path) as held:
            return keys.certificate_blob(certificate) in held.identities()
    except ClientError:
        return False


def drop(path: str, certificate: str) -> None:
    """Have the agent at a socket forget the key of a certificate; nothing happens when it is gone already."""
    try:
        with Agent(path) as held:
            held.remove(keys.certificate_blob(certificate))
    except ClientError:
        return


def end(path: str) -> None:
    """End an agent of ours: it notices within a few seconds that its socket is gone."""
    socket = Path(path)
    try:
        socket.unlink()
        socket.parent.rmdir()  # only goes when it was made for the socket alone
    except OSError:
        return


def _took(path: str, identity: bytes, comment: str, seconds: int) -> bool:
    try:
        with Agent(path) as found:
            found.add(identity, comment, seconds)
    except AgentUnusable:
        return False
    return True


def _own_agent(folder: Path, seconds: int, environment: Mapping[str, str]) -> str:
    """Answer the socket of the person's agent, if there is one that ssh's configuration can name."""
    del folder, seconds
    path = environment.get("SSH_AUTH_SOCK", "")
    return path if path.startswith("/") and nameable(path) else ""


def _private_agent(folder: Path, seconds: int, environment: Mapping[str, str]) -> str:
    """Start an agent that ends with the lease; answer its socket, or "" where there is no such program."""
    import shutil
    import subprocess

    program = shutil.which("ssh-agent", path=environment.get("PATH"))
    if not program:
        return ""
    path = _socket_path(folder)
    watch = ["sh", "-c", _WATCH, path, str(int(time.time()) + seconds)]
    subprocess.run(  # noqa: S603  # ssh-agent and sh, with arguments of ours
        ["/bin/sh", "-c", _LAUNCH, "sh", program, "-a", path, "-t", str(seconds), *watch],
        env={"PATH": environment.get("PATH") or os.defpath},
        cwd="/",
        start_new_session=True,
        check=False,
    )
    return path if _answers(path) else ""


def _socket_path(folder: Path) -> str:
    path = str(folder / "agent")
    if len(path.encode()) <= _LONGEST_PATH:
        return path
    import tempfile

    return f"{tempfile.mkdtemp(prefix='broker-')}/agent"


def _answers(path: str) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            Agent(path).close()
        except AgentUnusable:
            time.sleep(0.01)
        else:
            return True
    return False


def nameable(path: str) -> bool:
    """Tell whether a path can stand in ssh's configuration, which knows no way to write every character."""
    return path.isprintable() and not any(text in path for text in ('"', "\\", "${"))
