"""`broker exec`: a credential for one program, gone when it ends."""

import json
import os
import signal
import stat
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.client import Answer, ServiceDouble, problem, rdp_credential, ssh_credential

from .conftest import TOKEN, Terminal

ROUTE = "POST /v1/credentials"
SHOW = "import json, os; print(json.dumps({k: v for k, v in os.environ.items() if k.startswith('BROKER_')}))"
READ = """
import json, os, stat
files = {k: v for k, v in os.environ.items() if k.endswith(("_FILE", "_CONFIG")) and k != "BROKER_CA_FILE"}
print(json.dumps({k: [v, stat.S_IMODE(os.stat(v).st_mode), open(v).read()] for k, v in files.items()}))
"""


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    folder = tmp_path / "runtime"
    folder.mkdir(mode=0o700)
    return folder


def test_files_are_there_while_the_program_runs_and_not_after(
    terminal: Terminal, service: ServiceDouble, runtime: Path
) -> None:
    credential = ssh_credential()
    service.tell(ROUTE, Answer(credential, 201))
    ended = terminal.broker("exec", "web-1", "--", sys.executable, "-c", READ, XDG_RUNTIME_DIR=str(runtime))

    assert (ended.returncode, ended.stderr) == (0, "")
    found: dict[str, Any] = json.loads(ended.stdout)
    assert found["BROKER_PRIVATE_KEY_FILE"][2] == credential["ssh"]["private_key"]
    assert found["BROKER_CERTIFICATE_FILE"][2].strip() == credential["ssh"]["certificate"]
    assert {mode for _, mode, _ in found.values()} == {stat.S_IRUSR | stat.S_IWUSR}
    assert all(path.startswith(str(runtime)) for path, _, _ in found.values())
    assert list(runtime.iterdir()) == []


def test_the_password_of_windows_is_a_file_of_its_own(
    terminal: Terminal, service: ServiceDouble, runtime: Path
) -> None:
    service.tell(ROUTE, Answer(rdp_credential("pw of win-1"), 201))
    ended = terminal.broker("exec", "win-1", "--", sys.executable, "-c", READ, XDG_RUNTIME_DIR=str(runtime))

    assert json.loads(ended.stdout)["BROKER_PASSWORD_FILE"][2] == "pw of win-1"


def test_variables_are_there_when_they_are_asked_for(terminal: Terminal, service: ServiceDouble) -> None:
    credential = ssh_credential()
    service.tell(ROUTE, Answer(credential, 201))
    ended = terminal.broker("exec", "web-1", "--format", "env", "--", sys.executable, "-c", SHOW)

    found = json.loads(ended.stdout)
    assert found["BROKER_PRIVATE_KEY"] == credential["ssh"]["private_key"]
    assert (found["BROKER_HOST"], found["BROKER_PORT"]) == ("127.0.0.1", "2222")
    assert "BROKER_TOKEN" not in found


