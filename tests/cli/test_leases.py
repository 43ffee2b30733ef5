import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.doubles.client import ServiceDouble, page

from .conftest import Terminal, on_a_terminal

LEASE = {
    "lease_id": "1f",
    "actor": "corp/alice",
    "instance": {"account": "main", "region": "eu-west-1", "name": "web-1"},
    "protocol": "ssh",
    "issued_at": "2026-03-01T12:00:00.000Z",
    "expires_at": "2026-03-01T12:13:00.000Z",
    "reason": "to look",
    "ticket": "OPS-7",
    "break_glass": False,
    "revocable": False,
    "note": "",
    "audit_index": 41,
}


def test_leases_say_who_is_where_and_until_when(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("GET /v1/leases", page(LEASE, {**LEASE, "protocol": "rdp", "issued_at": None, "break_glass": True}))
    ended = terminal.broker("leases", "--instance", "web-1", "--actor", "corp/alice")
    lines = ended.stdout.splitlines()
    place = "main/eu-west-1/web-1"
    start, end = LEASE["issued_at"], LEASE["expires_at"]
    assert lines[1].split() == [place, "corp/alice", "ssh", start, end, "OPS-7", "to", "look", "41"]
    assert "rdp (break-glass)" in lines[2]
    assert "lives on" in ended.stderr
    assert service.seen[0].query == {"instance": ["web-1"], "actor": ["corp/alice"]}


@pytest.mark.parametrize("columns", [80, 120])
def test_on_a_terminal_the_instance_is_whole_and_times_are_short(
    columns: int, terminal: Terminal, service: ServiceDouble
) -> None:
    now = datetime.now(UTC)
    at_noon = f"HERE{now.hour - 12}"  # a zone in which that is far from midnight
    today = {"issued_at": now.isoformat(), "expires_at": (now + timedelta(minutes=13)).isoformat()}
    reason = "a rather long text of somebody who is in a hurry"
    service.tell("GET /v1/leases", page(LEASE | today | {"reason": reason}))
    heading, line = on_a_terminal(columns, terminal, "leases", TZ=at_noon)

    assert heading.split()[0] == "INSTANCE"
    assert line.split()[0] == "main/eu-west-1/web-1"
    assert f"12:{now.minute:02}" in line
    assert str(now.year) not in line
    assert len(line) <= columns


def test_other_programs_get_leases_as_they_are(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("GET /v1/leases", page(LEASE, cursor="2"), page(LEASE))
    assert json.loads(terminal.broker("leases", "--format", "json").stdout) == [LEASE, LEASE]


def test_that_nothing_is_out_is_said(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("GET /v1/leases", page())
    ended = terminal.broker("leases")
    assert (ended.returncode, ended.stdout) == (0, "")
    assert "nothing is out" in ended.stderr
