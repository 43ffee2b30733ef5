"""What is said about a request: by options, else by variables, the same for every command that asks."""

import sys
from typing import Any

import pytest

from tests.doubles.client import Answer, ServiceDouble, instance, page, ssh_credential

from .conftest import Terminal

SAID = {"BROKER_REASON": "nightly backup", "BROKER_TICKET": "OPS-7"}
PROGRAM = [sys.executable, "-c", ""]


@pytest.fixture
def asked(service: ServiceDouble) -> ServiceDouble:
    service.tell("GET /readyz", Answer({"ready": True, "components": {}}))
    service.tell("GET /v1/whoami", Answer({"issuer": "corp", "subject": "alice", "groups": []}))
    service.tell("GET /v1/instances", page(instance("web-1")))
    service.tell("POST /v1/decisions", Answer({"decision": "allow", "policies": ["ops"], "obligations": []}))
    service.tell("POST /v1/credentials", Answer(ssh_credential(), 201))
    return service


def requests(service: ServiceDouble) -> list[Any]:
    return [(seen.body["reason"], seen.body["ticket"]) for seen in service.seen if seen.method == "POST"]


@pytest.mark.parametrize(
    ("words", "rest"), [(["get", "web-1"], []), (["exec", "web-1"], ["--", *PROGRAM]), (["doctor", "web-1"], [])]
)
def test_variables_say_why_where_no_option_does(
    words: list[str], rest: list[str], terminal: Terminal, asked: ServiceDouble
) -> None:
    terminal.broker(*words, *rest, **SAID)
    assert set(requests(asked)) == {("nightly backup", "OPS-7")}

    asked.seen.clear()
    terminal.broker(*words, "--reason", "disk is full", *rest, **SAID)
    assert set(requests(asked)) == {("disk is full", "OPS-7")}
