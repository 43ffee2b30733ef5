import json

from tests.client.test_receipts import receipt
from tests.doubles.client import Answer, ServiceDouble, problem

from .conftest import Terminal

ROUTE = "GET /v1/audit/receipts/5"
COMPLETE = receipt(5, 9)
OPEN = {**COMPLETE, "checkpoint": None, "proof": None}


def saved(terminal: Terminal, document: object) -> str:
    path = terminal.folder / "answer.json"
    path.write_text(json.dumps(document))
    return str(path)


def test_a_receipt_is_completed_from_a_saved_answer(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell(ROUTE, Answer(COMPLETE))
    answer = {"host": "203.0.113.7", "audit": {"index": 5, "leaf_hash": COMPLETE["leaf_hash"]}}
    ended = terminal.broker("receipt", saved(terminal, answer))
    assert (ended.returncode, json.loads(ended.stdout)) == (0, COMPLETE)


def test_an_index_and_a_file_do_as_well(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell(ROUTE, Answer(COMPLETE))
    path = terminal.folder / "receipt.json"
    ended = terminal.broker("receipt", "5", "--output", str(path))
    assert (ended.returncode, ended.stdout) == (0, "")
    assert json.loads(path.read_text()) == COMPLETE
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_not_sealed_yet_is_not_ready(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell(ROUTE, Answer(OPEN))
    ended = terminal.broker("receipt", "5")
    assert (ended.returncode, json.loads(ended.stdout)) == (4, OPEN)
    assert "--wait" in ended.stderr


def test_another_log_is_told(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell(ROUTE, Answer(COMPLETE))
    other = {"index": 5, "leaf_hash": receipt(6, 9)["leaf_hash"]}
    ended = terminal.broker("receipt", saved(terminal, other))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "another log" in ended.stderr


def test_a_proof_that_leads_elsewhere_is_told(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell(ROUTE, Answer({**COMPLETE, "checkpoint": receipt(5, 8)["checkpoint"]}))
    ended = terminal.broker("receipt", "5")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "does not lead" in ended.stderr


def test_what_names_no_event_is_wrong_usage(terminal: Terminal) -> None:
    for word in (saved(terminal, {"a": 1}), saved(terminal, []), str(terminal.folder / "missing")):
        ended = terminal.broker("receipt", word)
        assert (ended.returncode, ended.stdout) == (2, "")


def test_an_event_that_is_not_there_is_a_problem(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell(ROUTE, problem(404, "not_found"))
    assert terminal.broker("receipt", "5").returncode not in {0, 4}
