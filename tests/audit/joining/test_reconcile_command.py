from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.audit.commands import Desk, a_desk
from tests.doubles.audit import an_event
from tests.doubles.cloudtrail import ROLE, SESSION, a_record

LATER = a_record(eventName="GetInstances", time="2026-01-31T11:00:00Z")
EARLIER = a_record(eventName="GetInstances", time="2026-01-31T08:00:00Z")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return a_desk(tmp_path, [an_event("credential.issued", upstream_request_id="aws-1")])


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    return tmp_path / "trail"


def deliver(folder: Path, *records: dict[str, Any]) -> None:
    """Lay records out as CloudTrail does in S3, each in a file of its own."""
    for number, record in enumerate(records):
        day = folder / "AWSLogs/111122223333/CloudTrail" / record["awsRegion"] / "2026/01/31"
        day.mkdir(parents=True, exist_ok=True)
        packed = gzip.compress(json.dumps({"Records": [record]}).encode())
        (day / f"111122223333_CloudTrail_eu-west-1_{number}.json.gz").write_bytes(packed)


def test_a_trail_that_the_log_explains_is_fine(desk: Desk, trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deliver(trail, LATER, a_record(), a_record("aws-0", errorCode="ThrottlingException"), EARLIER, a_record())
    assert desk.audit("reconcile", "--cloudtrail", trail, "--principal", ROLE) == 0
    shown, told = capsys.readouterr()
    assert shown == ""
    assert "everything fits" in told
    assert "5 records; 1 calls that minted, 0 of them not in the log; 1 calls that AWS refused; 1 records" in told


def test_a_call_that_the_log_does_not_know_exits_1_and_says_who(
    desk: Desk, trail: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mallory = {"type": "IAMUser", "arn": "arn:aws:iam::111122223333:user/mallory"}
    deliver(trail, a_record(), a_record("aws-2", userIdentity=mallory, userAgent="aws-cli/2"))
    assert desk.audit("reconcile", "--cloudtrail", trail, "--principal", ROLE) == 1
    shown, told = capsys.readouterr()
    assert re.split(" {2,}", shown.splitlines()[1]) == [
        "2026-01-31T09:30:00.000Z",
        "not in the log",
        mallory["arn"],
        "198.51.100.7",
        "111122223333/eu-west-1/web-1",
        "aws-2",
        "not the broker's; aws-cli/2",
    ]
    assert "1 of them not in the log" in told


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_json_and_yaml_say_all(desk: Desk, trail: Path, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    deliver(trail, a_record(requestParameters={"instanceName": "web-2"}))
    assert desk.audit("reconcile", "--cloudtrail", trail, "--format", form) == 1
    [item] = yaml.safe_load(capsys.readouterr().out)
    assert item["finding"] == "other instance"
    assert (item["call"]["principal"], item["call"]["instance"], item["call"]["protocol"]) == (SESSION, "web-2", "ssh")
    assert (item["event"]["index"], item["event"]["actor"], item["event"]["upstream_request_id"]) == (
        0,
        "corp/alice",
        "aws-1",
    )


def test_an_issue_that_cloudtrail_does_not_have_is_for_information(
    desk: Desk, trail: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deliver(trail, EARLIER, LATER)
    words = ("reconcile", "--cloudtrail", trail, "--format", "json")
    assert desk.audit(*words) == 0
    [item] = json.loads(capsys.readouterr().out)
    assert (item["finding"], item["event"]["index"]) == ("not in CloudTrail", 0)
    assert desk.audit(*words, "--lag", "2h") == 0
    assert json.loads(capsys.readouterr().out) == []


def test_files_of_every_shape_are_read(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "lines.jsonl").write_text(f"{json.dumps(EARLIER)}\n{json.dumps(a_record())}\n")
    (tmp_path / "events.json").write_text(json.dumps({"Events": [{"CloudTrailEvent": json.dumps(a_record("aws-2"))}]}))
    assert desk.audit("reconcile", "--cloudtrail", tmp_path / "lines.jsonl") == 0
    both = ("--cloudtrail", tmp_path / "lines.jsonl", "--cloudtrail", tmp_path / "events.json")
    assert desk.audit("reconcile", *both) == 1


@pytest.mark.parametrize("content", ["", "not JSON", "{}", '{"Records": []}'])
def test_a_trail_without_records_exits_2(desk: Desk, trail: Path, content: str) -> None:
    trail.mkdir()
    assert desk.audit("reconcile", "--cloudtrail", trail) == 2
    (trail / "a.json").write_text(content)
    assert desk.audit("reconcile", "--cloudtrail", trail) == 2
    assert desk.readings() == []


def test_what_was_not_read_whole_is_no_success(desk: Desk, trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deliver(trail, a_record())
    (trail / "b.json").write_text("not JSON")
    assert desk.audit("reconcile", "--cloudtrail", trail) == 1
    assert "b.json: not JSON" in capsys.readouterr().err
    (trail / "b.json").write_text('{"Records": [{}]}')
    assert desk.audit("reconcile", "--cloudtrail", trail) == 1
    assert "1 records cannot be read" in capsys.readouterr().err


def test_reconciling_is_an_event_where_settings_tell_of_which_log(desk: Desk, trail: Path) -> None:
    deliver(trail, a_record())
    assert desk.audit("reconcile", "--cloudtrail", trail, "--database", desk.database) == 0
    assert desk.readings() == []
    assert desk.audit("reconcile", "--cloudtrail", trail) == 0
    assert desk.readings() == [[f"cloudtrail={trail}"]]
