"""`broker rdp` with a real FreeRDP and a real server that authenticates; only the service is a double.

FreeRDP 3 and the clients of other systems are doubles: no package of theirs is to be had where these tests run.
"""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from broker.cli.launching import launch
from broker.client.rdp.clients import CLIENTS
from broker.client.rdp.session import Session
from tests.doubles.client import Answer, ServiceDouble, problem, rdp_credential
from tests.real.freerdp import RdpServer, self_signed

from .conftest import Terminal

PASSWORD = "?8h2!k,Z;=wQ: _T'r\"4u"
ROUTE = "POST /v1/credentials"
FREERDP3 = Path(__file__).parents[1] / "doubles" / "freerdp3.py"
TRIED = "AcceptSecurityContext"
"""What the server logs once somebody begins to authenticate."""

pytestmark = pytest.mark.real("freerdp")


class Windows:
    """An instance: a server, and what the service says of it."""

    def __init__(self, folder: Path) -> None:
        certificate, key, self.pin = self_signed()
        self.server = RdpServer(folder, password=PASSWORD, certificate=certificate, private_key=key)

    def credential(self, *, pins: list[str] | None = None, **members: object) -> Answer:
        document = rdp_credential(PASSWORD) | {"port": self.server.port}
        shown = [bytes.fromhex(self.pin).hex(":")] if pins is None else pins
        document["rdp"] |= {"certificate_sha256": shown, **members}
        return Answer(document, 201)

    def session(self, *pins: str) -> Session:
        return Session("127.0.0.1", self.server.port, "Administrator", PASSWORD, pins or (self.pin,))

    def logged(self, since: int) -> str:
        return self.server.log[since:]


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Windows]:
    instance = Windows(tmp_path_factory.mktemp("windows") / "rdp")
    with instance.server:
        yield instance


@pytest.fixture
def desk(terminal: Terminal, windows: Windows, service: ServiceDouble) -> Terminal:
    """A desktop with a screen, and the temporary folders of its own."""
    windows.server.revive()
    service.tell(ROUTE, windows.credential())
    for name in ("run", "bin"):
        (terminal.folder / name).mkdir(mode=0o700)
    own = {
        "PATH": f"{terminal.folder / 'bin'}:{os.environ['PATH']}",
        "DISPLAY": windows.server.screen,
        "XDG_RUNTIME_DIR": str(terminal.folder / "run"),
        "TMPDIR": str(terminal.folder / "run"),
        "FREERDP3_NOTES": str(terminal.folder / "notes"),
    }
    return Terminal({**terminal.environment, **own}, terminal.folder)


def a_program(desk: Terminal, name: str, script: str) -> None:
    path = desk.folder / "bin" / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)


def family(pid: int) -> list[int]:
    """Answer a process and all that came from it."""
    try:
        children = (Path("/proc") / str(pid) / "task" / str(pid) / "children").read_text().split()
    except OSError:
        return [pid]
    return [pid, *(each for child in children for each in family(int(child)))]


def shown_by(pid: int) -> bytes:
    """Answer what everybody, and what the same user, may read of a process: command line and environment."""
    found = b""
    for part in ("cmdline", "environ"):
        try:
            found += (Path("/proc") / str(pid) / part).read_bytes()
        except OSError:
            continue
    return found


def kept_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_the_password_lets_a_person_in(desk: Terminal, windows: Windows, service: ServiceDouble) -> None:
    since = len(windows.server.log)
    ended = windows.server.unhung(
        lambda: desk.broker("rdp", "win-1", "--reason", "patch day", "--ticket", "OPS-7", "--", "+auth-only")
    )

    assert ended.returncode == 0, ended.stderr
    assert TRIED in windows.logged(since)
    assert "verification failed" not in windows.logged(since)
    assert "broker: warning: The password lives on after the lease." in ended.stderr
    assert PASSWORD not in ended.stdout + ended.stderr
    asked = service.seen[-1].body
    assert asked == {"instance": "win-1", "protocol": "rdp", "reason": "patch day", "ticket": "OPS-7"}
    assert list((desk.folder / "run").iterdir()) == []


