"""The agent's protocol, spoken with a real ssh-agent, and with what only claims to be one."""

import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    SSHCertificateBuilder,
    SSHCertificateType,
)

from broker.client.agent import Agent, AgentUnusable, mpint
from broker.client.errors import Unreachable
from broker.client.keys import certificate_blob, identity
from tests.real.door import an_agent

real = pytest.mark.real("ssh")
KEYS: dict[str, Callable[[], Any]] = {
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "ecdsa-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ecdsa-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ecdsa-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}


def certified(key: Any) -> str:
    certificate = SSHCertificateBuilder().public_key(key.public_key()).type(SSHCertificateType.USER).key_id(b"x")
    certificate = certificate.valid_principals([b"me"]).valid_after(0).valid_before(4_000_000_000)
    return certificate.sign(ed25519.Ed25519PrivateKey.generate()).public_bytes().decode()


def pem(key: Any, form: PrivateFormat = PrivateFormat.PKCS8) -> str:
    return str(key.private_bytes(Encoding.PEM, form, NoEncryption()).decode())


@pytest.fixture
def own_agent(tmp_path: Path) -> Iterator[str]:
    with an_agent(tmp_path) as path:
        yield path


@pytest.fixture(scope="module")
def pair() -> tuple[str, str]:
    key = ed25519.Ed25519PrivateKey.generate()
    return pem(key), certified(key)


@real
@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL, PrivateFormat.OpenSSH])
@pytest.mark.parametrize("kind", KEYS)
def test_an_agent_takes_every_kind_of_key_and_signs_with_it(
    kind: str, form: PrivateFormat, own_agent: str, tmp_path: Path
) -> None:
    key = KEYS[kind]()
    if kind == "ed25519" and form == PrivateFormat.TraditionalOpenSSL:
        return  # there is no such form of these keys
    line = certified(key)
    with Agent(own_agent) as agent:
        agent.add(identity(pem(key, form), line), "comment", 60)
        assert agent.identities() == [certificate_blob(line)]
    (tmp_path / "id-cert.pub").write_text(f"{line}\n")
    signed = subprocess.run(  # ssh-keygen has the agent sign, and holds the signature against the certificate
        ["ssh-keygen", "-Y", "sign", "-f", tmp_path / "id-cert.pub", "-n", "test", "-q"],
        input="text",
        env={"SSH_AUTH_SOCK": own_agent},
        capture_output=True,
        text=True,
        check=False,
    )
    assert signed.returncode == 0, signed.stderr
    assert "BEGIN SSH SIGNATURE" in signed.stdout


@real
def test_a_key_is_forgotten_when_its_time_is_over(own_agent: str, pair: tuple[str, str]) -> None:
    with Agent(own_agent) as agent:
        agent.add(identity(*pair), "comment", 2)
        assert len(agent.identities()) == 1
        time.sleep(2.5)
        assert agent.identities() == []


@real
def test_a_key_can_be_removed_and_the_others_stay(own_agent: str, pair: tuple[str, str]) -> None:
    other = KEYS["ecdsa-256"]()
    with Agent(own_agent) as agent:
        agent.add(identity(*pair), "one", 60)
        agent.add(identity(pem(other), certified(other)), "two", 60)
        agent.remove(certificate_blob(pair[1]))
        assert certificate_blob(pair[1]) not in agent.identities()
        assert len(agent.identities()) == 1
        with pytest.raises(AgentUnusable, match="does not remove"):
            agent.remove(certificate_blob(pair[1]))


@real
def test_a_locked_agent_refuses_and_says_so(own_agent: str, pair: tuple[str, str]) -> None:
    askpass = Path(own_agent).with_name("askpass")
    askpass.write_text("#!/bin/sh\necho secret\n")
    askpass.chmod(0o700)
    environment = {"SSH_AUTH_SOCK": own_agent, "SSH_ASKPASS": str(askpass), "SSH_ASKPASS_REQUIRE": "force"}
    subprocess.run([shutil.which("ssh-add") or "", "-x"], env=environment, check=True, capture_output=True)
    with Agent(own_agent) as agent, pytest.raises(AgentUnusable, match="does not take a key"):
        agent.add(identity(*pair), "comment", 60)


