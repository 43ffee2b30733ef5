"""`broker audit trace`: who was behind the logins in a server's log."""

from __future__ import annotations

from argparse import ArgumentTypeError
from functools import partial

from broker.cli.audit_files import reader
from broker.cli.audit_reads import Listed, members_of, note_reading, rfc3339_of
from broker.cli.durations import seconds
from broker.cli.exits import Exit
from broker.cli.output import add_format, show, talk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime, tzinfo

    from broker.audit.joining.sshd import Login, LogReader
    from broker.audit.joining.tracing import Issues, Trace

_COLUMNS = ("!TIME", "VERDICT", "HOST", "USER", "FROM", "PERSON", "ON", ">EVENT", "WHY")
_EPILOG = """\
What the column VERDICT says:
  `issued`                    the broker issued the certificate, to PERSON, by EVENT
  `not issued by the broker`  a certificate that the log does not know, a plain key, a password
  `after expiry`              later than what was granted
  `before issue`              earlier than it was issued
  `other instance`            issued for another instance
  `never handed over`         its caller was refused it in the end
"""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "--sshd-log",
        action="append",
        required=True,
        metavar="FILE|-",
        help="syslog, journalctl -o short-iso or json, sshd -E, each also as gzip; - reads stdin; may be repeated",
    )
    parser.add_argument("--instance", metavar="NAME", help="whose log it is: account/region/name, or the name alone")
    parser.add_argument("--zone", type=_zone, metavar="ZONE", help="of times that name none; default: UTC")
    parser.add_argument(
        "--written",
        type=_moment,
        metavar="TIME",
        help="when the log ended, if it names no years; default: the file's time",
    )
    parser.add_argument(
        "--skew", type=seconds, default=60, metavar="TIME", help="how far clocks may differ; default: 1m"
    )
    add_format(parser, "table", "json", "yaml")


def run(arguments: Namespace) -> int:
    """Trace; what was asked for is recorded before anything is shown."""
    logins, logs = _logins(arguments)
    for name, log in logs:
        if not log.understood:
            talk(f"{name}: no line is one of sshd's log as it is known here")
    if not any(log.understood for _, log in logs):
        return Exit.USAGE
    note_reading(arguments, [f"sshd_log={name}" for name in arguments.sshd_log] + _instance_filter(arguments))
    judged = _judge(arguments, logins)
    items = Listed(logins, lambda login: _item(judged(login)))
    show(items, arguments.format, _COLUMNS, _cells, "nobody has logged in")
    return _told(map(judged, logins), logs)


def _instance_filter(arguments: Namespace) -> list[str]:
    return [f"instance={arguments.instance}"] if arguments.instance else []


def _logins(arguments: Namespace) -> tuple[list[Login], list[tuple[str, LogReader]]]:
    """Read every log, once."""
    from datetime import UTC

    from broker.audit.joining.files import Unreadable, lines, opened
    from broker.audit.joining.sshd import Calendar, LogReader

    logins: list[Login] = []
    logs: list[tuple[str, LogReader]] = []
    for name in arguments.sshd_log:
        log = LogReader(Calendar(arguments.zone or UTC, arguments.written or _written(name)))
        logs.append((name, log))
        try:
            with opened(name) as file:
                logins.extend(login for line in lines(file) if (login := log.read(line)) is not None)
        except Unreadable as problem:
            talk(str(problem))
            log.damaged = True
    return logins, logs


def _written(name: str) -> datetime:
    from datetime import UTC, datetime
    from pathlib import Path

    return datetime.now(UTC) if name == "-" else datetime.fromtimestamp(Path(name).stat().st_mtime, UTC)


def _judge(arguments: Namespace, logins: Sequence[Login]) -> Callable[[Login], Trace]:
    """Answer how to judge each login; the issues around them are walked through once, here."""
    from broker.audit.joining.tracing import judge

    issues = _issues(arguments, logins)
    skew = arguments.skew * 1000
    return partial(judge, issues=issues, instance=arguments.instance or "", skew=skew)


def _issues(arguments: Namespace, logins: Sequence[Login]) -> Issues:
    from dataclasses import replace

    from broker.audit.joining.tracing import Issues, window
    from broker.audit.paging import walk

    issues = Issues({login.certificate for login in logins if login.certificate})
    joined = window(login for login in logins if login.certificate)
    if issues.wanted:
        with reader(arguments) as opened:
            issues.take(walk(opened, joined), walk(opened, replace(joined, event="credential.withheld")))
    return issues


def _told(traces: Iterable[Trace], logs: Sequence[tuple[str, LogReader]]) -> int:
    from collections import Counter

    from broker.audit.joining.tracing import Verdict

    verdicts = Counter(trace.verdict for trace in traces)
    findings = verdicts.total() - verdicts[Verdict.ISSUED]
    talk(f"{sum(log.lines for _, log in logs)} lines, {verdicts.total()} logins, {findings} of them not as issued")
    doubtful = [(name, log.doubtful) for name, log in logs if log.doubtful]
    for name, numbers in doubtful:
        talk(f"{name}: {len(numbers)} lines may be logins and cannot be read, the first is line {numbers[0]}")
    incomplete = any(log.damaged or not log.understood for _, log in logs)
    return Exit.PROBLEMS if findings or doubtful or incomplete else Exit.OK


def _item(trace: Trace) -> dict[str, object]:
    login, issue = trace.login, trace.issue
    item: dict[str, object] = {
        "time": rfc3339_of(login.time),
        "verdict": str(trace.verdict),
        "host": login.host,
        "user": login.user,
        "address": login.address,
        "port": login.port,
        "method": login.method,
        "certificate": login.certificate._asdict() if login.certificate else None,
        "notes": list(trace.notes),
    }
    if issue is None:
        return item | {"issue": None}
    times = {"time": rfc3339_of(issue.time), "expires_at": rfc3339_of(issue.expires_at)}
    return item | {"issue": {name: value for name, value in (members_of(issue) | times).items() if value != ""}}


def _cells(item: dict[str, object]) -> tuple[object, ...]:
    issue = item["issue"]
    found = issue if isinstance(issue, dict) else {}
    notes = item["notes"]
    why = [found.get("ticket"), found.get("reason"), *(notes if isinstance(notes, list) else ())]
    return (
        item["time"] or "",
        *(item[name] for name in ("verdict", "host", "user", "address")),
        *(found.get(name, "") for name in ("actor", "instance", "index")),
        "; ".join(filter(None, why)),
    )


def _zone(text: str) -> tzinfo:
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(text)
    except (ValueError, OSError, LookupError):
        raise ArgumentTypeError(f"there is no time zone {text!r}; write one like Europe/Berlin") from None


def _moment(text: str) -> datetime:
    from datetime import UTC, datetime

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError("write a date like 2026-11-23, or a time like 2026-11-23T09:30:00Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
