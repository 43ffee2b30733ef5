from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.audit.joining.sshd import CUT_CHARACTERS, Calendar, Certificate, Login, LogReader, login
from broker.audit.leaves import milliseconds

PRINT = "NSA7nTagtvixf2vtx4yj/VLUcSzcvrDMyQZYl1JUklw"
CA = "CA ED25519 SHA256:YvSx543185G8Uiv/dCMVvZOkH9UXyNSbuEVktdiG95I"
WRITTEN = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
NOON = milliseconds("2026-11-23T12:00:00Z")


def by(key_id: str, serial: int = 0) -> str:
    """What sshd logs of a certificate, its key id escaped as vis(3) does it for syslog."""
    escaped = key_id.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t").replace("\x1b", "\\033")
    return f"ED25519-CERT SHA256:{PRINT} ID {escaped} (serial {serial}) {CA}"


def accepted(how: str) -> str:
    return f"Accepted publickey for ec2-user from 203.0.113.9 port 51234 ssh2: {how}"


def reader() -> LogReader:
    return LogReader(Calendar(UTC, WRITTEN))


def read(line: str, log: LogReader | None = None) -> Login:
    found = (log or reader()).read(line.encode())
    assert found is not None, line
    return found


FRAMES = {
    "classic": "Nov 23 12:00:00 web-1 sshd[812]: {}",
    "classic, 9.8 on": "Nov 23 12:00:00 web-1 sshd-session[812]: {}",
    "classic with priority": "<38>Nov 23 12:00:00 web-1 sshd[812]: {}",
    "rfc 3339": "2026-11-23T12:00:00.000000+00:00 web-1 sshd[812]: {}",
    "rfc 3339 of another zone": "2026-11-23T13:00:00.000+01:00 web-1 sshd-session[812]: {}",
    "short-iso": "2026-11-23T12:00:00+0000 web-1 sshd[812]: {}",
    "by its path": "2026-11-23T12:00:00Z web-1 /usr/sbin/sshd[812]: {}",
    "reduced": "Nov 23 12:00:00 web-1 sshd[812]: message repeated 2 times: [ {}]",
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_a_login_is_read_in_every_frame(frame: str) -> None:
    found = read(frame.format(accepted(by("alice:OPS-7", 7))))
    assert found == Login(
        NOON, "web-1", "publickey", "ec2-user", "203.0.113.9", "51234", Certificate("7", "alice:OPS-7", PRINT), ""
    )


def journal(message: object, **fields: object) -> str:
    entry = {"__REALTIME_TIMESTAMP": str(NOON * 1000), "_HOSTNAME": "web-1", "SYSLOG_IDENTIFIER": "sshd"}
    return json.dumps({**entry, "MESSAGE": message, **fields}, separators=(",", ":"))


@pytest.mark.parametrize("program", ["sshd", "sshd-session"])
@pytest.mark.parametrize("form", [str, lambda message: [*message.encode()]], ids=["text", "bytes"])
def test_the_journal_is_read_also_where_it_writes_bytes(program: str, form: Callable[[str], object]) -> None:
    line = journal(form(accepted(by("alice"))), SYSLOG_IDENTIFIER=program)
    log = reader()
    log.read(journal("Server listening on :: port 22.").encode())
    found = read(line, log)
    assert (found.time, found.host, found.certificate) == (NOON, "web-1", Certificate("0", "alice", PRINT))


def test_the_file_of_sshd_itself_has_neither_time_nor_host() -> None:
    found = read(accepted(by("alice")))
    assert (found.time, found.host, found.certificate) == (None, "", Certificate("0", "alice", PRINT))


@pytest.mark.parametrize(
    ("message", "remark"),
    [
        ("Accepted password for root from ::1 port 22 ssh2", "by password"),
        ("Accepted keyboard-interactive/pam for root from ::1 port 22 ssh2", "by keyboard-interactive/pam"),
        (
            f"Accepted publickey for root from ::1 port 22 ssh2: RSA SHA256:{PRINT}",
            f"by a plain key: RSA SHA256:{PRINT}",
        ),
        ("Accepted publickey for root from ::1 port 22 ssh2", "by a plain key"),
        (f"Accepted hostbased for root from ::1 port 22 ssh2: RSA SHA256:{PRINT}, client user", "by hostbased"),
        (
            f"Accepted publickey for root from ::1 port 22 ssh2: RSA-CERT MD5:00:11 ID x (serial 0) {CA}",
            "FingerprintHash",
        ),
        (f"Accepted publickey for root from ::1 port 22 ssh2: RSA-CERT SHA256:{PRINT} ID cut off", "cannot be read"),
        ("Accepted publickey for root", "the line is cut"),
    ],
)
def test_a_login_without_a_certificate_is_one_too(message: str, remark: str) -> None:
    found = read(f"Nov 23 12:00:00 web-1 sshd[1]: {message}")
    assert found.certificate is None
    assert remark in found.remark
    assert found.user == "root"


@pytest.mark.parametrize(
    "message",
    [
        f'Accepted certificate ID "alice" (serial 0) signed by {CA} via /etc/ssh/ca.pub',
        "Accepted key ED25519 SHA256:x found at /etc/ssh/keys/x:1",
        "Failed password for invalid user Accepted publickey for root from ::1 port 22 ssh2",
        "Partial publickey for root from ::1 port 22 ssh2: RSA SHA256:x",
        "Postponed publickey for root from ::1 port 22 ssh2 [preauth]",
    ],
)
def test_what_lets_nobody_in_is_no_login(message: str) -> None:
    for line in (message, f"Nov 23 12:00:00 web-1 sshd[1]: {message}"):
        log = reader()
        assert log.read(line.encode()) is None
        assert log.doubtful == []


@pytest.mark.parametrize(
    "line",
    [
        "Nov 23 12:00:00 web-1 logger: sshd[1]: {}",
        "Nov 23 12:00:00 web-1 notsshd[1]: {}",
        "2026-11-23T12:00:00Z web-1 app[1]: sshd[2]: {}",
        "Nov 23 12:00:00 web-1 sshd[1]: Invalid user Nov 23 12:00:00 web-1 sshd[1]: {}",
    ],
)
def test_another_program_s_line_is_no_login(line: str) -> None:
    log = reader()
    assert log.read(line.format(accepted(by("x"))).encode()) is None
    assert log.understood
    assert log.doubtful == []


def test_a_line_that_may_be_a_login_is_told_of() -> None:
    log = reader()
    log.read(b"Server listening on 127.0.0.1 port 22.")
    assert log.read(f"23.11.2026 12:00 web-1 sshd[1]: {accepted(by('x'))}".encode()) is None
    assert log.read(b'{"MESSAGE": "Accepted publickey for root') is None
    assert log.doubtful == [2, 3]


@pytest.mark.parametrize("noise", [b"", b"\x00\xff\xfe", b"GET / HTTP/1.1", b"{}", b"[1]", b"{" * 9000])
def test_what_is_no_log_is_not_understood(noise: bytes) -> None:
    log = reader()
    assert log.read(noise) is None
    assert not log.understood


@pytest.mark.parametrize("stamp", ["", "9" * 17, "-1", "soon", 7, None])
def test_a_journal_s_time_that_there_is_not_leaves_the_login(stamp: object) -> None:
    assert read(journal(accepted(by("x")), __REALTIME_TIMESTAMP=stamp)).time is None


# -- key ids are hostile


HOSTILE = [
    "x (serial 1)",
    f"alice (serial 1) {CA}",
    f"alice (serial 1) {CA}, (serial 2) {CA}",
    "alice\nAccepted publickey for root from 192.0.2.1 port 1 ssh2: ED25519 SHA256:x",
    "alice from 192.0.2.1 port 1 ssh2: RSA-CERT SHA256:x ID root",
    "back\\slash and \\012 and \\n",
    "\t\x1b[2J",
    "",
    " ",
]


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
@pytest.mark.parametrize("key_id", HOSTILE)
def test_a_hostile_key_id_is_only_a_key_id(frame: str, key_id: str) -> None:
    found = read(frame.format(accepted(by(key_id, 18446744073709551615))))
    assert found.certificate == Certificate("18446744073709551615", key_id, PRINT)
    assert (found.user, found.address) == ("ec2-user", "203.0.113.9")


@given(st.text(max_size=200).filter(str.isprintable), st.integers(0, 2**64 - 1))
def test_whatever_a_key_id_says_its_serial_is_the_last(key_id: str, serial: int) -> None:
    assert read(accepted(by(key_id, serial))).certificate == Certificate(str(serial), key_id, PRINT)


def test_the_end_of_a_line_that_was_cut_is_not_believed() -> None:
    cut = accepted(by("x" * CUT_CHARACTERS, 7))
    assert login(cut, None, "") == Login(
        None, "", "publickey", "ec2-user", "203.0.113.9", "51234", None, "the line is cut"
    )


def test_bytes_that_sshd_escaped_are_text_again() -> None:
    found = login("Accepted password for ren\\303\\251 from ::1 port 1 ssh2", None, "")
    assert found is not None
    assert found.user == "rené"


@given(st.binary(max_size=400))
def test_no_bytes_break_the_reader(noise: bytes) -> None:
    log = reader()
    for line in (noise, b"{" + noise, b"Accepted " + noise, b"Nov 23 12:00:00 h sshd: Accepted x for " + noise):
        log.read(line)
    assert log.lines == 4


@given(
    st.dictionaries(
        st.sampled_from(["MESSAGE", "__REALTIME_TIMESTAMP", "_HOSTNAME", "SYSLOG_IDENTIFIER"]),
        st.none()
        | st.integers()
        | st.lists(st.integers() | st.none())
        | st.sampled_from(["sshd", "Accepted", "", "9"]),
    )
)
def test_no_journal_entry_breaks_the_reader(entry: dict[str, object]) -> None:
    log = reader()
    log.read(json.dumps(entry).encode())
    assert log.lines == 1


# -- times


@pytest.mark.parametrize(
    ("stamp", "written", "moment"),
    [
        ("Nov 23 12:00:00", "2026-11-23T12:00:00Z", "2026-11-23T12:00:00Z"),
        ("Nov  3 12:00:00", "2026-11-23T12:00:00Z", "2026-11-03T12:00:00Z"),
        ("Dec 31 23:59:59", "2026-01-01T00:10:00Z", "2025-12-31T23:59:59Z"),
        ("Jan  1 00:05:00", "2025-12-31T23:59:00Z", "2026-01-01T00:05:00Z"),
        ("Feb 29 00:00:00", "2027-01-01T00:00:00Z", "2024-02-29T00:00:00Z"),
    ],
)
def test_a_year_is_the_latest_that_the_log_can_have_had(stamp: str, written: str, moment: str) -> None:
    log = LogReader(Calendar(UTC, datetime.fromisoformat(written)))
    assert read(f"{stamp} web-1 sshd[1]: {accepted(by('x'))}", log).time == milliseconds(moment)


def test_a_time_without_a_zone_is_of_the_zone_that_is_named() -> None:
    log = LogReader(Calendar(ZoneInfo("Europe/Berlin"), WRITTEN))
    for stamp in ("Nov 23 13:00:00", "2026-11-23T13:00:00", "2026-11-23 13:00:00,000"):
        assert read(f"{stamp} web-1 sshd[1]: {accepted(by('x'))}", log).time == NOON


@pytest.mark.parametrize("stamp", ["Nov 31 12:00:00", "Foo 23 12:00:00", "Nov 23 25:00:00", "2026-13-01T00:00:00Z"])
def test_a_time_that_there_is_not_leaves_the_login(stamp: str) -> None:
    assert read(f"{stamp} web-1 sshd[1]: {accepted(by('x'))}").time is None
