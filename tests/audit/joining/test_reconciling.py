from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.audit.joining.cloudtrail import Trail
from broker.audit.joining.reconciling import MARGIN, MINUTE, Calls, Kind, Noted, reconcile, windows
from broker.audit.leaves import milliseconds
from tests.doubles.cloudtrail import ROLE, SESSION, a_record

START = milliseconds("2026-01-31T09:30:00Z")
LAG = 30 * MINUTE
EDGES = [a_record(eventName="GetInstances", time=f"2026-01-31T{hour}:30:00Z") for hour in ("08", "11")]
"""The trail reaches from an hour before to two hours after."""
EVENT = Noted(
    index=7,
    time=START + 900,
    event="credential.issued",
    outcome="success",
    actor="corp/alice",
    instance="main/eu-west-1/web-1",
    protocol="ssh",
    request_id="request-7",
    upstream_request_id="aws-1",
)


def read(records: Sequence[dict[str, Any]]) -> tuple[Calls, Trail]:
    calls, trail = Calls(), Trail()
    for call in trail.calls("trail", io.BytesIO(json.dumps({"Records": [*EDGES, *records]}).encode())):
        calls.take(call)
    return calls, trail


def found(
    records: Sequence[dict[str, Any]], events: Sequence[Noted], principal: str = ""
) -> list[tuple[Kind, int | None]]:
    calls, trail = read(records)
    findings = reconcile(calls, events, trail.covered, lag=LAG, principal=principal)
    return [(finding.kind, finding.noted.index if finding.noted else None) for finding in findings]


@pytest.mark.parametrize("event", [EVENT, replace(EVENT, event="credential.failed", outcome="failure")])
def test_a_call_that_the_log_knows_fits(event: Noted) -> None:
    assert found([a_record()], [event]) == []


def test_a_call_that_the_log_does_not_know_is_found() -> None:
    assert found([a_record(), a_record("aws-2")], [EVENT]) == [(Kind.UNKNOWN, None)]


def test_a_call_without_an_id_is_never_known() -> None:
    assert found([a_record("")], [replace(EVENT, upstream_request_id="", event="credential.failed")]) == [
        (Kind.UNKNOWN, None)
    ]


def test_calls_that_aws_refused_minted_nothing() -> None:
    records = [a_record("aws-0", errorCode="ThrottlingException"), a_record()]
    assert found(records, [EVENT]) == []
    calls, _ = read(records)
    assert calls.failed == 1


def test_a_record_that_was_delivered_again_is_one_call() -> None:
    assert found([a_record(), a_record()], [EVENT]) == []
    assert read([a_record(), a_record()])[0].repeated == 1


def test_one_id_of_two_calls_or_two_events_stands_out() -> None:
    second = a_record(eventID="another")
    assert found([a_record(), second], [EVENT]) == [(Kind.SHARED, 7), (Kind.SHARED, 7)]
    assert found([a_record()], [EVENT, replace(EVENT, index=9)]) == [(Kind.SHARED, 7), (Kind.SHARED, 9)]


@pytest.mark.parametrize(
    "members",
    [
        {"requestParameters": {"instanceName": "web-2", "protocol": "ssh"}},
        {"requestParameters": {"instanceName": "web-1", "protocol": "rdp"}},
        {"awsRegion": "us-east-1"},
    ],
)
def test_a_call_for_something_else_than_the_log_says_is_found(members: dict[str, Any]) -> None:
    assert found([a_record(**members)], [EVENT]) == [(Kind.ELSEWHERE, 7)]


@pytest.mark.parametrize(("principal", "kinds"), [(ROLE, []), (SESSION, []), ("", []), (f"{ROLE}2", [Kind.STRANGER])])
def test_a_known_call_by_another_principal_is_found(principal: str, kinds: list[Kind]) -> None:
    assert [kind for kind, _ in found([a_record()], [EVENT], principal)] == kinds


@pytest.mark.parametrize(
    ("minutes", "kinds"),
    [
        (-61, []),  # before the trail begins
        (-58, [Kind.MISSING]),
        (89, [Kind.MISSING]),
        (91, []),  # may still come
    ],
)
def test_an_issue_that_cloudtrail_should_have_is_told_of(minutes: int, kinds: list[Kind]) -> None:
    event = replace(EVENT, time=START + minutes * MINUTE)
    assert [kind for kind, _ in found([], [event])] == kinds


def test_an_issue_in_a_region_without_records_is_not_missing() -> None:
    assert found([], [replace(EVENT, instance="main/us-east-1/web-1")]) == []


def test_a_failure_that_cloudtrail_does_not_have_is_nothing() -> None:
    assert found([], [replace(EVENT, event="credential.failed", upstream_request_id="")]) == []


@pytest.mark.parametrize(
    ("changes", "perhaps"),
    [
        ({}, (7,)),
        ({"time": START + 30 * MINUTE}, (7,)),
        ({"time": START - 2 * MINUTE}, ()),
        ({"instance": "main/eu-west-1/web-2"}, ()),
        ({"outcome": "failure"}, ()),
    ],
)
def test_a_request_of_unknown_outcome_may_explain_a_call(changes: dict[str, Any], perhaps: tuple[int, ...]) -> None:
    unclear = replace(EVENT, event="credential.failed", outcome="unknown", upstream_request_id="")
    calls, trail = read([a_record()])
    [finding] = reconcile(calls, [replace(unclear, **changes)], trail.covered, lag=LAG)
    assert (finding.kind, finding.perhaps) == (Kind.UNKNOWN, perhaps)


def test_events_are_looked_for_as_far_as_the_trail_reaches() -> None:
    calls, trail = read([a_record()])
    issued, failed = windows(calls, trail.covered)
    assert (issued.event, failed.event) == ("credential.issued", "credential.failed")
    assert (issued.since, issued.until) == (START - 60 * MINUTE - MARGIN, START + 120 * MINUTE + MARGIN)
    assert windows(Calls(), {}) == []


@given(st.permutations(range(6)), st.sets(st.integers(0, 5)))
def test_order_does_not_matter_and_every_call_is_known_or_found(order: list[int], logged: set[int]) -> None:
    records = [a_record(f"aws-{number}") for number in order]
    events = [replace(EVENT, index=number, upstream_request_id=f"aws-{number}") for number in sorted(logged)]
    calls, trail = read(records)
    findings = reconcile(calls, events, trail.covered, lag=LAG)
    unknown = {finding.call.request_id for finding in findings if finding.call}
    assert unknown == {f"aws-{number}" for number in range(6) if number not in logged}
