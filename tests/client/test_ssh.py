"""A lease as options of ssh; the real ssh is the judge of what they mean."""

import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from broker.client import ssh
from broker.client.errors import Misconfigured, NotReady
from broker.client.lease import Lease

STATE: dict[str, Any] = {
    "id": "lease-1",
    "host": "203.0.113.7",
    "port": 2222,
    "username": "ec2-user",
    "expires_at": "2030-01-01T00:13:00Z",
    "warnings": [],
    "agent": "/run/agent",
    "own_agent": True,
    "purpose": {},
    "expires": 0.0,
    "margin": 60,
}


def lease(folder: Path | str = "/run/lease", **changes: Any) -> Lease:
    return Lease(Path(folder), STATE | changes)


def shown(words: list[str]) -> dict[str, str]:
    """Answer what the real ssh understands."""
    ended = subprocess.run(["ssh", "-F", "none", "-G", *words, "web-1"], capture_output=True, text=True, check=True)
    return dict(line.split(" ", 1) for line in ended.stdout.splitlines() if " " in line)


@pytest.mark.real("ssh")
@pytest.mark.parametrize("folder", ["/run/lease", "/run/with space/100% of $HOME/it's"])
def test_ssh_understands_the_options_as_they_are_meant(folder: str) -> None:
    read = shown(ssh.arguments(lease(folder, agent=f"{folder}/agent")))

    assert (read["hostname"], read["port"], read["user"]) == ("203.0.113.7", "2222", "ec2-user")
    percent = folder.replace("%", "%%")  # ssh -G shows the files before it fills in what % stands for
    assert read["identityfile"] in {f"{folder}/id-cert.pub", f"{percent}/id-cert.pub"}
    assert read["userknownhostsfile"] in {f"{folder}/known_hosts", f"{percent}/known_hosts"}
    assert read["identityagent"] in {f"{folder}/agent", f"{percent}/agent"}
    assert (read["identitiesonly"], read["stricthostkeychecking"], read["updatehostkeys"]) == ("yes", "true", "false")
    assert (read["globalknownhostsfile"], read["preferredauthentications"]) == ("/dev/null", "publickey")
    assert (read["passwordauthentication"], read["kbdinteractiveauthentication"]) == ("no", "no")


def test_without_an_agent_the_key_s_file_is_named_and_no_agent_is_asked() -> None:
    options = dict(ssh.options(lease(agent="")))

    assert (options["IdentityAgent"], options["IdentityFile"]) == ("none", '"/run/lease/id"')


@pytest.mark.parametrize("folder", ['/run/quo"te', "/run/back\\slash", "/run/line\nend", "/run/${HOME}"])
def test_a_path_that_ssh_cannot_be_told_is_refused(folder: str) -> None:
    with pytest.raises(Misconfigured, match="ssh cannot be told"):
        ssh.options(lease(folder))


def test_a_user_of_the_caller_s_goes_before_that_of_the_lease() -> None:
    assert "User=ec2-user" in ssh.arguments(lease())
    assert "User=ec2-user" not in ssh.arguments(lease(), user=False)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], False),
        (["uptime", "-l", "x"], False),
        (["-v", "-l", "root"], True),
        (["-vlroot"], True),
        (["-o", "User=root", "id"], True),
        (["-L", "8080:localhost:80", "-N"], False),
        (["-p", "22", "--", "-l"], False),
        (["-Z"], False),
    ],
)
def test_whether_the_caller_says_as_whom_to_log_in(words: list[str], *, expected: bool) -> None:
    assert ssh.names_a_user(words) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("user x\nproxyjump bastion\n", True),
        ("proxycommand nc %h %p\n", True),
        ("proxycommand none\nproxyjump none\n", False),
        ("hostname x\ngatewayports\n", False),
        ("", False),
    ],
)
def test_a_proxy_is_read_from_what_ssh_shows(text: str, *, expected: bool) -> None:
    assert ssh.goes_through_a_proxy(text) is expected


def test_a_port_that_opens_late_is_waited_for() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port, said = server.getsockname()[1], list[str]()
        pauses = iter([lambda: None, server.listen])
        ssh.await_port(lease(host="127.0.0.1", port=port), 60, said.append, sleep=lambda _: next(pauses)())

    assert len(said) == 1
    assert said[0].startswith(f"127.0.0.1 port {port}: connection refused; waiting for it, ")


def test_a_port_that_never_opens_is_said() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port, now = server.getsockname()[1], [0.0]
        said: list[str] = []

        def sleep(seconds: float) -> None:
            now[0] += seconds

        with pytest.raises(NotReady, match=r"does not take connections \(connection refused\)"):
            ssh.await_port(lease(host="127.0.0.1", port=port), 45, said.append, sleep=sleep, clock=lambda: now[0])

    assert (now[0], len(said)) == (45, 3)


def test_the_token_is_not_handed_to_ssh() -> None:
    given = ssh.child_environment({"BROKER_TOKEN": "x", "BROKER_URL": "u", "PATH": "/bin"}, "web-1")

    assert given == {"BROKER_URL": "u", "PATH": "/bin", "BROKER_SSH_PREPARED": "web-1"}
