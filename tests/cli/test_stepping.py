"""What a command does about a refusal that the person at the terminal can lift, and what it leaves alone."""

import json
from typing import Any

import pytest

from broker.cli.stepping import _fits
from tests.doubles.client import Answer, ServiceDouble, ssh_credential
from tests.real.conversation import Conversation

from .conftest import Terminal


def refused(code: str, *steps: dict[str, Any], status: int = 403) -> Answer:
    problem = {"status": status, "code": code, "detail": "More is needed.", "next": "Do it.", "steps": list(steps)}
    return Answer(problem, status, {"Content-Type": "application/problem+json"})


REASON, TICKET = {"obligation": "reason"}, {"obligation": "ticket", "pattern": "OPS-*"}
NEEDED = refused("reason_required", REASON, TICKET)
GRANTED = Answer(ssh_credential(), 201)


def asked(service: ServiceDouble) -> list[tuple[str, str]]:
    return [
        (seen.body.get("reason", ""), seen.body.get("ticket", "")) for seen in service.seen if seen.method == "POST"
    ]


def test_a_reason_and_a_ticket_are_asked_for_until_they_fit(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("POST /v1/credentials", NEEDED, GRANTED)
    with Conversation(("get", "web-1"), terminal.environment) as person:
        person.expect(r"why do you want in\? ")
        person.say("")
        person.expect("a reason is needed")
        person.say("  disk is full ")
        person.expect(r"which ticket is it, such as OPS-\*\? ")
        person.say("7")
        person.expect(r"has to look like OPS-\*")
        person.say("OPS-7")
        code, out = person.end()
    assert code == 0
    assert json.loads(out)["host"]
    assert asked(service) == [("", ""), ("disk is full", "OPS-7")]


def test_what_does_not_fit_three_times_is_refused(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("POST /v1/credentials", refused("ticket_required", TICKET))
    with Conversation(("get", "web-1"), terminal.environment) as person:
        for _ in range(3):
            person.expect(r"which ticket is it.*\? ")
            person.say("none")
        code, out = person.end()
    assert (code, out, len(asked(service))) == (6, "", 1)
    assert "next: Do it." in person.heard


def test_the_end_of_the_input_is_no_answer(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("POST /v1/credentials", refused("reason_required", REASON))
    with Conversation(("get", "web-1"), terminal.environment) as person:
        person.expect(r"why do you want in\? ")
        person.hang_up()
        assert person.end()[0] == 6
    assert "Traceback" not in person.heard


def test_the_same_thing_is_asked_for_once(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("POST /v1/credentials", refused("reason_required", REASON))
    with Conversation(("get", "web-1"), terminal.environment) as person:
        person.expect(r"why do you want in\? ")
        person.say("because")
        assert person.end()[0] == 6
    assert asked(service) == [("", ""), ("because", "")]


def test_nothing_is_asked_where_somebody_else_has_to_act(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("POST /v1/credentials", refused("approval_required", REASON, {"obligation": "approval"}))
    with Conversation(("get", "web-1"), terminal.environment) as person:
        assert person.end()[0] == 6
    assert "why do you want in" not in person.heard
    assert "broker request create web-1" in person.heard


def test_a_token_from_the_environment_is_never_logged_in_again(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("POST /v1/credentials", refused("step_up_required", {"obligation": "mfa"}, status=401))
    with Conversation(("get", "web-1"), terminal.environment) as person:
        assert person.end()[0] == 6
    assert len(asked(service)) == 1


def test_whose_token_was_given_is_told_where_it_comes_from(terminal: Terminal, service: ServiceDouble) -> None:
    step = {"obligation": "mfa", "acr_values": ["phr"]}
    service.tell("POST /v1/credentials", refused("step_up_required", step, status=401))
    ended = terminal.broker("get", "web-1")
    assert ended.returncode == 6
    assert "next: Do it. BROKER_TOKEN holds the token: renew it there, or unset BROKER_TOKEN." in ended.stderr
    assert "type: unset BROKER_TOKEN BROKER_TOKEN_FILE; broker login --acr phr\n" in ended.stderr


@pytest.mark.parametrize("words", [("ssh", "web-1"), ("exec", "web-1", "--", "true")])
def test_every_command_asks_unless_it_is_told_not_to(
    words: tuple[str, ...], terminal: Terminal, service: ServiceDouble
) -> None:
    ssh = terminal.folder / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text("#!/bin/sh\nexit 1\n")
    ssh.chmod(0o755)
    environment = {**terminal.environment, "PATH": f"{ssh.parent}:{terminal.environment['PATH']}"}
    service.tell("POST /v1/credentials", refused("reason_required", REASON))
    with Conversation((*words[:2], "--no-input", *words[2:]), environment) as person:
        assert person.end()[0] == 6
    assert "why do you want in" not in person.heard
    with Conversation(words, environment) as person:
        person.expect(r"why do you want in\? ")
        person.say("because")
        assert person.end()[0] == 6
    assert asked(service) == [("", ""), ("", ""), ("because", "")]


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("OPS-*", "OPS-7", True),
        ("OPS-*", "OPS-", True),
        ("OPS-*", "ops-7", False),
        ("*", "any", True),
        ("fixed", "fixed", True),
        ("fixed", "fixed ", False),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("*b*c*", "abcd", True),
        ("*c*b*", "abcd", False),
        ("a*bc*bc", "abc", False),
        ("1\\**", "1*2", True),
        ("1\\**", "12", False),
        ("[x].?", "[x].?", True),
        ("[x].?", "x.?", False),
        ("*a" * 5000, "a" * 4999 + "b", False),
    ],
)
def test_a_text_fits_as_the_policies_read_a_pattern(pattern: str, text: str, *, fits: bool) -> None:
    assert _fits(text, pattern) is fits


def test_nobody_is_asked_who_said_so_or_is_not_there(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("POST /v1/credentials", refused("reason_required", REASON))
    for words, variables in ((("get", "web-1", "--no-input"), {}), (("get", "web-1"), {"CI": "true"})):
        with Conversation(words, {**terminal.environment, **variables}) as person:
            assert person.end()[0] == 6
        assert "why do you want in" not in person.heard
    assert terminal.broker("get", "web-1").returncode == 6
    assert len(asked(service)) == 3


def test_steps_of_a_strange_service_do_no_harm(terminal: Terminal, service: ServiceDouble) -> None:
    strange = ({"obligation": 7}, {"obligation": "sing"}, {"obligation": "reason", "pattern": ["x"]})
    service.tell("POST /v1/credentials", *(refused("reason_required", step) for step in strange[:2]))
    for _ in strange[:2]:
        with Conversation(("get", "web-1"), terminal.environment) as person:
            assert person.end()[0] == 6
    service.tell("POST /v1/credentials", refused("reason_required", strange[2]), GRANTED)
    with Conversation(("get", "web-1"), terminal.environment) as person:
        person.expect(r"why do you want in\? ")
        person.say("because")
        assert person.end()[0] == 0
