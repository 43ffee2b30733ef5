"""Waiting, as a person sees it."""

import io
import os
import pty
import re
import signal
import subprocess
import sys
import time

import pytest

from broker.cli.output import Progress
from tests.doubles.client import ServiceDouble, problem

from .conftest import Terminal

NOT_YET = problem(409, "password_not_ready", "Not yet.", retry_after=3)


class Shown:
    """`broker get` on a terminal of its own."""

    def __init__(self, terminal: Terminal, wait: str, **variables: str) -> None:
        self._ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "broker", "get", "win-1", "--wait", wait]
        environment = {**terminal.environment, "TERM": "xterm", "COLUMNS": "80", **variables}
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=theirs)
        os.close(theirs)
        self.text = ""

    def until(self, pattern: str) -> None:
        """Read until this has been shown."""
        deadline = time.monotonic() + 20
        while not re.search(pattern, self.text) and time.monotonic() < deadline:
            self.text += os.read(self._ours, 4096).decode()

    def end(self) -> int:
        """Read to the end; answer the exit code."""
        while True:
            try:
                more = os.read(self._ours, 4096).decode()
            except OSError:  # how Linux ends a terminal that nobody has open any more
                break
            self.text += more
        os.close(self._ours)
        self.process.communicate(timeout=20)
        return self.process.returncode


def test_the_line_is_written_anew_and_wiped_away(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("POST /v1/credentials", NOT_YET, problem(403, "denied", "Now it is no."))
    shown = Shown(terminal, "1m", NO_COLOR="1")
    code = shown.end()

    progress, _, after = shown.text.rpartition("\rbroker: Not yet.")
    assert code == 3
    assert len(set(re.findall(r"(\d+m\d+s) left", progress))) >= 2
    assert "\n" not in progress
    assert "\x1b" not in shown.text
    assert re.fullmatch(r".*left\r {79}\rbroker: Now it is no\..*", after, re.DOTALL)


def test_ctrl_c_ends_it_at_once_on_a_clean_line(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("POST /v1/credentials", problem(409, "password_not_ready", "Not yet.", retry_after=600))
    shown = Shown(terminal, "1h")
    shown.until("left")
    shown.process.send_signal(signal.SIGINT)

    assert shown.end() == 130
    assert shown.text.endswith("\r" + " " * 79 + "\r")


def test_a_dumb_terminal_gets_plain_lines(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("POST /v1/credentials", problem(409, "password_not_ready", "Not yet.", retry_after=1), NOT_YET)
    shown = Shown(terminal, "2s", TERM="dumb")

    assert shown.end() == 4
    assert shown.text.startswith("broker: Not yet. (trying again in 1 s)\r\nbroker: Not yet. (password_not_ready)")


def test_what_is_no_terminal_gets_plain_lines() -> None:
    stream = io.StringIO()
    with Progress(60, stream) as progress:
        progress.notice("Not\x1b yet.")
        progress.sleep(0)

    assert stream.getvalue() == "broker: Not yet.\n"


@pytest.mark.parametrize("variable", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_only_an_error_on_a_terminal_that_likes_it_is_red(variable: dict[str, str], terminal: Terminal) -> None:
    shown = Shown(terminal, "0s", BROKER_URL="", **variable)

    assert shown.end() == 2
    assert shown.text.startswith("broker:" if variable else "\x1b[31mbroker:\x1b[0m")
    assert "\x1b" not in terminal.broker("ls", BROKER_URL="", TERM="xterm").stderr
