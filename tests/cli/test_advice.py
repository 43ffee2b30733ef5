"""What happened, why, what now: each refusal, with the command to type."""

import json
import shlex

import pytest

from broker.cli import advice
from broker.cli.main import parser_of
from broker.client.errors import BrokerProblem, Misconfigured, NotReady, Unreachable, Untrusted
from broker.errors import BrokerError
from tests.doubles.client import ServiceDouble, instance, page, problem

from .conftest import Terminal

GET = ["get", "web-1"]
MFA = {"obligation": "mfa", "acr_values": ["phr", "phrh"]}
FRESH = {"obligation": "fresh_login", "max_age": 900}
REASON, TICKET = {"obligation": "reason"}, {"obligation": "ticket", "pattern": "OPS-*"}
APPROVAL = {"obligation": "approval", "approvals": 2}


def refusal(code: str, retry_after: int | None = None, **members: object) -> BrokerProblem:
    document = {"code": code, "detail": "No."} | members
    return BrokerProblem(409, document, retry_after)  # type: ignore[arg-type]  # as it comes over the wire


def codes(kind: type[BrokerError] = BrokerError) -> set[str]:
    return {kind.code} | {code for each in kind.__subclasses__() for code in codes(each)}


def test_every_refusal_says_what_to_do_now() -> None:
    assert {code for code in codes() if not advice.sentence(refusal(code))} == set()


def test_what_the_service_says_goes_first() -> None:
    assert advice.sentence(refusal("denied", next="Ask Bob.")) == "Ask Bob."


@pytest.mark.parametrize(
    ("error", "words", "typed"),
    [
        (refusal("reason_required"), GET, "broker get web-1 --reason TEXT"),
        (refusal("ticket_required"), ["exec", "a", "--", "b", "c d"], "broker exec a --ticket ID -- b 'c d'"),
        (refusal("reason_required", next="give a ticket"), GET, "broker get web-1 --reason TEXT --ticket ID"),
        (refusal("step_up_required", steps=[MFA]), GET, "broker login --acr 'phr phrh'"),
        (refusal("step_up_required", steps=[MFA, FRESH]), GET, "broker login --acr 'phr phrh' --max-age 900s"),
        (
            refusal("step_up_required", steps=[FRESH, REASON]),
            GET,
            "broker login --max-age 900s && broker get web-1 --reason TEXT",
        ),
        (refusal("approval_required"), GET, "broker request create web-1"),
        (refusal("approval_required"), ["ls"], ""),
        (
            refusal("step_up_required", steps=[MFA, REASON, TICKET, APPROVAL]),
            ["get", "web-1", "--reason", "disk is full", "--protocol", "rdp"],
            "broker request create web-1 --reason TEXT --ticket ID --protocol rdp",
        ),
        (
            refusal("approval_required", steps=[APPROVAL]),
            ["ssh", "web-1", "--reason", "disk is full", "--", "df"],
            "broker request create web-1 --reason 'disk is full'",
        ),
        (refusal("password_not_ready", 5), [*GET, "--wait", "5s"], "broker get web-1 --wait 10m"),
        (refusal("password_not_ready"), GET, ""),
        (refusal("overloaded", 5), ["ls"], ""),
        (refusal("ambiguous_instance", choices=["m/r/web-1", "n/r/web-1"]), GET, "broker get m/r/web-1"),
        (refusal("host_key_changed"), GET, "broker hosts show web-1"),
        (refusal("denied"), GET, "broker doctor web-1"),
        (refusal("denied"), ["get", "--reason", "x", "web-1"], "broker doctor web-1"),
        (refusal("denied"), ["hosts", "accept", "web-1"], ""),
        (NotReady("no answer"), ["ssh", "web-1"], "broker ssh web-1 --wait 10m"),
        (Misconfigured("BROKER_URL is not set"), GET, "broker login https://broker.example.com"),
        (Misconfigured("this names no instance"), GET, ""),
        (Untrusted("not sealed"), GET, ""),
        (refusal("reason_required"), [], ""),
    ],
)
def test_the_command_that_helps_is_written_down(error: Exception, words: list[str], typed: str) -> None:
    assert isinstance(error, BrokerProblem | Misconfigured | NotReady | Untrusted)
    assert advice.command(error, words) == typed


