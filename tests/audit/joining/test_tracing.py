from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from broker.audit.checkpoints import Signer
from broker.audit.joining.sshd import Certificate, Login
from broker.audit.joining.tracing import MARGIN, Issues, Verdict, judge, window
from broker.audit.leaves import milliseconds
from broker.audit.paging import walk
from broker.audit.stores import Filters
from broker.audit.stores.sqlite_reader import SqliteReader
from broker.model import CredentialFacts, Event, InstanceRef, Source
from tests.audit.conftest import write_log
from tests.doubles.audit import NOW, an_event

PRINT = "NSA7nTagtvixf2vtx4yj/VLUcSzcvrDMyQZYl1JUklw"
OURS = Certificate("0", "AbC:1", PRINT)
START = milliseconds(NOW.isoformat())
SKEW = 60_000
MINUTE = 60_000


def issued(certificate: Certificate = OURS, **members: Any) -> Event:
    facts = CredentialFacts(
        certificate_serial=int(certificate.serial),
        key_id=certificate.key_id,
        public_key_sha256=f"{certificate.fingerprint}=",
    )
    return an_event("credential.issued", credential=facts, **members)


def a_login(**members: Any) -> Login:
    login = Login(START + MINUTE // 2, "ip-172-26-0-1", "publickey", "ec2-user", "203.0.113.9", "5", OURS, "")
    return login._replace(**members)


class Log:
    """Writes events and joins with them."""

    def __init__(self, path: Path, signer: Signer) -> None:
        self._path = path
        self._signer = signer

    def judge(self, login: Login, events: Sequence[Event], instance: str = "") -> tuple[str, int | None, list[str]]:
        """Answer verdict, index of the event, and notes."""
        write_log(self._path, self._signer, events)
        opened = SqliteReader(self._path)
        issues = Issues({login.certificate} if login.certificate else set())
        issues.take(walk(opened, window([login])), walk(opened, Filters(event="credential.withheld")))
        opened.close()
        trace = judge(login, issues, instance=instance, skew=SKEW)
        return trace.verdict, trace.issue.index if trace.issue else None, list(trace.notes)


@pytest.fixture
def log(tmp_path: Path, signer: Signer) -> Log:
    return Log(tmp_path / "audit.db", signer)


def test_a_login_leads_to_the_person(log: Log) -> None:
    assert log.judge(a_login(), [an_event(), issued()]) == ("issued", 1, [])


@pytest.mark.parametrize(
    "other",
    [
        OURS._replace(serial="1"),
        OURS._replace(key_id="AbC:2"),
        OURS._replace(fingerprint=PRINT.replace("N", "M")),
    ],
)
def test_one_of_three_that_differs_is_another_certificate(log: Log, other: Certificate) -> None:
    assert log.judge(a_login(certificate=other), [issued()]) == (Verdict.UNKNOWN, None, [])


def test_a_login_without_a_certificate_did_not_come_from_the_broker(log: Log) -> None:
    login = a_login(certificate=None, remark="by password")
    assert log.judge(login, [issued()]) == (Verdict.UNKNOWN, None, ["by password"])


def test_an_event_of_another_kind_is_no_issue(log: Log) -> None:
    failed = replace(issued(), event="credential.failed")
    assert log.judge(a_login(), [failed])[0] == Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        (-2 * MINUTE, Verdict.EARLY),
        (-MINUTE // 2, Verdict.ISSUED),
        (MINUTE, Verdict.ISSUED),
        (MINUTE + 1, Verdict.EXPIRED),
    ],
)
def test_a_login_counts_from_issue_to_expiry_give_or_take_the_clocks(log: Log, after: int, verdict: str) -> None:
    """NOW is when the credential was issued and when it ends."""
    assert log.judge(a_login(time=START + after), [issued()])[0] == verdict


def test_a_login_without_a_time_is_joined_and_says_so(log: Log) -> None:
    verdict, index, notes = log.judge(a_login(time=None), [issued()])
    assert (verdict, index) == ("issued", 0)
    assert "no times" in notes[0]


