from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.audit.joining.cloudtrail import Call, Covered, Trail, files
from broker.audit.joining.files import Unreadable
from broker.audit.leaves import milliseconds
from tests.doubles.cloudtrail import ROLE, SESSION, a_record

START = milliseconds("2026-01-31T09:30:00Z")


def read(content: str | bytes) -> tuple[list[Call], Trail]:
    trail = Trail()
    text = content if isinstance(content, bytes) else content.encode()
    return list(trail.calls("trail", io.BytesIO(text))), trail


def looked_up(*records: dict[str, Any]) -> dict[str, Any]:
    return {"Events": [{"EventId": r["eventID"], "CloudTrailEvent": json.dumps(r)} for r in records]}


TWO = [a_record("aws-1"), a_record("aws-2")]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"Records": TWO}),
        json.dumps({"Records": TWO}, indent=2),
        "\n".join(map(json.dumps, TWO)),
        "\n\n".join(map(json.dumps, TWO)) + "\n\n",
        "\n".join(json.dumps({"Records": [record]}) for record in TWO),
        json.dumps(TWO),
        json.dumps(looked_up(*TWO), indent=4),
    ],
    ids=["as S3 has it", "indented", "lines", "lines apart", "lines of records", "list", "lookup-events"],
)
def test_every_shape_is_read(content: str) -> None:
    calls, trail = read(content)
    assert [call.request_id for call in calls] == ["aws-1", "aws-2"]
    assert (trail.records, trail.unread) == (2, 0)


def test_a_call_says_who_what_and_where() -> None:
    [call], _ = read(json.dumps(a_record()))
    assert call == Call(
        request_id="aws-1",
        event_id="event-of-aws-1",
        time=START,
        principal=SESSION,
        role=ROLE,
        address="198.51.100.7",
        user_agent="aiobotocore/2.25 Python/3.11",
        account="111122223333",
        region="eu-west-1",
        instance="web-1",
        protocol="ssh",
        error="",
    )


def test_other_calls_only_tell_how_far_the_trail_reaches() -> None:
    records = [
        a_record(eventName="GetInstances", time="2026-01-31T08:00:00Z"),
        a_record(eventSource="ec2.amazonaws.com", time="2026-01-31T10:00:00Z"),
        a_record(awsRegion="us-east-1"),
    ]
    calls, trail = read(json.dumps({"Records": records}))
    assert [call.region for call in calls] == ["us-east-1"]
    hour = 3_600_000
    assert trail.covered == {
        "eu-west-1": Covered(START - 3 * hour // 2, START + hour // 2),
        "us-east-1": (START, START),
    }


def test_what_is_missing_is_empty() -> None:
    record = a_record(requestParameters=None, userIdentity={"type": "AWSService", "invokedBy": "x.amazonaws.com"})
    [call], _ = read(json.dumps(record))
    assert (call.instance, call.protocol, call.principal, call.role) == ("", "ssh", "x.amazonaws.com", "")


@pytest.mark.parametrize("content", ["not JSON", "{", '{"Records": [}', json.dumps(a_record()) + "\nnot JSON", ""])
def test_what_is_not_json_is_unreadable(content: str) -> None:
    with pytest.raises(Unreadable, match="trail: not JSON"):
        read(content)


def test_records_that_are_none_are_counted() -> None:
    calls, trail = read(json.dumps({"Records": [1, {}, a_record(time="soon"), a_record()]}))
    assert (len(calls), trail.records, trail.unread) == (1, 4, 3)
    assert read(json.dumps({"Events": [{}, 1, {"CloudTrailEvent": "{"}]}))[1].unread == 3


JSON: st.SearchStrategy[object] = st.recursive(
    st.none() | st.integers() | st.sampled_from(["", "2026-01-31T09:30:00Z", "ssh"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*a_record(), "arn"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(JSON, st.dictionaries(st.sampled_from([*a_record()]), JSON, max_size=3))
def test_no_document_breaks_the_reader(document: object, members: dict[str, object]) -> None:
    read(json.dumps(document))
    calls, trail = read(json.dumps({"Records": [a_record() | members]}))
    assert trail.records == 1
    assert len(calls) + trail.unread <= 1


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(noise: bytes) -> None:
    try:
        calls, _ = read(noise)
    except Unreadable:
        return
    assert calls == []


def test_a_directory_is_read_as_deep_as_it_goes(tmp_path: Path) -> None:
    names = [
        "AWSLogs/111122223333/CloudTrail/eu-west-1/2026/01/31/a.json.gz",
        "AWSLogs/111122223333/CloudTrail/eu-west-1/2026/02/01/b.json",
        "AWSLogs/111122223333/CloudTrail-Digest/eu-west-1/2026/01/31/digest.json.gz",
        "notes.txt",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list(files(str(tmp_path))) == [str(tmp_path / name) for name in names[:2]]
    assert list(files(str(tmp_path / "notes.txt"))) == [str(tmp_path / "notes.txt")]
    assert list(files("-")) == ["-"]
