"""What sshd says when it lets somebody in, out of its log, in whatever frame the log puts it (pure).

A frame is what comes before the message: time, host, program. Known are syslog's classic one (no year, no zone), the
one with RFC 3339 times, `journalctl -o short-iso` and `-o json`, and that of `sshd -E`, which is none at all. The
message is what `auth_log` and `format_method_key` in auth.c of OpenSSH write.

A key id is free text of whoever had the certificate signed: a message is read from both ends, never searched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from sys import intern
from typing import Final, NamedTuple

from broker.audit.leaves import milliseconds

CUT_CHARACTERS: Final = 1000
"""OpenSSH cuts messages at 1,023; the end of one that is so long is not what it seems."""

_MARK: Final = b"Accepted"
_DAY: Final = timedelta(days=1)
_YEARS_BACK: Final = 9
"""So far back there has been a 29 February."""
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_PROGRAM: Final = r"(?P<program>[^\s:\[]{1,128})(?:\[\d{1,10}\])?:[ ](?P<message>.*)"
_CLASSIC: Final = re.compile(
    r"(?:<\d{1,3}>)?(?P<month>[A-Z][a-z]{2})[ ]{1,2}(?P<day>\d{1,2})[ ](?P<clock>\d\d:\d\d:\d\d)(?:\.\d{1,9})?[ ]"
    rf"(?P<host>\S{{1,255}})[ ]{_PROGRAM}",
    re.ASCII | re.DOTALL,
)
_DATED: Final = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?)[ ]"
    rf"(?P<host>\S{{1,255}})[ ]{_PROGRAM}",
    re.ASCII | re.DOTALL,
)
_SSHD: Final = re.compile(r"(?:\S*/)?sshd(?:-session|-auth)?", re.ASCII)
_REPEATED: Final = re.compile(r"message repeated \d{1,9} times: \[ (.*)\]", re.ASCII | re.DOTALL)
_BARE: Final = (
    "Accepted ",
    "Connection closed by ",
    "Connection from ",
    "Disconnected from ",
    "Failed ",
    "Invalid user ",
    "Postponed ",
    "Received disconnect from ",
    "Server listening on ",
    "Starting session: ",
    "debug1: ",
)
"""How lines of `sshd -E` begin."""
_LIKE_A_LOGIN: Final = re.compile(r"sshd[a-z-]{0,10}(?:\[\d{1,10}\])?: Accepted \S{1,64} for ", re.ASCII)
_BYTES: Final = re.compile(rb'"MESSAGE"\s*:\s*\[')

_ACCEPTED: Final = re.compile(r"Accepted (?P<method>\S{1,64}) for (?P<rest>.*)", re.ASCII | re.DOTALL)
_FROM: Final = re.compile(
    r"(?P<user>.{1,100}?) from (?P<address>\S{1,200}) port (?P<port>\d{1,5}) ssh2(?:: (?P<how>.*))?",
    re.ASCII | re.DOTALL,
)
_PRINT: Final = r"SHA256:(?P<print>[A-Za-z0-9+/]{43})"
_CERTIFICATE: Final = re.compile(
    rf"[A-Z0-9-]{{1,32}}-CERT {_PRINT} ID (?P<id>.*) \(serial (?P<serial>\d{{1,20}})\) "
    r"CA [A-Z0-9-]{1,32} \S{1,128}",
    re.ASCII | re.DOTALL,
)
_ESCAPE: Final = re.compile(r"((?:\\[0-7]{3})+)|\\(.)", re.ASCII)
_SHORT: Final = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "a": "\a", "v": "\v", "f": "\f", "0": "\0", "s": " "}


class Certificate(NamedTuple):
    """By what a login and an issue are joined, all three together."""

    serial: str
    """Decimal."""
    key_id: str
    fingerprint: str
    """SHA-256 of the public key as it goes over the wire, base64 without padding: that of the plain key."""


class Login(NamedTuple):
    """Somebody was let in. `time` is milliseconds since 1970, None where the log says none; texts may be empty."""

    time: int | None
    host: str
    method: str
    user: str
    address: str
    port: str
    certificate: Certificate | None
    remark: str
    """What was there instead of a certificate, or why it could not be read."""


class Calendar:
    """Completes times. `zone` holds where a line names none; `written` is when the log ended, if it names no year."""

    def __init__(self, zone: tzinfo, written: datetime) -> None:
        self._zone = zone
        self._latest = written + _DAY

    def dated(self, text: str) -> int | None:
        """Answer a time with its year in milliseconds since 1970; None when there is no such time."""
        try:
            moment = datetime.fromisoformat(text)
            return _since_1970(moment if moment.tzinfo else moment.replace(tzinfo=self._zone))
        except (ValueError, OverflowError):
            return None

    def yearless(self, month: str, day: str, clock: str) -> int | None:
        """Answer the latest moment of that name which is not after the log was written, give or take a day."""
        if month not in _MONTHS:
            return None
        name = f"{_MONTHS.index(month) + 1:02}-{int(day):02}T{clock}"
        for year in range(self._latest.year + 1, self._latest.year - _YEARS_BACK, -1):
            moment = self.dated(f"{year:04}-{name}")
            if moment is not None and moment <= _since_1970(self._latest):
                return moment
        return None


class LogReader:
    """Reads the lines of one log. `understood` tells whether any line was one of a log that is known here."""

    def __init__(self, calendar: Calendar) -> None:
        self._calendar = calendar
        self.understood = False
        self.damaged = False
        """Set by whoever reads the file, when it ends too early."""
        self.lines = 0
        self.doubtful: list[int] = []
        """The numbers of lines, from 1, that may be logins and could not be read."""

    def read(self, line: bytes) -> Login | None:
        """Answer the login that a line tells of."""
        self.lines += 1
        if self.understood and _MARK not in line and not (line.startswith(b"{") and _BYTES.search(line)):
            return None
        text = line.decode("utf-8", "replace")
        framed = self._journal(line) if line.startswith(b"{") else self._frame(text)
        if framed is None:
            if _LIKE_A_LOGIN.search(text) or (line.startswith(b"{") and _MARK in line):
                self.doubtful.append(self.lines)
            return None
        self.understood = True
        time, host, message = framed
        return login(message, time, host)

    def _frame(self, text: str) -> tuple[int | None, str, str] | None:
        if found := _DATED.fullmatch(text):
            time = self._calendar.dated(found["time"])
        elif found := _CLASSIC.fullmatch(text):
            time = self._calendar.yearless(found["month"], found["day"], found["clock"])
        else:
            return (None, "", text) if text.startswith(_BARE) else None
        return time, found["host"], found["message"] if _SSHD.fullmatch(found["program"]) else ""

    def _journal(self, line: bytes) -> tuple[int | None, str, str] | None:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            return None
        if not isinstance(entry, dict) or "MESSAGE" not in entry:
            return None
        stamp = _text(entry, "__REALTIME_TIMESTAMP")
        time = int(stamp) // 1000 if re.fullmatch(r"\d{1,16}", stamp, re.ASCII) else None
        program = _text(entry, "SYSLOG_IDENTIFIER") or _text(entry, "_COMM")
        return time, _text(entry, "_HOSTNAME"), _text(entry, "MESSAGE") if _SSHD.fullmatch(program) else ""


def login(message: str, time: int | None, host: str) -> Login | None:
    """Read a message of sshd; None when it lets nobody in. `Accepted certificate ID` is only what was offered."""
    if repeated := _REPEATED.fullmatch(message):
        message = repeated[1]
    accepted = _ACCEPTED.fullmatch(message)
    if accepted is None:
        return None
    method, found = accepted["method"], _FROM.fullmatch(accepted["rest"])
    if found is None:
        return Login(time, host, method, accepted["rest"][:100], "", "", None, "the line is cut")
    certificate, remark = _shown(method, found["how"] or "", cut=len(message) >= CUT_CHARACTERS)
    user, address = intern(_unescaped(found["user"])), intern(found["address"])  # the same ones come again and again
    return Login(time, intern(host), intern(method), user, address, found["port"], certificate, remark)


def _shown(method: str, how: str, *, cut: bool) -> tuple[Certificate | None, str]:
    """Tell with what somebody came. The key id takes all up to the last serial, whatever it holds."""
    if method != "publickey":
        return None, f"by {method}"
    if cut:
        return None, "the line is cut"
    if found := _CERTIFICATE.fullmatch(how):
        return Certificate(str(int(found["serial"])), _unescaped(found["id"]), found["print"]), ""
    kind, _, shown = how.partition(" ")
    if not kind.endswith("-CERT"):
        return None, f"by a plain key: {how[:100]}" if how else "by a plain key"
    if shown.startswith("MD5:"):
        return None, "an MD5 fingerprint cannot be joined: sshd_config needs FingerprintHash sha256"
    return None, "the certificate's line cannot be read"


def _unescaped(text: str) -> str:
    r"""Undo vis(3), as sshd's log.c applies it: `\\`, `\n` and the like, `\012`."""
    if "\\" not in text:
        return text
    return _ESCAPE.sub(lambda found: _octal(found[1]) if found[1] else _SHORT.get(found[2], found[2]), text)


def _octal(escapes: str) -> str:
    return bytes(int(digits, 8) & 0xFF for digits in escapes.split("\\")[1:]).decode("utf-8", "replace")


def _since_1970(moment: datetime) -> int:
    return milliseconds(moment.astimezone(UTC).isoformat())


def _text(entry: Mapping[str, object], name: str) -> str:
    """Answer a field of the journal: text, or a list of bytes where it is not UTF-8."""
    field = entry.get(name)
    if isinstance(field, list):
        try:
            return bytes(field).decode("utf-8", "replace")
        except (TypeError, ValueError):  # no bytes
            return ""
    return field if isinstance(field, str) else ""
