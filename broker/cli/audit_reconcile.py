"""`broker audit reconcile`: the calls that mint credentials, as CloudTrail saw them, against the log."""

from __future__ import annotations

from broker.cli.audit_files import reader
from broker.cli.audit_reads import Listed, members_of, note_reading, rfc3339_of
from broker.cli.durations import seconds
from broker.cli.exits import Exit
from broker.cli.output import add_format, show, talk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence

    from broker.audit.joining.cloudtrail import Trail
    from broker.audit.joining.reconciling import Calls, Finding

_COLUMNS = ("!TIME", "FINDING", "WHO", "FROM", "ON", ">EVENT", "AWS REQUEST", "REMARK")
_EPILOG = """\
What the column FINDING says:
  `not in the log`     somebody else asked AWS for a credential, or the log has lost an event
  `other instance`     the log names another instance, or another protocol
  `other principal`    the log knows it, but it was not --principal who called
  `shared request id`  one id of AWS for several calls or events
  `not in CloudTrail`  for information: delivery is late, and best effort
"""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "--cloudtrail",
        action="append",
        required=True,
        metavar="FILE|DIR|-",
        help="JSON, also as gzip; a directory as S3 delivers it; what lookup-events answers; may be repeated",
    )
    parser.add_argument("--lag", type=seconds, default=1800, metavar="TIME", help="CloudTrail's; default: 30m")
    parser.add_argument("--principal", default="", metavar="ARN", help="the broker's own user or role")
    add_format(parser, "table", "json", "yaml")


def run(arguments: Namespace) -> int:
    """Reconcile; what was asked for is recorded before anything is shown."""
    calls, trail, damaged = _calls(arguments)
    if not trail.records or trail.records == trail.unread:
        talk("there is no record of CloudTrail's in what could be read")
        return Exit.USAGE
    note_reading(arguments, [f"cloudtrail={name}" for name in arguments.cloudtrail])
    findings = _findings(arguments, calls, trail)
    items = Listed(findings, lambda finding: _item(finding, arguments.principal))
    show(items, arguments.format, _COLUMNS, _cells, "everything fits")
    return _told(findings, calls, trail, damaged=damaged)


def _calls(arguments: Namespace) -> tuple[Calls, Trail, bool]:
    """Read everything, once; a damaged file is told of, and the others are read."""
    from broker.audit.joining.cloudtrail import Trail, files
    from broker.audit.joining.files import Unreadable, opened
    from broker.audit.joining.reconciling import Calls

    calls, trail, damaged = Calls(), Trail(), False
    for name in (file for named in arguments.cloudtrail for file in files(named)):
        try:
            with opened(name) as file:
                for call in trail.calls(name, file):
                    calls.take(call)
        except Unreadable as problem:
            talk(str(problem))
            damaged = True
    return calls, trail, damaged


def _findings(arguments: Namespace, calls: Calls, trail: Trail) -> list[Finding]:
    from broker.audit.joining.reconciling import noted, reconcile, windows
    from broker.audit.paging import walk

    with reader(arguments) as opened:
        events = (noted(found) for filters in windows(calls, trail.covered) for found in walk(opened, filters))
        return reconcile(calls, events, trail.covered, lag=arguments.lag * 1000, principal=arguments.principal)


def _told(findings: Sequence[Finding], calls: Calls, trail: Trail, *, damaged: bool) -> int:
    from broker.audit.joining.reconciling import Kind

    faults = sum(finding.kind is not Kind.MISSING for finding in findings)
    unknown = sum(finding.kind is Kind.UNKNOWN for finding in findings)
    talk(
        f"{trail.records} records; {len(list(calls))} calls that minted, {unknown} of them not in the log; "
        f"{calls.failed} calls that AWS refused; {calls.repeated} records that were delivered again"
    )
    if trail.unread:
        talk(f"{trail.unread} records cannot be read")
    return Exit.PROBLEMS if faults or trail.unread or damaged else Exit.OK


def _item(finding: Finding, principal: str) -> dict[str, object]:
    from broker.audit.joining.reconciling import is_by

    call, event = finding.call, finding.noted
    moment = call.time if call else event.time if event else None
    item: dict[str, object] = {"time": rfc3339_of(moment), "finding": str(finding.kind)}
    if call is not None:
        shown = call._asdict() | {"time": rfc3339_of(call.time)}
        if principal:
            shown["is_broker"] = is_by(call, principal)
        item["call"] = {name: value for name, value in shown.items() if value != ""}
    if event is not None:
        item["event"] = {name: value for name, value in members_of(event).items() if name != "time" and value != ""}
    return item | {"perhaps": list(finding.perhaps)}


def _cells(item: dict[str, object]) -> tuple[object, ...]:
    call, event = _table(item, "call"), _table(item, "event")
    place = "/".join(str(call[name]) for name in ("account", "region", "instance") if name in call)
    return (
        item["time"],
        item["finding"],
        call.get("principal") or event.get("actor", ""),
        call.get("address", ""),
        place or event.get("instance", ""),
        event.get("index", ""),
        call.get("request_id") or event.get("upstream_request_id", ""),
        _remark(item, call),
    )


def _remark(item: dict[str, object], call: dict[str, object]) -> str:
    parts = [] if "is_broker" not in call else ["the broker's own" if call["is_broker"] else "not the broker's"]
    perhaps = item["perhaps"]
    if isinstance(perhaps, list) and perhaps:
        parts.append(f"perhaps event {', '.join(map(str, perhaps))}, of unknown outcome")
    return "; ".join([*parts, str(call.get("user_agent", ""))]).strip("; ")


def _table(item: dict[str, object], name: str) -> dict[str, object]:
    member = item.get(name)
    return member if isinstance(member, dict) else {}
