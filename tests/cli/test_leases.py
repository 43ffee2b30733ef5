import json

from tests.doubles.client import ServiceDouble, page

from .conftest import Terminal

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
    assert lines[1].split() == ["corp/alice", place, "ssh", start, end, "OPS-7", "to", "look", "41"]
    assert "rdp (break-glass)" in lines[2]
    assert "lives on" in ended.stderr
    assert service.seen[0].query == {"instance": ["web-1"], "actor": ["corp/alice"]}


def test_other_programs_get_leases_as_they_are(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("GET /v1/leases", page(LEASE, cursor="2"), page(LEASE))
    assert json.loads(terminal.broker("leases", "--format", "json").stdout) == [LEASE, LEASE]


def test_that_nothing_is_out_is_said(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("GET /v1/leases", page())
    ended = terminal.broker("leases")
    assert (ended.returncode, ended.stdout) == (0, "")
    assert "nothing is out" in ended.stderr
