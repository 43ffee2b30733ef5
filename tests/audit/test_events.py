from __future__ import annotations

import json
import string
from datetime import UTC, datetime
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.audit.events import (
    MAX_ITEMS,
    MAX_REASON,
    MAX_TAG,
    MAX_TAGS,
    MAX_TEXT,
    clean,
    document,
    encode,
    outcome_unknown,
)
from broker.audit.leaves import milliseconds, parse, search_columns
from broker.model import Caller, CredentialFacts, Decision, Event, InstanceRef, Secret, Source
from tests.doubles.audit import NOW, an_event

TIME = "2026-01-31T09:30:00.000Z"

anything = st.text(st.characters(codec=None, exclude_categories=()))  # lone surrogates and controls too
names = st.text(string.ascii_letters + string.digits + "_.", min_size=1, max_size=20)
counts = st.integers(-(2**53) + 1, 2**53 - 1)
callers = st.builds(
    Caller,
    issuer=anything,
    subject=anything,
    kind=st.sampled_from(["user", "workload"]),
    groups=st.lists(anything, max_size=5).map(tuple),
    token_id=anything,
    token_expires_at=st.just(NOW),
)
details = st.dictionaries(
    names,
    anything
    | counts
    | st.booleans()
    | st.lists(anything, max_size=3).map(tuple)
    | st.dictionaries(names, counts, max_size=3),
    max_size=4,
)
events = st.builds(
    Event,
    event=anything,
    outcome=st.sampled_from(["success", "failure", "denied", "unknown"]),
    request_id=anything,
    actor=st.none() | callers,
    source=st.none() | st.builds(Source, anything, anything),
    instance=st.none() | st.builds(InstanceRef, anything, anything, anything),
    tags=st.dictionaries(anything, anything, max_size=3),
    target=anything,
    reason=anything,
    ticket=anything,
    break_glass=st.booleans(),
    decision=st.none()
    | st.builds(Decision, allowed=st.booleans(), policies=st.lists(anything, max_size=3).map(tuple), digest=anything),
    lease_id=anything,
    expires_at=st.none() | st.datetimes(timezones=st.just(UTC)),
    credential=st.none()
    | st.builds(CredentialFacts, certificate_serial=st.none() | st.integers(0, 2**64 - 1), key_id=anything),
    error=anything,
    details=details,
)


@settings(max_examples=150, deadline=None)
@given(events, st.integers(0, 2**53 - 1))
def test_whatever_an_event_holds_its_bytes_are_those_of_rfc_8785(event: Event, index: int) -> None:
    members = document(event)
    leaf = encode(members, index, TIME)
    assert leaf == rfc8785.dumps(members | {"index": index, "time": TIME})  # type: ignore[arg-type]  # nested dicts
    assert parse(leaf) == members | {"index": index, "time": TIME}
    search_columns(parse(leaf))


def test_an_event_has_the_shape_of_the_contract() -> None:
    assert parse(encode(document(an_event("credential.issued", upstream_request_id="aws-1")), 41, TIME)) == {
        "index": 41,
        "time": "2026-01-31T09:30:00.000Z",
        "event": "credential.issued",
        "outcome": "success",
        "request_id": "request-0",
        "actor": {
            "issuer": "corp",
            "subject": "alice",
            "kind": "user",
            "groups": ["ops", "dev"],
            "token_id": "0123456789abcdef",
        },
        "source": {"ip": "203.0.113.9", "user_agent": "broker/1.0"},
        "instance": {"account": "main", "region": "eu-west-1", "name": "web-1"},
        "protocol": "ssh",
        "reason": "to look at its logs",
        "ticket": "OPS-7",
        "decision": {"policies": ["ops-ssh"], "digest": "d1ge57"},
        "lease_id": "lease-1",
        "expires_at": "2026-01-31T09:30:00.000Z",
        "credential": {
            "certificate_serial": "9223372036854775808",
            "key_id": "alice",
            "public_key_sha256": "ab" * 32,
        },
        "upstream_request_id": "aws-1",
    }


def test_what_is_absent_or_empty_is_left_out() -> None:
    bare = Event(event="service.started", outcome="success", actor=None, decision=Decision(allowed=False))
    assert document(bare) == {"event": "service.started", "outcome": "success"}