def test_another_certificate_is_refused_before_anything_is_sent(
    desk: Terminal, windows: Windows, service: ServiceDouble
) -> None:
    service.tell(ROUTE, windows.credential(pins=["00" * 32]))
    since = len(windows.server.log)
    ended = windows.server.unhung(lambda: desk.broker("rdp", "win-1", "--", "+auth-only"))
    assert ended.returncode == 5
    assert "No password was sent" in ended.stderr
    assert TRIED not in windows.logged(since)

    service.tell(ROUTE, windows.credential(pins=["00" * 32, windows.pin]))  # the same server, one pin more
    assert desk.broker("rdp", "win-1", "--", "+auth-only").returncode == 0
    assert TRIED in windows.logged(since)


def test_freerdp_itself_holds_to_the_pins_whatever_it_trusted_before(desk: Terminal, windows: Windows) -> None:
    environment = dict(desk.environment)
    client = next(each for each in CLIENTS if each.version == 2)
    words = [*client.plan("xfreerdp", windows.session(), ["+auth-only"], 0).words]
    trusting = [*(word for word in words if not word.startswith("/cert")), "/cert:tofu"]

    def code_of(words: list[str]) -> int:
        typed = f"{PASSWORD}\n"
        return subprocess.run(
            words, env=environment, input=typed, text=True, capture_output=True, check=False
        ).returncode

    assert windows.server.unhung(lambda: code_of(trusting)) == 0
    other = [*client.plan("xfreerdp", windows.session("00" * 32), ["+auth-only"], 0).words]
    assert windows.server.unhung(lambda: code_of(other)) == 0  # so its own settings outweigh the pins

    since = len(windows.server.log)
    strange, right = windows.session("00" * 32), windows.session()
    assert windows.server.unhung(lambda: launch(client, "xfreerdp", strange, ["+auth-only"], environment)) != 0
    assert TRIED not in windows.logged(since)
    assert windows.server.unhung(lambda: launch(client, "xfreerdp", right, ["+auth-only"], environment)) == 0


@pytest.fixture
def ipv6(windows: Windows) -> Iterator[int]:
    """The same server at an IPv6 address; the port."""
    with ExitStack() as opened:
        listening = opened.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6))

        def serve() -> None:
            while True:
                try:
                    one = opened.enter_context(listening.accept()[0])
                except OSError:
                    return
                other = opened.enter_context(socket.create_connection(("127.0.0.1", windows.server.port)))
                for pair in ((one, other), (other, one)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


def pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(65536):
            sink.sendall(chunk)
        sink.shutdown(socket.SHUT_WR)


def test_an_instance_with_an_ipv6_address_alone_is_opened(
    ipv6: int, desk: Terminal, windows: Windows, service: ServiceDouble
) -> None:
    answer = windows.credential()
    assert isinstance(answer.document, dict)
    answer.document.update(host="::1", port=ipv6)
    service.tell(ROUTE, answer)
    ended = windows.server.unhung(lambda: desk.broker("rdp", "win-1", "--", "+auth-only"))

    assert ended.returncode == 0, ended.stderr


def test_a_wrong_password_does_not_get_in(desk: Terminal, windows: Windows, service: ServiceDouble) -> None:
    service.tell(ROUTE, windows.credential(password="another"))
    since = len(windows.server.log)
    ended = windows.server.unhung(lambda: desk.broker("rdp", "win-1", "--", "+auth-only"))

    assert ended.returncode > 128
    assert "Message Integrity Check (MIC) verification failed" in windows.logged(since)
    assert "`broker doctor win-1`" in ended.stderr


def test_nothing_shows_the_password_while_a_session_runs_and_an_interrupt_ends_it(
    desk: Terminal, windows: Windows
) -> None:
    shown, kept, said = windows.server.unhung(lambda: a_session(desk, windows))

    assert b"/u:Administrator" in shown  # it was looked at
    assert b"XDG_CONFIG_HOME=" in shown
    assert PASSWORD.encode() not in shown + kept + said.encode()
    assert "Traceback" not in said
    assert list((desk.folder / "run").iterdir()) == []


def a_session(desk: Terminal, windows: Windows) -> tuple[bytes, bytes, str]:
    """Open a session and interrupt it; answer what was to be seen of all processes, of all files, and what was said."""
    since, shown, kept = len(windows.server.log), b"", b""
    with desk.start("rdp", "win-1", "--", "/w:320", "/h:200") as process:
        deadline = time.monotonic() + 15
        while TRIED not in windows.logged(since) and process.poll() is None and time.monotonic() < deadline:
            shown += b"".join(map(shown_by, family(process.pid)))
            kept += kept_in(desk.folder)
        time.sleep(1)  # into the session
        shown += b"".join(map(shown_by, family(process.pid)))
        kept += kept_in(desk.folder)
        for pid in reversed(family(process.pid)):  # as the terminal does: to everybody in the foreground
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)
    return shown, kept, out + err