def test_what_is_to_be_typed_parses() -> None:
    for code in sorted(codes()):
        for line in advice.command(refusal(code, 5, choices=["m/r/web-1"]), GET).split(" && "):
            words = shlex.split(line.rpartition(";")[2])
            if words[:1] == ["broker"]:
                parser_of(words[1]).parse_args(words[2:])


def test_an_unreachable_service_is_looked_at_by_another_program(terminal: Terminal) -> None:
    said = terminal.broker("ls", BROKER_URL="https://127.0.0.1:1").stderr.splitlines()

    assert said == [
        "broker: 127.0.0.1:1 refused the connection: nothing listens there",
        "broker:   next: is the address https://127.0.0.1:1 (in BROKER_URL) right, and does the service run?",
        f"broker:   type: curl -sS --cacert {terminal.environment['BROKER_CA_FILE']} https://127.0.0.1:1/readyz",
    ]


def test_the_address_of_a_login_is_named_where_no_variable_is_set(terminal: Terminal) -> None:
    remembered = {"url": "https://127.0.0.1:1", "ca_file": "/etc/ca.pem"}
    folder = terminal.folder / ".config" / "broker"
    folder.mkdir(parents=True)
    services = {"last": remembered["url"], "services": {remembered["url"]: {"ca_file": remembered["ca_file"]}}}
    (folder / "services.json").write_text(json.dumps(services))
    said = terminal.broker("ls", BROKER_URL=None).stderr

    assert "https://127.0.0.1:1 (of your last `broker login`)" in said
    assert "BROKER_URL" not in said


def test_what_is_no_fault_of_the_address_does_not_blame_it() -> None:
    assert "address" not in advice.sentence(Unreachable("https://id.example.com has no token endpoint"))


def test_a_mistyped_instance_leads_to_the_one_that_was_meant(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("GET /v1/instances", page(instance("web-1"), instance("db-1")))
    service.tell("POST /v1/credentials", problem(403, "denied"))
    (terminal.folder / "token").write_text(str(terminal.environment["BROKER_TOKEN"]))
    by_file: dict[str, str | None] = {"BROKER_TOKEN": None, "BROKER_TOKEN_FILE": "token"}

    mistyped = terminal.broker("get", "--reason", "to look", "wbe-1", **by_file).stderr
    assert "broker:   next: did you mean web-1? `broker ls` shows what you may reach\n" in mistyped
    assert "broker:   type: broker get --reason 'to look' web-1\n" in mistyped
    right = terminal.broker("get", "web-1", **by_file).stderr
    assert "did you mean" not in right
    assert "broker:   type: broker doctor web-1\n" in right


def test_a_certificate_that_is_not_trusted_leads_to_its_authority(terminal: Terminal) -> None:
    said = terminal.broker("ls", BROKER_CA_FILE=None).stderr

    assert "broker:   type: export BROKER_CA_FILE=" in said


def test_what_no_broker_answers_is_told_apart(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("GET /v1/instances", problem(502, "", "Bad gateway."))

    assert "no broker's answer" in terminal.broker("ls").stderr


@pytest.mark.parametrize(("seconds", "said"), [(10, "10 s"), (119, "119 s"), (1800, "30 min")])
def test_a_long_wait_is_told_in_minutes(seconds: int, said: str, terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("GET /v1/instances", problem(429, "budget_exhausted", retry_after=seconds))

    assert f"broker:   wait: {said}\n" in terminal.broker("ls").stderr


def test_whoever_is_not_logged_in_is_told_to(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("GET /v1/instances", problem(401, "invalid_token"))

    assert "broker:   type: broker login\n" in terminal.broker("ls", BROKER_TOKEN=None).stderr


def test_whoever_was_given_a_token_is_told_where_the_new_one_goes(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("GET /v1/instances", problem(401, "invalid_token"))
    path = terminal.folder / "token"
    path.touch(0o600)
    path.write_text("opaque")

    of_variable = terminal.broker("ls").stderr
    of_file = terminal.broker("ls", BROKER_TOKEN=None, BROKER_TOKEN_FILE=str(path)).stderr

    assert "next: get a new token and put it into BROKER_TOKEN; if" in of_variable
    assert f"next: get a new token and put it into BROKER_TOKEN_FILE ({path}); if" in of_file
    assert "broker login" not in of_variable + of_file
