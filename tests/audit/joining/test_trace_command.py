from __future__ import annotations

import gzip
import io
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from broker.errors import AuditUnavailable
from broker.model import CredentialFacts
from tests.audit.commands import Desk, a_desk
from tests.doubles.audit import an_event

PRINT = "NSA7nTagtvixf2vtx4yj/VLUcSzcvrDMyQZYl1JUklw"
CA = "CA RSA SHA256:YvSx543185G8Uiv/dCMVvZOkH9UXyNSbuEVktdiG95I"
HOW = "from 203.0.113.9 port 51234 ssh2"
OURS = f"Accepted publickey for ec2-user {HOW}: RSA-CERT SHA256:{PRINT} ID AbC:1 (serial 0) {CA}"
OTHER = f"Accepted publickey for ec2-user {HOW}: RSA-CERT SHA256:{PRINT} ID AbC:1 (serial 1) {CA}"
STAMP = "2026-01-31T09:30:10Z"


def log_of(*messages: str) -> str:
    return "".join(f"{STAMP} ip-172-26-0-1 sshd[1]: {message}\n" for message in messages)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    facts = CredentialFacts(certificate_serial=0, key_id="AbC:1", public_key_sha256=f"{PRINT}=")
    return a_desk(tmp_path, [an_event(), an_event("credential.issued", 1, credential=facts)])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "auth.log"
    path.write_text(log_of("Server listening on :: port 22.", OURS, "Received disconnect from 203.0.113.9"))
    return path