def test_a_serial_of_zero_is_not_absent() -> None:
    event = Event(event="credential.issued", outcome="success", credential=CredentialFacts(certificate_serial=0))
    assert document(event)["credential"] == {"certificate_serial": "0"}


def test_details_keep_what_is_false_or_zero() -> None:
    event = Event(event="e", outcome="success", details={"clean": False, "count": 0, "causes": {"expired": 3}})
    assert document(event)["details"] == {"clean": False, "count": 0, "causes": {"expired": 3}}


@pytest.mark.parametrize(("dirty", "shown"), [("a\x00b", "a\ufffdb"), ("\ud800", "\ufffd"), ("ä\udfff", "ä\ufffd")])
def test_nul_and_lone_surrogates_are_replaced(dirty: str, shown: str) -> None:
    assert clean(dirty) == shown


def test_texts_are_bounded_and_say_so() -> None:
    event = document(an_event(reason="r" * 20_000, ticket="t" * 20_000))
    assert event["reason"] == "r" * (MAX_REASON - 1) + "…"
    assert event["ticket"] == "t" * (MAX_TEXT - 1) + "…"


def test_ten_thousand_groups_are_bounded_and_say_so() -> None:
    caller = Caller(
        issuer="i",
        subject="s",
        kind="user",
        groups=tuple(f"g{number}" for number in range(10_000)),
        token_expires_at=NOW,
    )
    groups = json.loads(encode(document(an_event(actor=caller)), 0, TIME))["actor"]["groups"]
    assert len(groups) == MAX_ITEMS
    assert groups[-1] == "… 9745 more"


@pytest.mark.parametrize("value", [1.5, None, Secret("s3cret"), {"a": 1.5}, {"a": "text"}, 2**53, b"bytes", ["list"]])
def test_a_detail_that_json_cannot_hold_exactly_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)) as refusal:
        document(an_event(details={"detail": value}))
    assert "s3cret" not in str(refusal.value)


@pytest.mark.parametrize("name", ["", "ä", "with space", "x" * 129])
def test_a_member_that_would_sort_differently_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="short ASCII name"):
        document(an_event(details={name: 1}))


def test_a_request_that_a_crash_left_open_is_closed_with_all_that_is_known_of_it() -> None:
    requested = parse(encode(document(an_event("credential.requested", number=7)), 5, TIME))
    closing = outcome_unknown(requested)
    assert (closing["event"], closing["outcome"], closing["error"]) == (
        "credential.failed",
        "unknown",
        "outcome_unknown",
    )
    assert closing["request_id"] == "request-7"
    assert closing["actor"] == requested["actor"]
    assert not {"index", "time"} & closing.keys()


@pytest.mark.parametrize(
    "leaf",
    [
        b'{"a":1,"a":2}',
        b'{"x":{"a":1,"a":2}}',
        b"[1]",
        b'{"a":NaN}',
        b"\xef\xbb\xbf{}",
        b'{"a":1} x',
        b"\xff",
        b"",
        b"[" * 100_000,
    ],
)
def test_a_leaf_that_readers_would_disagree_about_is_refused(leaf: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- any refusal will do
        parse(leaf)


def test_times_are_read_as_milliseconds() -> None:
    assert milliseconds(TIME) == int(datetime(2026, 1, 31, 9, 30, tzinfo=UTC).timestamp() * 1000)
    with pytest.raises(ValueError, match="zone"):
        milliseconds("2026-01-31T09:30:00")


def test_tags_of_an_instance_are_bounded_and_their_names_are_ascii() -> None:
    many = {f"tag-{number:03}": "x" * 300 for number in range(60)}
    tags = tags_of(an_event(tags=many | {"\0": "nul"}))
    assert len(tags) == MAX_TAGS
    assert tags["tag-000"] == "x" * (MAX_TAG - 1) + "…"
    assert tags["\\ufffd"] == "nul"
    assert tags_of(an_event(tags={"größe": "xl"})) == {"gr\\xf6\\xdfe": "xl"}
    assert tags_of(an_event()) is None


def tags_of(event: Event) -> Any:
    """Answer the tags of the instance as they are written."""
    place = document(event)["instance"]
    assert isinstance(place, dict)
    return place.get("tags")
