import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.delivery.known_hosts import known_hosts_lines
from broker.errors import UpstreamError
from broker.model import HostKey
from tests.doubles.unsealing import windows_certificate


def test_port_22_has_no_brackets_and_others_do(host_keys: tuple[HostKey, ...]) -> None:
    key = host_keys[0]
    assert known_hosts_lines("203.0.113.7", 22, [key]) == (f"203.0.113.7 ssh-ed25519 {key.public_key}",)
    assert known_hosts_lines("203.0.113.7", 2222, [key]) == (f"[203.0.113.7]:2222 ssh-ed25519 {key.public_key}",)
    assert known_hosts_lines("2001:db8::7", 22, [key]) == (f"2001:db8::7 ssh-ed25519 {key.public_key}",)
    assert known_hosts_lines("2001:db8::7", 2222, [key]) == (f"[2001:db8::7]:2222 ssh-ed25519 {key.public_key}",)


def test_only_ssh_keys_make_lines(host_keys: tuple[HostKey, ...]) -> None:
    lines = known_hosts_lines("203.0.113.7", 22, [*host_keys, windows_certificate()])
    assert [line.split()[1] for line in lines] == ["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256"]


def test_no_keys_make_no_lines() -> None:
    assert known_hosts_lines("203.0.113.7", 22, []) == ()


@pytest.mark.parametrize("blob", ["", "AAAA", "not base64", "AAAAC3NzaC1lZDI1NTE5\nevil ssh-rsa AAAA"])
def test_a_blob_that_is_not_of_its_algorithm_is_refused(host_keys: tuple[HostKey, ...], blob: str) -> None:
    with pytest.raises(UpstreamError):
        known_hosts_lines("203.0.113.7", 22, [replace(host_keys[0], public_key=blob)])


def test_a_key_under_another_s_algorithm_is_refused(host_keys: tuple[HostKey, ...]) -> None:
    with pytest.raises(UpstreamError):
        known_hosts_lines("203.0.113.7", 22, [replace(host_keys[0], algorithm="ssh-rsa")])


@pytest.mark.parametrize(
    "host", ["", "*", "!x", "a,b", "a b", "@revoked", "|1|x", "[::1]", "x\ny", "#", "é", "-x", "fe80::1%e"]
)
def test_a_host_that_would_mean_more_than_one_is_refused(host_keys: tuple[HostKey, ...], host: str) -> None:
    with pytest.raises(UpstreamError):
        known_hosts_lines(host, 22, host_keys)


@given(host=st.text(max_size=40), blob=st.text(max_size=60), port=st.integers(1, 65535))
def test_no_input_makes_more_than_one_line_of_three_words(host: str, blob: str, port: int) -> None:
    key = HostKey(algorithm="ssh-ed25519", public_key="AAAAC3NzaC1lZDI1NTE5" + blob, sha256="")
    try:
        lines = known_hosts_lines(host, port, [key])
    except UpstreamError:
        return
    assert [len(line.split(" ")) for line in lines] == [3]
    assert "".join(lines).isprintable()


@pytest.mark.real("ssh-keygen")
@pytest.mark.parametrize("host", ["203.0.113.7", "2001:db8::7"])
@pytest.mark.parametrize("port", [22, 2222])
def test_openssh_finds_the_lines_for_host_and_port_and_no_others(
    tmp_path: Path, host_keys: tuple[HostKey, ...], host: str, port: int
) -> None:
    path = tmp_path / "known_hosts"
    path.write_text("".join(f"{line}\n" for line in known_hosts_lines(host, port, host_keys)))

    def found(name: str) -> int:
        command = ["ssh-keygen", "-F", name, "-f", str(path)]
        answer = subprocess.run(command, check=False, capture_output=True, text=True)
        return sum(not line.startswith("#") for line in answer.stdout.splitlines())

    assert found(host if port == 22 else f"[{host}]:{port}") == len(host_keys)
    assert found(f"[{host}]:2200") == 0
    assert found("203.0.113.8") == 0
