"""The way to the instance: does its port answer, and what answers there?"""

from __future__ import annotations

import socket
import time

from broker.client.diagnosis.finding import Finding, ok, problem

SECONDS = 5.0
_LONGEST = 8192  # RFC 4253, section 4.2 lets other lines go before the banner


def port(host: str, number: int, seconds: float = SECONDS) -> Finding:
    """Connect and hang up."""
    where = f"{host} port {number}"
    try:
        socket.create_connection((host, number), timeout=seconds).close()
    except TimeoutError:
        return problem("network", "port-silent", f"{where} does not answer: a firewall drops the connection")
    except ConnectionRefusedError:
        return problem("network", "port-refused", f"{where} refuses: nothing listens there")
    except OSError as error:
        why = (error.strerror or "no connection").lower()
        return problem("network", "no-ipv6" if ":" in host else "no-route", f"{where}: {why}")
    return ok("network", f"{where} takes connections")


def banner(host: str, number: int, seconds: float = SECONDS) -> tuple[Finding, str]:
    """Read who an SSH server says it is (RFC 4253, section 4.2); answer that too, such as `SSH-2.0-OpenSSH_9.2`."""
    where = f"{host} port {number}"
    try:
        said = _said(host, number, time.monotonic() + seconds)
    except OSError:
        return problem("ssh server", "port-silent", f"{where} takes the connection, but says nothing"), ""
    line = next((line for line in said.decode("ascii", "replace").splitlines() if line.startswith("SSH-")), "")
    if not line:
        return problem("ssh server", "not-ssh", f"something else than SSH answers at {where}"), ""
    return ok("ssh server", line), line


def _said(host: str, number: int, deadline: float) -> bytes:
    """Read up to the end of the banner, the end of the connection or the end of our patience."""
    said = b""
    with socket.create_connection((host, number), timeout=max(0.1, deadline - time.monotonic())) as connection:
        while len(said) < _LONGEST and not _has_banner(said):
            left = deadline - time.monotonic()
            if left <= 0 and not said:
                raise TimeoutError
            connection.settimeout(max(0.01, left))
            try:
                piece = connection.recv(1024)
            except TimeoutError:
                if said:
                    break
                raise
            if not piece:
                break
            said += piece
    return said


def _has_banner(said: bytes) -> bool:
    lines = said.split(b"\n")
    return any(line.startswith(b"SSH-") for line in lines[:-1])