def test_a_login_that_the_broker_issued_is_traced(desk: Desk, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.audit("trace", "--sshd-log", log) == 0
    shown, told = capsys.readouterr()
    assert re.split(" {2,}", shown.splitlines()[1]) == [
        "2026-01-31T09:30:10.000Z",
        "issued",
        "ip-172-26-0-1",
        "ec2-user",
        "203.0.113.9",
        "corp/alice",
        "main/eu-west-1/web-1",
        "1",
        "OPS-7; to look at its logs",
    ]
    assert "3 lines, 1 logins, 0 of them not as issued" in told


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_json_and_yaml_say_all(desk: Desk, log: Path, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.audit("trace", "--sshd-log", log, "--format", form) == 0
    [item] = yaml.safe_load(capsys.readouterr().out)  # JSON is YAML
    assert item["certificate"] == {"serial": "0", "key_id": "AbC:1", "fingerprint": PRINT}
    assert (item["verdict"], item["method"], item["port"]) == ("issued", "publickey", "51234")
    issue = item["issue"]
    assert (issue["index"], issue["actor"], issue["request_id"]) == (1, "corp/alice", "request-1")
    assert (issue["protocol"], issue["expires_at"]) == ("ssh", "2026-01-31T09:30:00.000Z")


@pytest.mark.parametrize(
    "message", [OTHER, f"Accepted password for root {HOW}", f"Accepted publickey for root {HOW}: RSA SHA256:{PRINT}"]
)
def test_a_login_that_did_not_come_from_the_broker_exits_1(
    desk: Desk, log: Path, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    log.write_text(log_of(OURS, message))
    assert desk.audit("trace", "--sshd-log", log, "--format", "json") == 1
    assert [item["verdict"] for item in json.loads(capsys.readouterr().out)] == ["issued", "not issued by the broker"]


def test_expiry_skew_and_instance_are_looked_at(desk: Desk, log: Path) -> None:
    assert desk.audit("trace", "--sshd-log", log, "--skew", "5s") == 1
    assert desk.audit("trace", "--sshd-log", log, "--skew", "15s") == 0
    assert desk.audit("trace", "--sshd-log", log, "--instance", "web-1") == 0
    assert desk.audit("trace", "--sshd-log", log, "--instance", "main/eu-west-1/web-2") == 1


def test_classic_times_take_zone_and_year_from_the_command_line(desk: Desk, log: Path) -> None:
    log.write_text(f"Jan 31 10:30:10 ip-172-26-0-1 sshd[1]: {OURS}\n")
    words = ("trace", "--sshd-log", log)
    assert desk.audit(*words, "--zone", "Europe/Berlin", "--written", "2026-02-01") == 0
    assert desk.audit(*words, "--written", "2026-02-01") == 1
    assert desk.audit(*words, "--zone", "Europe/Berlin", "--written", "2026-01-01T00:00:00Z") == 1


def test_times_out_of_all_bounds_are_shown_and_found(desk: Desk, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stamps = ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999Z", "Feb 29 00:00:00"]
    log.write_text("".join(f"{stamp} web-1 sshd[1]: {OURS}\n" for stamp in stamps))
    assert desk.audit("trace", "--sshd-log", log, "--format", "json") == 1
    times = [item["time"] for item in json.loads(capsys.readouterr().out)]
    assert times[:3] == ["0001-01-01T00:00:00.000Z", None, "9999-12-31T23:59:59.999Z"]


def test_several_logs_packed_or_not_are_read(
    desk: Desk, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = tmp_path / "auth.log.1.gz"
    packed.write_bytes(gzip.compress(log_of(OURS, OURS).encode()))
    assert desk.audit("trace", "--sshd-log", packed, "--sshd-log", log, "--format", "json") == 0
    assert len(json.loads(capsys.readouterr().out)) == 3


@contextmanager
def standard_input(content: bytes) -> Iterator[None]:
    before = sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(content))
    try:
        yield
    finally:
        sys.stdin = before


def test_standard_input_is_read_packed_or_not(desk: Desk) -> None:
    for content in (log_of(OURS).encode(), gzip.compress(log_of(OURS).encode())):
        with standard_input(content):
            assert desk.audit("trace", "--sshd-log", "-") == 0


@pytest.mark.parametrize("content", [b"", b"\x00\x01\n", b"GET / HTTP/1.1\n" * 9])
def test_a_log_of_which_nothing_is_understood_exits_2(
    desk: Desk, log: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    log.write_bytes(content)
    assert desk.audit("trace", "--sshd-log", log) == 2
    assert "no line is one of sshd's log" in capsys.readouterr().err
    assert desk.readings() == []


def test_what_was_not_read_whole_is_no_success(
    desk: Desk, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress(log_of(*[OURS] * 9).encode())[:-6])
    assert desk.audit("trace", "--sshd-log", log, "--sshd-log", cut) == 1
    assert "cut.gz: damaged gzip" in capsys.readouterr().err
    (tmp_path / "noise").write_text("noise\n")
    assert desk.audit("trace", "--sshd-log", log, "--sshd-log", tmp_path / "noise") == 1
    log.write_text(log_of(OURS) + f"31.01.2026 web-1 sshd[1]: {OURS}\n")
    assert desk.audit("trace", "--sshd-log", log) == 1
    assert "may be logins and cannot be read, the first is line 2" in capsys.readouterr().err


def test_a_log_without_logins_is_fine(desk: Desk, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log.write_text(log_of("Server listening on :: port 22."))
    assert desk.audit("trace", "--sshd-log", log) == 0
    assert "nobody has logged in" in capsys.readouterr().err


def test_tracing_is_an_event_where_settings_tell_of_which_log(desk: Desk, log: Path) -> None:
    desk.audit("trace", "--sshd-log", log, "--database", desk.database)
    assert desk.readings() == []
    desk.audit("trace", "--sshd-log", log, "--instance", "web-1")
    assert desk.readings() == [[f"sshd_log={log}", "instance=web-1"]]


def test_what_cannot_be_recorded_is_not_shown(desk: Desk, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    desk.database.unlink()
    with pytest.raises(AuditUnavailable):
        desk.audit("trace", "--sshd-log", log)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--zone", "Europe/Nowhere"), "no time zone"),
        (("--zone", "../etc/passwd"), "no time zone"),
        (("--written", "soon"), "write a date like"),
        (("--skew", "soon"), "write a duration"),
    ],
)
def test_arguments_that_cannot_be_meant_are_refused(
    desk: Desk, log: Path, words: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        desk.audit("trace", "--sshd-log", log, *words)
    assert says in capsys.readouterr().err
