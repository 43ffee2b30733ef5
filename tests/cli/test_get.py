import json
import os
import pty
import shlex
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from broker.client.variables import quoted
from broker.delivery.credentials import LOGIN_ONLY
from tests.doubles.client import (
    Answer,
    Authority,
    ServiceDouble,
    problem,
    rdp_credential,
    ssh_credential,
)

from .conftest import TOKEN, Terminal

ROUTE = "POST /v1/credentials"
NASTY = """it's "$HOME" `id` $(id) \\n ; & | * ? ~ é
last"""


@pytest.fixture(scope="session")
def credential() -> Any:  # a document of JSON
    return ssh_credential()


def test_the_answer_of_the_service_is_printed_as_json(
    terminal: Terminal,
    service: ServiceDouble,
    credential: Any,
) -> None:
    service.tell(ROUTE, Answer(credential, 201))
    ended = terminal.broker("get", "web-1", "--reason", "deploy", "--ticket", "OPS-7", "--protocol", "ssh")

    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout) == credential
    assert list(json.loads(ended.stdout)) == list(credential)
    assert service.seen[0].body == {"instance": "web-1", "protocol": "ssh", "reason": "deploy", "ticket": "OPS-7"}


def test_warnings_are_said_beside_the_data(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell(ROUTE, Answer(rdp_credential("pw"), 201))
    ended = terminal.broker("get", "win-1", "--break-glass")

    assert ended.stderr == "broker: warning: The password lives on after the lease.\n"
    assert json.loads(ended.stdout)["rdp"]["password"] == "pw"
    assert service.seen[0].body["break_glass"] is True


def test_what_is_true_of_every_certificate_is_not_said_each_time(
    terminal: Terminal, service: ServiceDouble, credential: Any
) -> None:
    warnings = [LOGIN_ONLY, "Something else."]
    service.tell(ROUTE, Answer(credential | {"warnings": warnings}, 201))
    ended = terminal.broker("get", "web-1")

    assert ended.stderr == "broker: warning: Something else.\n"
    assert json.loads(ended.stdout)["warnings"] == warnings


def test_a_shell_gets_back_exactly_what_was_issued(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell(ROUTE, Answer(rdp_credential(NASTY), 201))
    lines = terminal.broker("get", "win-1", "--format", "env").stdout
    names = ["PASSWORD", "HOST", "PORT", "USERNAME", "PROTOCOL", "PRIVATE_KEY"]
    script = 'BROKER_PRIVATE_KEY=stale; eval "$1"; printf "%s|" ' + " ".join(f'"$BROKER_{name}"' for name in names)
    ended = subprocess.run(["sh", "-c", script, "sh", lines], capture_output=True, text=True, check=True)

    assert ended.stdout == f"{NASTY}|127.0.0.1|3389|Administrator|rdp||"


@pytest.mark.parametrize("text", [NASTY, "", "'", "''", "'\\''", "-n", "!x", "#", "\x1b[2J", "\r\n", "$'a'", "a\\"])
def test_quoting_holds_in_every_shell(text: str) -> None:
    for shell in ("sh", "bash"):
        script = f"eval {shlex.quote(f'X={quoted(text)}')}; printf '%s|' \"$X\""
        ended = subprocess.run([shell, "-c", script], capture_output=True, check=True)
        assert ended.stdout.decode() == f"{text}|"


def test_the_key_of_ssh_comes_through_a_shell_unchanged(
    terminal: Terminal,
    service: ServiceDouble,
    credential: Any,
) -> None:
    service.tell(ROUTE, Answer(credential, 201))
    lines = terminal.broker("get", "web-1", "--format", "env").stdout
    script = (
        'eval "$1"; printf "%s|" "$BROKER_PRIVATE_KEY" "$BROKER_CERTIFICATE" "$BROKER_KNOWN_HOSTS" "$BROKER_INSTANCE"'
    )
    ended = subprocess.run(["sh", "-c", script, "sh", lines], capture_output=True, text=True, check=True)

    ssh = credential["ssh"]
    wanted = [ssh["private_key"], ssh["certificate"], ssh["known_hosts"][0], "main/eu-west-1/web-1", ""]
    assert ended.stdout.split("|") == wanted


def test_files_are_written_and_named(terminal: Terminal, service: ServiceDouble, credential: Any) -> None:
    service.tell(ROUTE, Answer(credential, 201))
    ended = terminal.broker("get", "web-1", "--format", "files", "--output", "out", TZ="UTC")
    told = json.loads(ended.stdout)

    assert ended.returncode == 0
    assert Path(told["directory"]) == terminal.folder / "out" / "web-1"
    assert stat.S_IMODE(Path(told["files"]["private_key"]).stat().st_mode) == 0o600
    assert told["command"] == ["ssh", "-F", told["files"]["ssh_config"], "web-1"]
    assert told["expires_at"] == "2030-01-01T00:13:00.000Z"
    assert ended.stderr.splitlines() == [
        f"broker: the files are in {told['directory']}, for access until 2030-01-01 00:13",
        f"  {shlex.join(told['command'])}",
    ]
    assert "PRIVATE KEY" not in ended.stdout + ended.stderr


def test_an_output_means_files(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell(ROUTE, Answer(rdp_credential("secret password"), 201))
    ended = terminal.broker("get", "main/eu-west-1/win-1", "--output", ".")

    folder = terminal.folder / "main" / "eu-west-1" / "win-1"
    assert (folder / "password").read_text() == "secret password"
    assert "secret password" not in ended.stdout + ended.stderr
    assert f"open {folder}/win-1.rdp; the password of Administrator is in {folder}/password" in ended.stderr
    assert "command" not in json.loads(ended.stdout)


def test_on_a_terminal_files_are_told_in_words_alone(
    terminal: Terminal, service: ServiceDouble, credential: Any
) -> None:
    service.tell(ROUTE, Answer(credential, 201))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "broker", "get", "web-1", "--output", str(terminal.folder)]
    ended = subprocess.run(
        command, env=dict(terminal.environment), stdout=theirs, stderr=subprocess.PIPE, text=True, check=True
    )
    os.set_blocking(ours, False)
    with pytest.raises(BlockingIOError):
        os.read(ours, 1)
    os.close(ours)
    os.close(theirs)

    assert ended.stderr.splitlines()[1] == f"  ssh -F {terminal.folder}/web-1/ssh_config web-1"


@pytest.mark.parametrize("name", ["eu-west-1/web-1", "/web-1", "a/b/c/d"])
def test_what_names_no_instance_is_wrong_usage(name: str, terminal: Terminal, service: ServiceDouble) -> None:
    for form in ("json", "files"):
        ended = terminal.broker("get", name, "--format", form)
        assert ended.returncode == 2
        assert ended.stderr == "broker: this names no instance: write NAME or ACCOUNT/REGION/NAME\n"
    assert not service.seen


@pytest.mark.parametrize(
    ("code", "following", "options"),
    [
        ("reason_required", "To get in, give a reason.", "--reason TEXT"),
        ("ticket_required", "", "--ticket ID"),
        ("reason_required", "To get in, give a reason and give a ticket.", "--reason TEXT --ticket ID"),
        ("step_up_required", "To get in, log in again and give a ticket.", "--ticket ID"),
    ],
)
def test_what_is_asked_for_is_named_as_an_option(
    code: str, following: str, options: str, terminal: Terminal, service: ServiceDouble
) -> None:
    service.tell(ROUTE, problem(403, code, next=following))

    said = terminal.broker("get", "web-1").stderr
    assert f"broker get web-1 {options}\n" in said.partition("broker:   type: ")[2]


def test_whoever_is_denied_is_told_where_to_look(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell(ROUTE, problem(403, "denied"))

    assert "broker:   next: `broker ls` shows what you may reach\n" in terminal.broker("get", "web-1").stderr


def test_a_token_that_is_not_taken_says_what_to_do(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell(ROUTE, problem(401, "invalid_token"))
    ended = terminal.broker("get", "web-1")

    assert ended.returncode == 3
    assert "next: get a new token and put it into BROKER_TOKEN; if that is refused too, give an" in ended.stderr
    assert "request: req-1" in ended.stderr


def test_nothing_is_asked_for_that_cannot_be_kept(terminal: Terminal, service: ServiceDouble) -> None:
    (terminal.folder / "web-1").mkdir(mode=0o755)
    (terminal.folder / "file").touch()
    for place in (".", "file"):
        assert terminal.broker("get", "web-1", "--output", place).returncode == 2
    assert terminal.broker("get", "web-1", "--output", ".", "--format", "json").returncode == 2
    assert not service.seen


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        (400, "invalid_request", 2),
        (403, "denied", 3),
        (409, "password_not_ready", 4),
        (409, "host_key_changed", 5),
        (401, "step_up_required", 6),
        (503, "audit_unavailable", 7),
        (504, "", 7),
    ],
)
def test_each_refusal_has_its_exit_code(
    status: int, code: str, exit_code: int, terminal: Terminal, service: ServiceDouble
) -> None:
    service.tell(ROUTE, problem(status, code, "It is so.", next="Do this."))
    ended = terminal.broker("get", "web-1")

    assert (ended.returncode, ended.stdout) == (exit_code, "")
    said = [line for line in ended.stderr.splitlines() if not line.startswith("broker:   type: ")]
    assert said == [
        f"broker: It is so. ({code or f'HTTP {status}'})",
        "broker:   next: Do this.",
        "broker:   request: req-1",
    ]


def test_the_words_of_the_service_cannot_play_with_the_terminal(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell(ROUTE, problem(403, "denied", "a\x1b[2Jb\x9bc\u202ed\ne", choices=["\x07x"]))

    assert terminal.broker("get", "web-1").stderr.startswith("broker: a[2Jbcde (denied)\nbroker:   choose: x\n")


def test_a_certificate_that_does_not_hold_is_an_identity_mismatch(terminal: Terminal, service: ServiceDouble) -> None:
    ended = terminal.broker("get", "web-1", BROKER_CA_FILE=None)

    assert ended.returncode == 5
    assert "BROKER_CA_FILE" in ended.stderr
    assert not service.seen


@pytest.mark.parametrize(
    ("changes", "variable"),
    [
        ({"BROKER_URL": None}, "BROKER_URL"),
        ({"BROKER_URL": "http://broker.example.com"}, "https://"),
        ({"BROKER_TOKEN": "two words"}, "BROKER_TOKEN"),
        ({"BROKER_TOKEN": None, "BROKER_TOKEN_FILE": "missing"}, "BROKER_TOKEN_FILE"),
        ({"BROKER_CA_FILE": "missing"}, "BROKER_CA_FILE"),
    ],
)
def test_an_environment_that_cannot_work_is_wrong_usage(
    changes: dict[str, str | None], variable: str, terminal: Terminal, service: ServiceDouble
) -> None:
    ended = terminal.broker("get", "web-1", **changes)

    assert ended.returncode == 2
    assert len([line for line in ended.stderr.splitlines() if not line.startswith("broker:   ")]) == 1
    assert variable in ended.stderr
    assert not service.seen


@pytest.mark.parametrize("key", ["a\r\nX-Other: y", "a\x1b", "ключ"])
def test_an_odd_idempotency_key_is_wrong_usage(key: str, terminal: Terminal, service: ServiceDouble) -> None:
    ended = terminal.broker("get", "web-1", "--idempotency-key", key)

    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert not service.seen


def test_nobody_there_is_unavailable(terminal: Terminal) -> None:
    ended = terminal.broker("get", "web-1", BROKER_URL="https://broker.invalid")

    assert ended.returncode == 7
    assert ended.stderr.splitlines() == [
        "broker: broker.invalid:443 cannot be found: no such host name",
        "broker:   next: is the address https://broker.invalid (in BROKER_URL) right, and does the service run?",
        f"broker:   type: curl -sS --cacert {terminal.environment['BROKER_CA_FILE']} https://broker.invalid/readyz",
    ]


@pytest.mark.parametrize(
    "words",
    [
        ["get"],
        ["get", "a", "b"],
        ["get", "x", "--wait", "5"],
        ["get", "x", "--wait", "soon"],
        ["get", "x", "--wai", "5m"],
    ],
)
def test_what_is_not_understood_is_wrong_usage(words: list[str], terminal: Terminal, service: ServiceDouble) -> None:
    ended = terminal.broker(*words)

    assert ended.returncode == 2
    assert ended.stderr.startswith("broker get: ")
    assert ended.stderr.endswith("; see broker get --help\n")
    assert ended.stderr.count("\n") == 1
    assert not service.seen


def test_waiting_asks_again_under_the_same_key(
    terminal: Terminal,
    service: ServiceDouble,
    credential: Any,
) -> None:
    not_ready = problem(409, "password_not_ready", "Not yet.", retry_after=1)
    service.tell(ROUTE, not_ready, not_ready, Answer(credential, 201))
    begun = time.monotonic()
    ended = terminal.broker("get", "web-1", "--wait", "1m")

    assert ended.returncode == 0
    assert ended.stderr == "broker: Not yet. (trying again in 1 s)\n" * 2
    assert len({seen.headers["idempotency-key"] for seen in service.seen}) == 1
    assert 2 <= time.monotonic() - begun < 20


def test_waiting_ends_when_the_time_is_over(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell(ROUTE, problem(409, "password_not_ready", retry_after=10))
    ended = terminal.broker("get", "web-1", "--wait", "9s")

    assert ended.returncode == 4
    assert "wait: 10 s" in ended.stderr
    assert len(service.seen) == 1


def test_a_key_of_ones_own_repeats_an_earlier_call(terminal: Terminal, service: ServiceDouble) -> None:
    terminal.broker("get", "web-1", "--idempotency-key", "build-7")

    assert service.seen[0].headers["idempotency-key"] == "build-7"


def test_an_interrupt_ends_it_at_once(terminal: Terminal, service: ServiceDouble) -> None:
    gate = threading.Event()
    service.tell(ROUTE, Answer({}, gate=gate))
    with terminal.start("get", "web-1") as process:
        _until(lambda: bool(service.seen))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    gate.set()

    assert (process.returncode, out, err) == (130, "", "")


def test_the_token_is_in_no_command_line(terminal: Terminal, service: ServiceDouble) -> None:
    gate = threading.Event()
    service.tell(ROUTE, Answer(ssh_credential(), gate=gate))
    with terminal.start("get", "web-1") as process:
        _until(lambda: bool(service.seen))
        shown = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True).stdout
        gate.set()
        process.communicate(timeout=10)

    assert "broker.cli.main get web-1" in shown
    assert TOKEN not in shown
    assert service.seen[0].headers["authorization"] == f"Bearer {TOKEN}"


def test_a_token_file_that_others_can_read_is_warned_of(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell(ROUTE, problem(403, "denied"))
    file = terminal.folder / "token"
    file.write_text(TOKEN)
    for mode, warned in ((0o644, True), (0o640, True), (0o600, False)):
        file.chmod(mode)
        ended = terminal.broker("get", "web-1", BROKER_TOKEN=None, BROKER_TOKEN_FILE=str(file))
        assert ("warning" in ended.stderr) is warned
        assert ended.returncode == 3


def test_a_client_certificate_is_shown(terminal: Terminal, authority: Authority) -> None:
    certificate, key = authority.client
    with ServiceDouble(authority.server_context(ask_for_certificate=True)) as double:
        double.tell(ROUTE, problem(403, "denied"))
        ended = terminal.broker(
            "get", "web-1", BROKER_URL=double.url, BROKER_CLIENT_CERT=certificate, BROKER_CLIENT_KEY=key
        )

    assert ended.returncode == 3


def _until(condition: Any, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_who_is_not_logged_in_and_has_no_token_is_told_what_to_type(terminal: Terminal, service: ServiceDouble) -> None:
    ended = terminal.broker("get", "web-1", BROKER_TOKEN=None)

    assert (ended.returncode, ended.stdout) == (3, "")
    assert "broker login" in ended.stderr
    assert service.seen == []
