"""Who answers at an RDP port: real servers, and sockets that say something else."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.client.rdp.pins import CertificateMismatch, CertificateUnknown, hold_to, pins_of
from broker.client.rdp.probe import NoAnswer, NoNetworkLevelAuthentication, NotRdp, await_answer, probe
from broker.demo.sshd import Sshd
from tests.real.freerdp import RdpServer, self_signed

CONFIRM = b"\x03\x00\x00\x13\x0e\xd0\x00\x00\x12\x34\x00"
PLAIN = b"\x03\x00\x00\x0b\x06\xd0\x00\x00\x12\x34\x00"


@contextmanager
def answering(*answers: bytes | None) -> Iterator[int]:
    """Listen; answer each connection with what is due, and then hang up, or say nothing when it is None."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        over = threading.Event()

        def serve() -> None:
            for answer in answers:
                connection, _ = listening.accept()
                with connection:
                    connection.recv(64)
                    if answer is None:
                        over.wait(20)
                    else:
                        connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            over.set()


def server(folder: Path, security: str = "nla") -> tuple[RdpServer, str]:
    certificate, key, fingerprint = self_signed()
    return RdpServer(folder, password="P4ss", certificate=certificate, private_key=key, security=security), fingerprint


@pytest.mark.real("freerdp")
def test_a_real_server_shows_its_certificate_and_no_authentication_is_tried(tmp_path: Path) -> None:
    real, fingerprint = server(tmp_path / "rdp")
    with real:
        found = probe("127.0.0.1", real.port)
        assert (found.certificate_sha256, found.nla) == (fingerprint, True)
        assert "AcceptSecurityContext" not in real.log
        assert real.log_in("Administrator", "P4ss", bytes.fromhex(fingerprint).hex(":")) == 0
        assert "AcceptSecurityContext" in real.log


@pytest.mark.real("freerdp")
@pytest.mark.parametrize("security", ["tls", "rdp"])
def test_a_real_server_without_network_level_authentication_is_refused(security: str, tmp_path: Path) -> None:
    real, fingerprint = server(tmp_path / "rdp", security)
    with real:
        found = probe("127.0.0.1", real.port)
        assert (found.nla, found.certificate_sha256) == (False, fingerprint if security == "tls" else "")
        with pytest.raises(NoNetworkLevelAuthentication, match="Nothing was sent"):
            await_answer("127.0.0.1", real.port, 30, lambda _: None)


@pytest.mark.real("sshd", "ssh-keygen")
def test_a_real_ssh_server_is_told_from_rdp(tmp_path: Path) -> None:
    with Sshd(tmp_path / "sshd", trusted_ca="", principals=[]) as sshd, pytest.raises(NotRdp, match="`rdp-port`"):
        probe("127.0.0.1", sshd.port)


def test_a_closed_port_is_said() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(NoAnswer, match="connection refused"):
            probe("127.0.0.1", closed.getsockname()[1])


def test_a_silent_port_is_said() -> None:
    with answering(None) as port, pytest.raises(NoAnswer, match="no answer"):
        probe("127.0.0.1", port, 0.2)


@pytest.mark.parametrize("answer", [b"", b"\x03\x00", CONFIRM, CONFIRM + b"\x02\x00\x08\x00"])
def test_a_connection_that_ends_early_is_no_answer_yet(answer: bytes) -> None:
    with answering(answer) as port, pytest.raises(NoAnswer):
        probe("127.0.0.1", port)


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad\r\n", b"\x03\x00\x00\x02", b"\x03\x00\xff\xff", PLAIN.replace(b"\xd0", b"\x80")]
)
def test_what_is_no_confirmation_is_not_rdp(answer: bytes) -> None:
    with answering(answer) as port, pytest.raises(NotRdp):
        probe("127.0.0.1", port)


@pytest.mark.parametrize("answer", [PLAIN, CONFIRM + b"\x03\x00\x08\x00\x02\x00\x00\x00"])
def test_a_server_that_speaks_no_tls_has_no_certificate(answer: bytes) -> None:
    with answering(answer) as port:
        found = probe("127.0.0.1", port)

    assert (found.certificate_sha256, found.nla) == ("", False)


def test_what_breaks_off_tls_is_said() -> None:
    answer = CONFIRM + b"\x02\x00\x08\x00\x02\x00\x00\x00" + b"no tls at all"
    with answering(answer) as port, pytest.raises((NotRdp, NoAnswer)):
        probe("127.0.0.1", port)


def test_an_instance_that_boots_is_waited_for() -> None:
    said: list[str] = []
    with answering(b"", b"", PLAIN) as port, pytest.raises(NoNetworkLevelAuthentication):
        await_answer("127.0.0.1", port, 60, said.append, sleep=lambda _: None)

    assert len(said) == 1
    assert "waiting for it" in said[0]


def test_the_wait_ends() -> None:
    with answering(b"") as port, pytest.raises(NoAnswer, match="--wait TIME"):
        await_answer("127.0.0.1", port, 0, lambda _: None)


def test_pins_are_compared_however_they_are_spelt() -> None:
    pins = pins_of(["AB:" * 31 + "AB", "cd" * 32])
    hold_to(pins, "ab" * 32, "x")
    hold_to(pins, "cd" * 32, "x")
    with pytest.raises(CertificateMismatch, match="No password was sent"):
        hold_to(pins, "ef" * 32, "x")


def test_without_a_pin_there_is_no_way_in() -> None:
    with pytest.raises(CertificateUnknown, match="RDP certificate"):
        pins_of([])