def test_freerdp_3_gets_all_of_it_by_a_descriptor(desk: Terminal, windows: Windows) -> None:
    hold, notes = desk.folder / "hold", desk.folder / "notes"
    hold.touch()
    a_program(desk, "xfreerdp3", f'exec {sys.executable} {FREERDP3} "$@"')
    with desk.start("rdp", "win-1", "--", "/f", "+clipboard", FREERDP3_HOLD=str(hold)) as process:
        while not notes.exists() and process.poll() is None:
            time.sleep(0.02)
        shown = b"".join(map(shown_by, family(process.pid)))
        kept = kept_in(desk.folder)
        hold.unlink()
        out, err = process.communicate(timeout=20)
    read = json.loads(notes.read_text())

    assert process.returncode == 0, err
    (argument,) = read.pop("argv")
    assert argument.startswith("/args-from:fd:")
    assert read == {
        "v": "127.0.0.1",
        "port": str(windows.server.port),
        "u": "Administrator",
        "d": ".",
        "sec": "nla",
        "cert": ["deny", f"fingerprint:sha256:{bytes.fromhex(windows.pin).hex(':').upper()}"],
        "f": True,
        "clipboard": True,
        "p": hashlib.sha256(PASSWORD.encode()).hexdigest(),
    }
    assert argument.encode() in shown
    assert PASSWORD.encode() not in shown + kept + (out + err).encode()


def test_the_double_of_freerdp_3_is_strict(desk: Terminal) -> None:
    def code(*words: str) -> int:
        ran = subprocess.run([sys.executable, FREERDP3, *words], env=dict(desk.environment), check=False)
        return ran.returncode

    assert code("/v:h:1", "/u:x", "/cert:deny,fingerprint:sha256:AA") == 0
    assert code("/v:[::1]:3389") == 0
    for words in (["/nonsense"], ["/cert:maybe"], ["/args-from:fd:0", "/f"], ["file.rdp"], ["/v:::1:3389"]):
        assert code(*words) == 131


@pytest.mark.real("xclip")
@pytest.mark.parametrize("ends", ["by itself", "by SIGTERM", "by Ctrl-C"])
def test_a_client_that_is_pasted_into_finds_the_password_on_the_clipboard(ends: str, desk: Terminal) -> None:
    seen = desk.folder / "seen"
    read = "xclip -selection clipboard -out"
    a_program(desk, "remmina", f'{read} | sha256sum >{seen}.new; cat "$2" >{seen}.rdp; mv {seen}.new {seen}')
    seconds = "2s" if ends == "by itself" else "60s"
    with desk.start("rdp", "win-1", "--client", "remmina", "--clipboard", seconds) as process:
        while not seen.exists() and process.poll() is None:
            time.sleep(0.02)
        if ends != "by itself":
            time.sleep(0.3)  # it has handed over, and we wait for the person
            process.send_signal(signal.SIGTERM if ends == "by SIGTERM" else signal.SIGINT)
        _, err = process.communicate(timeout=20)
    left = subprocess.run(read.split(), env=dict(desk.environment), capture_output=True, check=False)

    assert seen.read_text().split()[0] == hashlib.sha256(PASSWORD.encode()).hexdigest()
    read_by_it = (desk.folder / "seen.rdp").read_text().splitlines()
    assert read_by_it[0] == "full address:s:127.0.0.1"
    assert "alternate shell" not in "".join(read_by_it)  # what the service wrote is not handed on
    assert left.stdout == b""
    assert process.returncode == {"by itself": 0, "by SIGTERM": 143, "by Ctrl-C": 130}[ends], err
    assert list((desk.folder / "run").iterdir()) == []
    assert PASSWORD not in err