def test_with_files_no_secret_is_in_the_environment(terminal: Terminal, service: ServiceDouble, runtime: Path) -> None:
    service.tell(ROUTE, Answer(ssh_credential(), 201))
    stale = {"BROKER_PRIVATE_KEY": "of an enclosing one", "BROKER_PASSWORD": "of an enclosing one"}
    ended = terminal.broker("exec", "web-1", "--", sys.executable, "-c", SHOW, XDG_RUNTIME_DIR=str(runtime), **stale)

    assert "PRIVATE KEY-----" not in ended.stdout
    assert "enclosing" not in ended.stdout
    assert json.loads(ended.stdout)["BROKER_INSTANCE"] == "main/eu-west-1/web-1"


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 3", 3), ("exit 255", 255), ("kill -KILL $$", 137)])
def test_the_exit_code_is_that_of_the_program(
    script: str, code: int, terminal: Terminal, service: ServiceDouble, runtime: Path
) -> None:
    service.tell(ROUTE, Answer(ssh_credential(), 201))
    ended = terminal.broker("exec", "web-1", "--", "sh", "-c", script, XDG_RUNTIME_DIR=str(runtime))

    assert ended.returncode == code
    assert list(runtime.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_reaches_the_program_and_the_files_still_go(
    number: signal.Signals, terminal: Terminal, service: ServiceDouble, runtime: Path, tmp_path: Path
) -> None:
    service.tell(ROUTE, Answer(ssh_credential(), 201))
    ready = tmp_path / "ready"
    script = f"trap 'exit 42' {number.name[3:]}; touch {ready}; while :; do sleep 0.05; done"
    with terminal.start("exec", "web-1", "--", "sh", "-c", script, XDG_RUNTIME_DIR=str(runtime)) as process:
        deadline = time.monotonic() + 20
        while not ready.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        assert process.wait(timeout=20) == 42
    assert list(runtime.iterdir()) == []


def test_no_number_of_signals_leaves_the_files_behind(
    terminal: Terminal, service: ServiceDouble, runtime: Path, tmp_path: Path
) -> None:
    service.tell(ROUTE, Answer(ssh_credential(), 201))
    ready = tmp_path / "ready"
    script = f"trap '' HUP; touch {ready}; sleep 1"
    with terminal.start("exec", "web-1", "--", "sh", "-c", script, XDG_RUNTIME_DIR=str(runtime)) as process:
        deadline = time.monotonic() + 20
        while not ready.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        while process.poll() is None:
            process.send_signal(signal.SIGHUP)
            time.sleep(0.002)
    assert list(runtime.iterdir()) == []


def test_a_signal_while_the_service_is_asked_leaves_nothing_behind(
    terminal: Terminal, service: ServiceDouble, runtime: Path
) -> None:
    gate = threading.Event()
    service.tell(ROUTE, Answer(ssh_credential(), 201, gate=gate))
    with terminal.start("exec", "web-1", "--", "true", XDG_RUNTIME_DIR=str(runtime)) as process:
        deadline = time.monotonic() + 20
        while not service.seen and time.monotonic() < deadline:
            time.sleep(0.02)
        assert list(runtime.iterdir()) != []
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 143
    gate.set()
    assert list(runtime.iterdir()) == []


def test_a_program_that_is_not_there_costs_no_credential(terminal: Terminal, service: ServiceDouble) -> None:
    ended = terminal.broker("exec", "web-1", "--", "no-such-program-here")

    assert (ended.returncode, ended.stdout) == (2, "")
    assert "no program 'no-such-program-here'" in ended.stderr
    assert service.seen == []


def test_a_refusal_runs_nothing_and_leaves_nothing(
    terminal: Terminal, service: ServiceDouble, runtime: Path, tmp_path: Path
) -> None:
    service.tell(ROUTE, problem(403, "denied"))
    ended = terminal.broker("exec", "web-1", "--", "touch", str(tmp_path / "ran"), XDG_RUNTIME_DIR=str(runtime))

    assert ended.returncode == 3
    assert not (tmp_path / "ran").exists()
    assert list(runtime.iterdir()) == []


def test_a_program_of_the_program_is_told_what_the_words_behind_the_dashes_say(
    terminal: Terminal, service: ServiceDouble, runtime: Path
) -> None:
    service.tell(ROUTE, Answer(ssh_credential(), 201))
    ended = terminal.broker(
        "exec", "web-1", "--reason", "r", "--", "printf", "%s|", "--reason", "--", "-x", XDG_RUNTIME_DIR=str(runtime)
    )

    assert ended.stdout == "--reason|--|-x|"
    assert service.seen[0].body == {"instance": "web-1", "reason": "r"}


def test_the_token_is_not_handed_on(terminal: Terminal, service: ServiceDouble, runtime: Path) -> None:
    service.tell(ROUTE, Answer(ssh_credential(), 201))
    ended = terminal.broker("exec", "web-1", "--", "env", XDG_RUNTIME_DIR=str(runtime))

    assert TOKEN not in ended.stdout
    assert os.environ["PATH"] in ended.stdout
