"""`broker ssh` with a real ssh, real agents and a real sshd; only the service is a double."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.client import Answer, Authority, problem
from tests.real.door import ROUTE, Door, a_door, an_agent

from .conftest import TOKEN

pytestmark = pytest.mark.real("sshd", "ssh", "ssh-keygen")


@pytest.fixture
def door(authority: Authority) -> Iterator[Door]:
    with tempfile.TemporaryDirectory(prefix="door-") as folder, a_door(Path(folder), authority, TOKEN) as opened:
        opened.open()
        yield opened


def test_a_person_gets_in_and_the_key_is_in_no_file(door: Door) -> None:
    ended = door.broker("ssh", "web-1", "--reason", "disk is full", "--", "id -un; cat", TZ="UTC")

    assert (ended.returncode, ended.stdout) == (0, f"{door.sshd.user}\n"), ended.stderr
    assert ended.stderr == "broker: web-1 is open until 2030-01-01 00:13\n"
    assert door.asked() == [{"instance": "web-1", "protocol": "ssh", "reason": "disk is full"}]
    assert door.sshd.logged("Accepted publickey")
    kept = b"".join(path.read_bytes() for path in door.kept())
    assert b"ssh-rsa-cert" in kept
    assert b"PRIVATE" not in kept


@pytest.mark.parametrize("mine", [True, False])
def test_the_second_time_nothing_is_asked_for_and_nothing_is_said(door: Door, *, mine: bool) -> None:
    with an_agent(door.folder) as own:
        agent = own if mine else None
        first, second = (door.broker("ssh", "web-1", "--", "echo in", SSH_AUTH_SOCK=agent) for _ in range(2))
        for ended in (first, second):
            assert (ended.returncode, ended.stdout) == (0, "in\n"), ended.stderr
        listed = door.run(["ssh-add", "-l"], SSH_AUTH_SOCK=own)

    assert (second.stderr, len(door.asked())) == ("", 1)
    assert ("RSA-CERT" in listed.stdout) is mine


@pytest.mark.parametrize(
    ("command", "code"), [("true", 0), ("exit 3", 3), ("exit 130", 130), ("exit 255", 255), ("nonsense-command", 127)]
)
def test_the_exit_code_is_that_of_ssh(command: str, code: int, door: Door) -> None:
    ended = door.broker("ssh", "web-1", "--", command)

    assert ended.returncode == code
    assert ("`broker doctor web-1`" in ended.stderr) is (code == 255)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_ssh_that_a_signal_ends_is_reported_as_by_a_shell(number: signal.Signals, door: Door) -> None:
    (door.folder / "bin" / "ssh").write_text(f"#!/bin/sh\nkill -{number.value} $$\n")

    assert door.broker("ssh", "web-1").returncode == 128 + number


def test_options_and_what_stands_behind_the_dashes_go_to_ssh_untouched(door: Door) -> None:
    words = door.folder / "words"
    (door.folder / "bin" / "ssh").write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" >{words}\n")
    door.broker("ssh", "--ticket", "OPS-7", "web-1", "--wait", "1s", "--", "-v", "a b", "--", "--reason", "$HOME", "-l")
    given = words.read_text().splitlines()

    assert given[given.index("web-1") :] == ["web-1", "-v", "a b", "--", "--reason", "$HOME", "-l"]
    assert f"User={door.sshd.user}" in given
    assert door.asked()[0]["ticket"] == "OPS-7"
    assert TOKEN not in words.read_text()


def test_another_user_may_be_named(door: Door) -> None:
    ended = door.broker("ssh", "web-1", "--", "-l", "nobody-here", "id")

    assert ended.returncode == 255
    assert door.sshd.logged("Invalid user nobody-here")


def test_the_token_is_not_in_the_environment_of_ssh_whether_the_lease_is_new_or_not(door: Door) -> None:
    found = door.folder / "found"
    (door.folder / "bin" / "ssh").write_text(f"#!/bin/sh\nenv >{found}\n")
    for _ in range(2):
        assert door.broker("ssh", "web-1").returncode == 0
        assert "BROKER_URL" in found.read_text()
        assert "BROKER_TOKEN" not in found.read_text()
        found.unlink()
    assert len(door.asked()) == 1


def test_the_person_s_own_configuration_applies_too(door: Door) -> None:
    door.config.write_text(
        "Host web-1\n  SetEnv BROKER_TEST=x\n  LogLevel VERBOSE\n  User wrong\n  StrictHostKeyChecking no\n"
    )
    ended = door.broker("ssh", "web-1", "--", "id -un")

    assert (ended.returncode, ended.stdout) == (0, f"{door.sshd.user}\n")
    assert "Authenticated to 127.0.0.1" in ended.stderr  # which is what VERBOSE says


def test_a_host_with_another_key_is_not_logged_in_to(door: Door) -> None:
    foreign = door.folder / "foreign"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", foreign], check=True)
    key = " ".join((door.folder / "foreign.pub").read_text().split()[:2])
    door.open(known_hosts=[f"[127.0.0.1]:{door.sshd.port} {key}"])
    door.config.write_text("StrictHostKeyChecking no\n")
    ended = door.broker("ssh", "web-1", "--", "id")

    assert (ended.returncode, ended.stdout) == (255, "")
    assert "HOST IDENTIFICATION HAS CHANGED" in ended.stderr
    assert not door.sshd.logged("Accepted")


def test_a_fresh_instance_without_known_host_keys_is_waited_for(door: Door) -> None:
    door.service.tell(ROUTE, door.credential(known_hosts=[]))
    ended = door.broker("ssh", "web-1", "--wait", "1s")
    assert ended.returncode == 4
    assert "AWS does not know the host keys of the instance yet" in ended.stderr
    assert not [path for path in door.kept() if path.name == "lease.json"]


def test_an_instance_that_boots_is_waited_for_and_asked_for_under_one_key(door: Door) -> None:
    booting = problem(409, "instance_not_running", "The instance is starting.", retry_after=1)
    door.service.tell(ROUTE, booting, booting, door.credential())
    ended = door.broker("ssh", "web-1", "--", "true")

    assert ended.returncode == 0
    assert ended.stderr.splitlines()[:2] == ["broker: The instance is starting. (trying again in 1 s)"] * 2
    keys = {seen.headers["idempotency-key"] for seen in door.service.seen if seen.path == "/v1/credentials"}
    assert (len(door.asked()), len(keys)) == (3, 1)


def test_a_port_that_does_not_answer_is_said_and_ends_as_not_ready(door: Door) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        document: Any = door.credential().document
        line = door.sshd.known_hosts_line.replace(str(door.sshd.port), str(port))
        document |= {"port": port, "ssh": document["ssh"] | {"known_hosts": [line]}}
        door.service.tell(ROUTE, Answer(document, 201))
        ended = door.broker("ssh", "web-1", "--wait", "2s")
        proxied = door.broker("ssh", "web-1", "--", "-o", f"ProxyCommand=nc 127.0.0.1 {port}")

    assert ended.returncode == 4
    assert f"127.0.0.1 port {port}: connection refused; waiting for it" in ended.stderr
    assert f"127.0.0.1 port {port} does not take connections (connection refused)" in ended.stderr
    assert (proxied.returncode, "waiting" in proxied.stderr) == (255, False)  # ssh itself was let try


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (problem(403, "denied", "Access is denied."), 3, "`broker ls` shows"),
        (problem(403, "reason_required", "A reason is required."), 6, "--reason TEXT"),
        (problem(409, "host_key_changed", "The host key changed."), 5, "host_key_changed"),
        (problem(409, "protocol_not_supported", "No."), 2, "`broker rdp web-1`"),
        (problem(503, "audit_unavailable", "The log cannot be written."), 7, "audit_unavailable"),
    ],
)
def test_a_refusal_has_its_exit_code_and_says_what_to_do(answer: Answer, code: int, said: str, door: Door) -> None:
    door.service.tell(ROUTE, answer)
    ended = door.broker("ssh", "web-1")

    assert (ended.returncode, ended.stdout) == (code, "")
    assert said in ended.stderr


@pytest.mark.parametrize("name", ["-oProxyCommand=x", "web-1;id", "a b", "root@web-1", "a/b", "$(id)", ""])
def test_what_is_no_name_is_not_even_asked_for(name: str, door: Door) -> None:
    ended = door.broker("ssh", *([name] if not name.startswith("-") else ["--wait=0s", f"./{name}"]))

    assert ended.returncode == 2
    assert door.asked() == []


def test_without_ssh_that_is_said_before_anything_is_issued(door: Door) -> None:
    ended = door.broker("ssh", "web-1", PATH=str(door.folder))

    assert (ended.returncode, door.asked()) == (2, [])
    assert "there is no ssh on this machine" in ended.stderr


def test_after_its_end_a_credential_is_replaced_and_the_old_key_is_gone(door: Door) -> None:
    door.open(lifetime=3)
    assert door.broker("ssh", "web-1", "--", "true").returncode == 0
    (state,) = [json.loads(path.read_text()) for path in door.kept() if path.name == "lease.json"]
    time.sleep(3)
    listed = door.run(["ssh-add", "-l"], SSH_AUTH_SOCK=state["agent"])
    assert "RSA-CERT" not in listed.stdout
    ended = door.broker("ssh", "web-1", "--", "true")

    assert (ended.returncode, len(door.asked())) == (0, 2)


def test_twenty_at_once_share_one_credential(door: Door) -> None:
    answer = door.credential()
    gate = threading.Event()
    door.service.tell(ROUTE, Answer(answer.document, 201, gate=gate))
    command = [sys.executable, "-m", "broker", "ssh", "web-1", "--", "echo in"]
    processes = [
        subprocess.Popen(
            command, env=door.environment, cwd=door.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        for _ in range(20)
    ]
    while not door.asked():
        time.sleep(0.05)
    gate.set()
    outputs = [process.communicate(timeout=100)[0] for process in processes]

    assert len(door.asked()) == 1
    assert [process.returncode for process in processes] == [0] * 20
    assert outputs == ["in\n"] * 20


def started(door: Door, script: str) -> subprocess.Popen[bytes]:
    """Start `broker ssh` with a program in the place of ssh that says when it is up."""
    up = door.folder / "up"
    (door.folder / "bin" / "ssh").write_text(f"#!/bin/sh\n{script} & echo $! >{up}.new; mv {up}.new {up}; wait; wait\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "broker", "ssh", "web-1"],
        env=door.environment,
        cwd=door.folder,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not up.exists():
        time.sleep(0.02)
    return process


def test_an_interrupt_is_for_ssh_and_not_for_us(door: Door) -> None:
    process = started(door, "trap 'kill $!; exit 7' INT; sleep 30")
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does: to everybody in the foreground

    assert process.wait(20) == 7


def test_what_ends_us_ends_ssh(door: Door) -> None:
    process = started(door, "trap 'kill $!; exit 9' TERM; sleep 30")
    process.terminate()

    assert process.wait(20) == 9


def test_where_there_is_no_agent_a_file_has_the_key_and_ssh_gets_in(door: Door) -> None:
    programs = door.folder / "bin"
    for name in ("nc", "sh", "id", "sleep"):
        (programs / name).symlink_to(shutil.which(name) or name)
    ended = door.broker("ssh", "web-1", "--", "id -un", PATH=str(programs))

    assert (ended.returncode, ended.stdout) == (0, f"{door.sshd.user}\n"), ended.stderr
    assert "no ssh-agent can be had on this machine, so the key is in a file" in ended.stderr


def test_the_help_shows_where_the_arguments_of_ssh_go(door: Door) -> None:
    shown = door.broker("ssh", "--help").stdout

    assert "[-- SSH-ARGS]" in shown
    assert "BROKER_REASON" in shown
