from __future__ import annotations

from collections.abc import Sequence

import pytest

from broker.audit.runs import MAX_UNSEALED, Runs

SEAL = "seal"


def follow(words: Sequence[str], at: int = 0) -> Runs:
    """Follow events written as `event` or `event/request id`; `unknown` closes a request at a start."""
    runs = Runs(at)
    for word in words:
        event, _, request_id = word.partition("/")
        if event == SEAL:
            runs.seal()
        elif event == "unknown":
            runs.take({"event": "credential.failed", "error": "outcome_unknown", "request_id": request_id})
        else:
            runs.take({"event": event, "request_id": request_id})
    return runs


START = ["service.started", SEAL]
BUSY = ["credential.requested/a", "credential.issued/a", "credential.denied/b", "audit.read"]
STOP = ["service.stopped", SEAL]


@pytest.mark.parametrize(
    "left",
    [
        pytest.param([], id="a new log"),
        pytest.param(["service.started"], id="a first start that died before its checkpoint"),
        pytest.param(["service.started", SEAL, "service.started"], id="two in a row"),
        pytest.param(["service.started", SEAL, "service.started", SEAL, "service.started"], id="three in a row"),
        pytest.param(["keys.added"], id="an operator before the first start"),
        pytest.param([*START, *BUSY], id="a run that died"),
        pytest.param([*START, *BUSY, SEAL, *BUSY], id="a run that died after a checkpoint"),
        pytest.param([*START, *BUSY, "service.stopped"], id="a stop that died before its checkpoint"),
        pytest.param([*START, *BUSY, SEAL, "service.started"], id="a start after a run that died"),
        pytest.param([*START, *BUSY, *STOP, "keys.added"], id="an operator who died"),
        pytest.param([*START, *BUSY, *STOP, "service.started"], id="a start after a stop"),
        pytest.param([*START, "credential.requested/a", SEAL, "unknown/a"], id="a start that died at once"),
        pytest.param([*START, "credential.requested/a", SEAL, "unknown/a", "service.started"], id="a little later"),
        pytest.param([*START, *STOP, *START, *BUSY], id="a second run"),
    ],
)
def test_what_a_broker_leaves_when_it_dies_is_no_flaw(left: list[str]) -> None:
    assert follow(left).flaw is None


@pytest.mark.parametrize(
    ("left", "index"),
    [
        pytest.param(["service.started", "audit.read"], 1, id="an event after an unsealed start"),
        pytest.param(["service.started", "service.started"], 1, id="a start after an unsealed start"),
        pytest.param([*START, "service.stopped", "keys.added"], 2, id="an event after an unsealed stop"),
        pytest.param([*START, "service.stopped", "service.started"], 2, id="a start after an unsealed stop"),
        pytest.param([*START, *BUSY, "service.started", *BUSY], 6, id="a run inside a tail"),
        pytest.param(["credential.denied"], 0, id="a refusal before the first start"),
        pytest.param([*START, *STOP, "credential.requested/a"], 2, id="a request after the stop"),
        pytest.param([*START, *STOP, "keys.added", "credential.issued/a"], 3, id="a credential after the stop"),
        pytest.param([*START, *STOP, "service.stopped"], 2, id="a second stop"),
    ],
)
def test_what_no_broker_leaves_is_a_flaw_until_it_is_sealed(left: list[str], index: int) -> None:
    runs = follow(left)
    assert runs.flaw is not None
    assert runs.flaw.idx == index
    assert follow([*left, SEAL]).flaw is None


def test_a_tail_longer_than_a_broker_leaves_is_a_flaw() -> None:
    tail = ["audit.read"] * MAX_UNSEALED
    assert follow([*START, *tail]).flaw is None
    flaw = follow([*START, *tail, "audit.read"]).flaw
    assert flaw is not None
    assert flaw.idx == 1 + MAX_UNSEALED


def test_from_the_middle_of_a_log_nobody_knows_whether_a_service_was_running() -> None:
    assert follow(["keys.added", SEAL, "credential.denied"], at=7).flaw is None
    assert follow([*STOP, "credential.denied"], at=7).flaw is not None


def test_a_request_is_open_until_one_of_its_id_is_issued_or_failed() -> None:
    words = ["credential.requested/a", "credential.requested/b", "credential.denied/a", "credential.issued/b"]
    assert list(follow(words).open_requests()) == [0]
    assert list(follow([*words, "credential.failed/a", "credential.requested/a"], at=10).open_requests()) == [15]
    assert follow([*words, "credential.requested/a"]).open_requests().keys() == {0, 4}
    assert follow([*words, "unknown/a"]).open_requests() == {}


@pytest.mark.parametrize("members", [{}, {"event": []}, {"event": "credential.requested", "request_id": {}}])
def test_a_strange_event_does_not_stop_it(members: dict[str, object]) -> None:
    runs = Runs()
    runs.take(members)
    assert runs.size == 1