@contextmanager
def an_impostor(folder: Path, answer: bytes | None) -> Iterator[str]:
    """Listen where an agent would, read a request and answer these bytes; hang up at once when there are none."""
    path, ready, done = str(folder / "impostor"), threading.Event(), threading.Event()

    def serve() -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            server.listen()
            server.settimeout(10)
            ready.set()
            connection, _ = server.accept()
            with connection:
                if answer is not None:
                    connection.recv(65536)
                    connection.sendall(answer)
                    done.wait(10)

    thread = threading.Thread(target=serve)
    thread.start()
    ready.wait(5)
    try:
        yield path
    finally:
        done.set()
        thread.join(10)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "hung up|pipe|reset"),
        (b"", "no answer in time"),
        (b"\0\0", "no answer in time"),
        (b"\0\0\0\0", "does not speak"),
        (b"\xff\xff\xff\xff\x0c", "does not speak"),
        (struct.pack(">IBI", 5, 12, 1), "does not speak"),
        (struct.pack(">IBI", 5, 12, 4_000_000_000), "does not speak"),
        (struct.pack(">IBII", 9, 12, 1, 4_000_000_000), "does not speak"),
        (struct.pack(">IB", 1, 5), "does not list its keys"),
        (struct.pack(">IB", 1, 12), "does not speak"),
    ],
)
def test_what_only_claims_to_be_an_agent_is_an_error(answer: bytes | None, said: str, tmp_path: Path) -> None:
    with (
        an_impostor(tmp_path, answer) as path,
        Agent(path, seconds=0.3) as agent,
        pytest.raises(AgentUnusable, match=said),
    ):
        agent.identities()


@pytest.mark.parametrize("path", ["none", "x" * 200, "a\0b", ""])
def test_where_no_agent_is_the_path_is_named(path: str, tmp_path: Path) -> None:
    with pytest.raises(AgentUnusable, match="no ssh-agent answers at"):
        Agent(str(tmp_path / path) if path else "")


def test_a_number_is_packed_as_the_rfc_has_it() -> None:
    shown = {0: "00000000", 0x9A378F9B2E332A7: "0000000809a378f9b2e332a7", 0x80: "000000020080"}
    assert {value: mpint(value).hex() for value in shown} == shown


def test_a_key_and_a_certificate_have_to_belong_together(pair: tuple[str, str]) -> None:
    with pytest.raises(Unreachable, match="do not belong together"):
        identity(pem(ed25519.Ed25519PrivateKey.generate()), pair[1])
    with pytest.raises(Unreachable, match="do not belong together"):
        identity(pem(KEYS["rsa"]()), pair[1])


@pytest.mark.parametrize("text", ["", "nonsense", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_private_key_is_an_error_that_does_not_repeat_it(text: str, pair: tuple[str, str]) -> None:
    with pytest.raises(Unreachable, match=r"^the service answered a private key that cannot be read$"):
        identity(text, pair[1])


@pytest.mark.parametrize("change", ["", "ssh-ed25519 AAAA", "x" * 40, "ssh-rsa-cert-v01@openssh.com !!!!"])
def test_what_is_no_certificate_is_an_error(change: str, pair: tuple[str, str]) -> None:
    with pytest.raises(Unreachable, match="certificate that ssh cannot use"):
        identity(pair[0], change)


def test_a_certificate_under_another_name_is_an_error(pair: tuple[str, str]) -> None:
    with pytest.raises(Unreachable, match="certificate that ssh cannot use"):
        certificate_blob(pair[1].replace("ssh-ed25519-cert", "ssh-rsa-cert"))


def test_a_truncated_certificate_is_an_error(pair: tuple[str, str]) -> None:
    name, text = pair[1].split()[:2]
    with pytest.raises(Unreachable, match="certificate that ssh cannot use"):
        identity(pair[0], f"{name} {text[:80]}")