@pytest.mark.parametrize(("lease", "verdict"), [("lease-1", Verdict.WITHHELD), ("lease-2", Verdict.ISSUED)])
def test_a_credential_that_was_never_handed_over_stands_out(log: Log, lease: str, verdict: str) -> None:
    withheld = an_event("credential.withheld", outcome="failure", credential=None, lease_id=lease)
    assert log.judge(a_login(), [issued(), withheld])[0] == verdict


@pytest.mark.parametrize(
    ("instance", "verdict"),
    [
        ("web-1", Verdict.ISSUED),
        ("main/eu-west-1/web-1", Verdict.ISSUED),
        ("main/us-east-1/web-1", Verdict.ELSEWHERE),
        ("web-2", Verdict.ELSEWHERE),
    ],
)
def test_the_instance_of_a_log_can_be_named(log: Log, instance: str, verdict: str) -> None:
    assert log.judge(a_login(), [issued()], instance)[0] == verdict


@pytest.mark.parametrize(
    ("host", "verdict"),
    [
        ("web-1", Verdict.ISSUED),
        ("web-1.example.com", Verdict.ISSUED),
        ("ip-172-26-0-1", Verdict.ISSUED),
        ("web-2", Verdict.ELSEWHERE),
        ("web-2.example.com", Verdict.ELSEWHERE),
        ("", Verdict.ISSUED),
    ],
)
def test_a_host_tells_when_it_has_an_instance_s_name(log: Log, host: str, verdict: str) -> None:
    second = issued(OURS._replace(key_id="other"), instance=InstanceRef("main", "eu-west-1", "web-2"))
    assert log.judge(a_login(host=host), [issued(), second])[0] == verdict


def test_the_worst_comes_first_and_the_rest_is_noted(log: Log) -> None:
    login = a_login(time=START + 5 * MINUTE, address="198.51.100.1")
    assert log.judge(login, [issued()], "web-2") == (
        Verdict.ELSEWHERE,
        0,
        ["after expiry", "asked for from 203.0.113.9"],
    )


@pytest.mark.parametrize(
    ("asked", "came", "notes"),
    [
        ("203.0.113.9", "203.0.113.9", []),
        ("203.0.113.9", "::ffff:203.0.113.9", []),
        ("2001:db8::1", "2001:0db8:0:0::1", []),
        ("fe80::1", "fe80::1%eth0", []),
        ("203.0.113.9", "UNKNOWN", ["asked for from 203.0.113.9"]),
        ("203.0.113.9", "203.0.113.10", ["asked for from 203.0.113.9"]),
    ],
)
def test_another_address_is_a_note_and_no_fault(log: Log, asked: str, came: str, notes: list[str]) -> None:
    traced = log.judge(a_login(address=came), [issued(source=Source(asked, ""))])
    assert traced == (Verdict.ISSUED, 0, notes)


def test_of_several_issues_of_a_certificate_the_newest_before_the_login_counts(log: Log) -> None:
    events = [issued(), issued(), issued()]  # 7 ms apart
    assert log.judge(a_login(), events)[1] == 2


def test_issues_are_looked_for_around_the_logins() -> None:
    filters = window([a_login(time=5 * MARGIN), a_login(time=7 * MARGIN)])
    assert (filters.event, filters.since, filters.until) == ("credential.issued", 4 * MARGIN, 8 * MARGIN)
    assert window([a_login(), a_login(time=None)]) == Filters(event="credential.issued")
    assert window([]) == Filters(event="credential.issued")


def test_a_walk_goes_through_all_pages(tmp_path: Path, signer: Signer) -> None:
    write_log(tmp_path / "audit.db", signer, [an_event(number=number) for number in range(2001)])
    opened = SqliteReader(tmp_path / "audit.db")
    assert [found.record.idx for found in walk(opened, Filters())] == list(range(2000, -1, -1))
    assert list(walk(opened, Filters(event="credential.issued"))) == []
    opened.close()
