"""The system's own ssh tries the host keys, then the login; its configuration files are not read."""

from __future__ import annotations

import os

from broker.client.diagnosis.certificate import Certificate, refusal
from broker.client.diagnosis.finding import Finding, ok, problem
from broker.client.lease import Facts
from broker.client.ssh import STRICT, stated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from broker.client.documents import CredentialDocument

_FAILED = 255
_SECONDS = 30.0
_CHANGED = ("Host key verification failed", "HOST IDENTIFICATION HAS CHANGED", "host key is known for")


def tried(
    credential: CredentialDocument, banner: str, folder: str, environment: Mapping[str, str], now: float
) -> Iterator[Finding]:
    """Answer what became of the host keys, then of the login.

    Args:
        credential: for ssh.
        banner: what the server said it is.
        folder: of ours alone, which vanishes; the key is in there as long as it takes.
        environment: with `PATH`.
        now: seconds since 1970, by the service's clock.
    """
    from shutil import which

    program = which("ssh", path=environment.get("PATH"))
    if not program:
        yield problem("host key", "ssh-missing", "there is no ssh on this machine")
        return
    words = [program, "-F", "none", *_options(credential, folder)]
    first = _run([*words, "-o", "PreferredAuthentications=none"], credential, environment)
    found = _host_key(first)
    yield found
    if found.status == "ok":
        yield _login(_run(words, credential, environment), credential, banner, now)


def _options(credential: CredentialDocument, folder: str) -> list[str]:
    """Write the files that ssh wants, and answer its options."""
    Facts(credential, 0)  # refuses what ssh should not be told
    ssh = credential["ssh"]
    files = {
        "id": f"{ssh['private_key'].strip()}\n",
        "id-cert.pub": f"{ssh['certificate'].strip()}\n",
        "known_hosts": "".join(f"{line}\n" for line in ssh["known_hosts"]),
    }
    for name, text in files.items():
        _write(f"{folder}/{name}", text)
    chosen = [
        ("BatchMode", "yes"),
        ("ConnectTimeout", "10"),
        ("HostName", credential["host"]),
        ("Port", str(credential["port"])),
        ("User", credential["username"]),
        ("IdentityAgent", "none"),
        ("IdentityFile", stated(f"{folder}/id")),
        ("CertificateFile", stated(f"{folder}/id-cert.pub")),
        ("UserKnownHostsFile", stated(f"{folder}/known_hosts")),
        ("CASignatureAlgorithms", "+ssh-rsa"),  # else this ssh keeps such a certificate back, and nobody knows why
    ]
    return [word for name, value in chosen for word in ("-o", f"{name}={value}")]


def _write(path: str, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def _run(words: list[str], credential: CredentialDocument, environment: Mapping[str, str]) -> tuple[int, str]:
    """Run ssh with `true` as its command; answer its code and what it said."""
    import subprocess

    strict = [word for name, value in STRICT for word in ("-o", f"{name}={value}")]
    kept = {name: value for name, value in environment.items() if name != "BROKER_TOKEN"} | {"LC_ALL": "C"}
    try:
        ended = subprocess.run(  # noqa: S603  # the system's ssh
            [*words, *strict, "--", credential["host"], "true"],
            env=kept,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _FAILED, "ssh did not end in time"
    return ended.returncode, ended.stderr


def _host_key(ran: tuple[int, str]) -> Finding:
    code, said = ran
    if any(text in said for text in _CHANGED):
        return problem("host key", "host-key-changed", "the server shows another host key than AWS names")
    if "Unable to negotiate" in said:
        return problem("host key", "ssh-algorithms", _last(said))
    if code != _FAILED or "Permission denied" in said:
        return ok("host key", "the server proves itself by a key that AWS names")
    return problem("host key", "login-failed", _last(said))


def _login(ran: tuple[int, str], credential: CredentialDocument, banner: str, now: float) -> Finding:
    code, said = ran
    if code != _FAILED:
        return ok("login", f"{credential['username']} gets in")
    if "Permission denied" not in said and "Too many authentication failures" not in said:
        return problem("login", "login-failed", _last(said))
    try:
        certificate = Certificate(credential["ssh"]["certificate"])
    except ValueError:
        return problem("login", "login-failed", "the certificate cannot be read")
    return refusal(certificate, credential["username"], banner, now)


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else "ssh ended without a word"
