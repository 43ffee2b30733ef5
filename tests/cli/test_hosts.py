import hashlib
import json
import os
import pty
import subprocess
import sys
from typing import Any

import pytest

from tests.doubles.client import Answer, ServiceDouble, page, problem

from .conftest import Terminal, on_a_terminal

OLD, NEW = (hashlib.sha256(text).hexdigest() for text in (b"old", b"new"))
NEW_SHOWN = (
    "SHA256:EVB6Di9eadXfpApiob17buV+a82FxnybhDGzb/8hxDc"  # by `printf new | openssl dgst -sha256 -binary | base64`
)
ROUTE = "POST /v1/hosts/main/eu-west-1/web-1/accept"


def host(*offered: str, **members: object) -> dict[str, Any]:
    known = {"account": "main", "region": "eu-west-1", "name": "web-1", "audit_index": 2, "offered_audit_index": None}
    return {**known, "host_keys": [f"ssh-ed25519 {OLD}"], "offered": list(offered), **members}


CHANGED = host(f"ssh-ed25519 {NEW}")
ACCEPTED = Answer({"host_keys": CHANGED["offered"], "audit": {"index": 9, "leaf_hash": "AA=="}})


def test_old_and_new_fingerprints_are_shown_as_ssh_and_rdp_show_them(
    terminal: Terminal, service: ServiceDouble
) -> None:
    windows = host(name="win-1", host_keys=[f"x509-cert {OLD}"])
    service.tell("GET /v1/hosts", page(CHANGED, windows))
    lines = [line.split() for line in terminal.broker("hosts", "ls").stdout.splitlines()]
    assert lines[2] == ["main/eu-west-1/web-1", "ssh-ed25519", NEW_SHOWN, "offered"]
    assert lines[3] == ["main/eu-west-1/win-1", "x509-cert", bytes.fromhex(OLD).hex(":"), "pinned"]


def test_without_a_verb_they_are_listed(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("GET /v1/hosts", page(CHANGED))
    bare, named = terminal.broker("hosts"), terminal.broker("hosts", "ls")

    assert (bare.returncode, bare.stdout) == (0, named.stdout)
    assert json.loads(terminal.broker("hosts", "--format", "json").stdout) == [CHANGED]
    assert "VERB" in terminal.broker("hosts", "--help").stdout


def test_on_a_terminal_fingerprints_give_way_and_one_host_shows_them_whole(
    terminal: Terminal, service: ServiceDouble
) -> None:
    service.tell("GET /v1/hosts", page(CHANGED))
    listed = on_a_terminal(80, terminal, "hosts")
    assert listed[2].split()[0] == "main/eu-west-1/web-1"
    assert listed[2].endswith("…  offered")
    assert max(map(len, listed)) <= 80

    one = on_a_terminal(80, terminal, "hosts", "show", "web-1")
    assert one[2].split() == ["offered", "ssh-ed25519", NEW_SHOWN]


def test_a_name_that_is_not_there_leads_to_one_that_is(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("GET /v1/hosts", page(CHANGED))
    assert "did you mean web-1? `broker hosts` lists" in terminal.broker("hosts", "show", "wbe-1").stderr


def test_one_host_is_shown_and_a_change_is_an_exit_code(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell(
        "GET /v1/hosts", page(CHANGED, host(name="web-2"), host(name="db"), host(region="us-east-1", name="db"))
    )
    assert terminal.broker("hosts", "show", "web-1").returncode == 5
    assert terminal.broker("hosts", "show", "main/eu-west-1/web-2").returncode == 0
    assert terminal.broker("hosts", "show", "web-3").returncode == 1
    twice = terminal.broker("hosts", "show", "db")
    assert (twice.returncode, "main/us-east-1/db" in twice.stderr) == (2, True)


@pytest.mark.parametrize("fingerprint", [NEW_SHOWN, NEW, bytes.fromhex(NEW).hex(":").upper()])
def test_a_script_names_the_fingerprint_that_it_accepts(
    terminal: Terminal, service: ServiceDouble, fingerprint: str
) -> None:
    service.tell("GET /v1/hosts", page(CHANGED))
    service.tell(ROUTE, ACCEPTED)
    ended = terminal.broker("hosts", "accept", "web-1", "--fingerprint", fingerprint, "--reason", "rebuilt")
    assert ended.returncode == 0, ended.stderr
    assert "event 9" in ended.stderr
    assert service.seen[-1].body == {"host_keys": [f"ssh-ed25519 {NEW}"], "reason": "rebuilt", "ticket": ""}


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ((), 2),
        (("--fingerprint", OLD), 5),
        (("--fingerprint", NEW, "--fingerprint", OLD), 5),
        (("--fingerprint", "?"), 2),
    ],
)
def test_nothing_is_accepted_blindly(
    terminal: Terminal, service: ServiceDouble, options: tuple[str, ...], code: int
) -> None:
    service.tell("GET /v1/hosts", page(CHANGED))
    service.tell(ROUTE, ACCEPTED)
    assert terminal.broker("hosts", "accept", "web-1", *options).returncode == code
    assert {seen.method for seen in service.seen} == {"GET"}


def test_without_a_change_there_is_nothing_to_accept(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("GET /v1/hosts", page(host()))
    assert terminal.broker("hosts", "accept", "web-1", "--fingerprint", OLD).returncode == 1


def test_what_the_service_refuses_is_said(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("GET /v1/hosts", page(CHANGED))
    service.tell(ROUTE, problem(403, "reason_required", "A reason is required.", next="To get in, give a reason."))
    ended = terminal.broker("hosts", "accept", "web-1", "--fingerprint", NEW)
    assert (ended.returncode, "--reason" in ended.stderr) == (6, True)


@pytest.mark.parametrize(("answer", "code"), [("yes\n", 0), ("y\n", 5), ("no\n", 5)])
def test_a_person_sees_both_and_says_yes_in_full(
    terminal: Terminal, service: ServiceDouble, answer: str, code: int
) -> None:
    service.tell("GET /v1/hosts", page(CHANGED))
    service.tell(ROUTE, ACCEPTED)
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            [sys.executable, "-m", "broker.cli.main", "hosts", "accept", "web-1"],
            env=dict(terminal.environment),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        ) as process:
            os.write(ours, answer.encode())
            assert process.wait(30) == code
        shown = os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert shown.index("is held to") < shown.index("AWS offers") < shown.index(NEW_SHOWN)
    assert ("POST" in {seen.method for seen in service.seen}) is (code == 0)