@pytest.mark.real("xclip")
def test_a_client_that_holds_to_no_certificate_is_not_started_for_another_one(
    desk: Terminal, windows: Windows, service: ServiceDouble
) -> None:
    a_program(desk, "remmina", f"touch {desk.folder / 'started'}")
    service.tell(ROUTE, windows.credential(pins=["00" * 32]))
    ended = desk.broker("rdp", "win-1", "--client", "remmina", "--clipboard", "1s")
    assert ended.returncode == 5
    assert not (desk.folder / "started").exists()

    service.tell(ROUTE, windows.credential())
    assert desk.broker("rdp", "win-1", "--client", "remmina", "--clipboard", "1s").returncode == 0
    assert (desk.folder / "started").exists()


@pytest.mark.real("xclip")
def test_mstsc_is_started_from_wsl_with_a_file_that_windows_can_name(desk: Terminal) -> None:
    words = desk.folder / "words"
    a_program(desk, "mstsc.exe", f"printf '%s\\n' \"$@\" >{words}; exit 3")
    a_program(desk, "wslpath", r'[ "$1" = -w ] && printf "%s\n" "\\\\wsl.localhost\\x$2"')
    ended = desk.broker("rdp", "win-1", "--client", "mstsc", "--", "/f")
    file, last = words.read_text().splitlines()

    assert (ended.returncode, last) == (3, "/f")
    assert file.startswith("\\\\wsl.localhost\\x/")
    assert file.endswith("/instance.rdp")


def test_a_certificate_that_aws_does_not_know_yet_is_waited_for_and_nothing_is_started(
    desk: Terminal, windows: Windows, service: ServiceDouble
) -> None:
    service.tell(ROUTE, windows.credential(pins=[]))
    since = len(windows.server.log)
    ended = desk.broker("rdp", "win-1", "--wait", "1s", "--", "+auth-only")

    assert ended.returncode == 4
    assert "AWS does not know the RDP certificate of the instance yet" in ended.stderr
    assert TRIED not in windows.logged(since)


def test_a_port_that_does_not_answer_is_said_and_ends_as_not_ready(
    desk: Terminal, windows: Windows, service: ServiceDouble
) -> None:
    answer = windows.credential()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert isinstance(answer.document, dict)
        answer.document["port"] = port = closed.getsockname()[1]
        service.tell(ROUTE, answer)
        ended = desk.broker("rdp", "win-1", "--wait", "2s")

    assert ended.returncode == 4
    assert f"127.0.0.1 port {port}: connection refused; waiting for it" in ended.stderr


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (problem(403, "denied", "Access is denied."), 3, "`broker ls` shows"),
        (problem(403, "reason_required", "A reason is required."), 6, "--reason TEXT"),
        (problem(409, "password_not_ready", "Not yet."), 4, "password_not_ready"),
        (problem(409, "protocol_not_supported", "It speaks ssh."), 2, "`broker ssh win-1`"),
        (problem(503, "audit_unavailable", "The log cannot be written."), 7, "audit_unavailable"),
    ],
)
def test_a_refusal_has_its_exit_code_and_says_what_to_do(
    answer: Answer, code: int, said: str, desk: Terminal, service: ServiceDouble
) -> None:
    service.tell(ROUTE, answer)
    ended = desk.broker("rdp", "win-1", "--wait", "0s")

    assert (ended.returncode, ended.stdout) == (code, "")
    assert said in ended.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--", "/cert:ignore"], "/cert is not handed to FreeRDP"),
        (["--", "/p:hunter2"], "/p is not handed to FreeRDP"),
        (["--client", "wlfreerdp3"], "there is no wlfreerdp3"),
        (["--client", "rdesktop"], "invalid choice"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_issued(
    words: list[str], said: str, desk: Terminal, service: ServiceDouble
) -> None:
    ended = desk.broker("rdp", "win-1", *words)

    assert (ended.returncode, service.seen) == (2, [])
    assert said in ended.stderr
    assert "hunter2" not in ended.stderr


def test_without_a_client_what_to_install_is_said(desk: Terminal, service: ServiceDouble) -> None:
    ended = desk.broker("rdp", "win-1", PATH=str(desk.folder / "bin"))
    blind = desk.broker("rdp", "win-1", DISPLAY=None)

    assert (ended.returncode, blind.returncode, service.seen) == (2, 2, [])
    assert "apt install freerdp3-x11" in ended.stderr
    assert "DISPLAY is not set" in blind.stderr
