"""`broker request`: ask for access that somebody has to approve, and answer what others ask for."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from broker.cli import asking, durations, output
from broker.cli.exits import Exit
from broker.cli.identifiers import SHOWN, whole
from broker.cli.parsing import guide
from broker.cli.service import service
from broker.cli.times import clock, in_a_table
from broker.client import Misconfigured

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Sequence

    from broker.cli.parsing import Parser
    from broker.client import Broker
    from broker.client.documents import RequestDocument

COLUMNS = ("!REQUEST", "/INSTANCE", "WHO", "!STATE", "!UNTIL", "TICKET", "REASON")
_LOOK_SECONDS = 3.0
_FORMATS = ("table", "json", "yaml")
_CLOSED = {"denied": Exit.DENIED, "cancelled": Exit.DENIED, "expired": Exit.NEEDS_MORE, "ended": Exit.NEEDS_MORE}

_CREATE_EXAMPLES = """\
broker request create db-1 --reason "restore after OPS-7"  # and tell somebody who may approve
broker request create db-1 --reason patching --duration 2h --start 2026-03-01T22:00:00+01:00  # tonight
broker request create db-1 --reason restore --wait 30m && broker ssh db-1  # in as soon as somebody says yes
"""
_LS_EXAMPLES = """\
broker request ls  # mine, and those that wait for my answer
broker request ls --reviewable --format json  # for a program
"""
_ANSWER_EXAMPLES = {
    "approve": 'broker request approve 0f3c11d2 --reason "agreed on the phone"  # the beginning of its id is enough\n',
    "deny": 'broker request deny 0f3c11d2 --reason "not before the backup is done"  # who asked reads why\n',
    "cancel": "broker request cancel 0f3c11d2  # what was approved opens nothing any more\n",
}


def configure(parser: Parser) -> None:
    """Add the verbs."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    parser.usual_verb = "ls"
    parser.epilog = "Without a verb, it lists them."

    def verb(name: str, summary: str, run: Callable[[Namespace], int]) -> ArgumentParser:
        sub: ArgumentParser = verbs.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        sub.set_defaults(run_verb=run, verb=name)
        return sub

    _configure_create(verb("create", "ask for access that somebody has to approve", _create))
    listing = verb("ls", "list my requests, and those that wait for my answer", _list)
    which = listing.add_mutually_exclusive_group()
    which.add_argument("--mine", dest="show", action="store_const", const="mine", help="only my own")
    which.add_argument(
        "--reviewable", dest="show", action="store_const", const="reviewable", help="only those that wait for me"
    )
    listing.set_defaults(show="all")
    output.add_format(listing, *_FORMATS)
    guide(listing, _LS_EXAMPLES, see="broker request show")
    show = verb("show", "show one request", _show)
    show.add_argument("request", metavar="REQUEST", help="its id, or how it begins")
    output.add_format(show, *_FORMATS)
    guide(show, "broker request show 0f3c11d2  # the beginning of its id is enough\n", see="broker request ls")
    for name, summary in (
        ("approve", "let somebody in; nobody approves their own request"),
        ("deny", "do not let somebody in"),
        ("cancel", "take one's own request back, approved or not"),
    ):
        sub = verb(name, summary, _answer)
        sub.add_argument("request", metavar="REQUEST", help="its id, or how it begins")
        sub.add_argument("--reason", metavar="TEXT", default="", help="why; policies may ask for it")
        guide(sub, _ANSWER_EXAMPLES[name], {2: "there is no such request, or it is not open"}, see="broker request ls")


def _configure_create(parser: ArgumentParser) -> None:
    parser.add_argument("instance", metavar="INSTANCE", help="its name, or account/region/name")
    asking.add_reasons(parser, _environment())
    parser.add_argument("--protocol", choices=["ssh", "rdp"], help="default: what the platform speaks")
    parser.add_argument("--duration", metavar="TIME", type=durations.seconds, default=0, help="for how long (1h)")
    parser.add_argument(
        "--start", metavar="TIME", default="", help="from when, such as 2026-03-01T22:00:00+01:00 (now)"
    )
    parser.add_argument(
        "--pending", metavar="TIME", type=durations.seconds, default=0, help="how long it may wait for an answer (8h)"
    )
    parser.add_argument(
        "--wait", metavar="TIME", type=durations.seconds, default=0.0, help="wait here until it is answered"
    )
    output.add_format(parser, *_FORMATS)
    exits = {3: "denied, or the policies never allow it", 6: "not answered in time, or a reason or ticket is missing"}
    guide(parser, _CREATE_EXAMPLES, exits, see="broker request ls, broker ssh")


def _environment() -> dict[str, str]:
    import os

    return dict(os.environ)


def run(arguments: Namespace) -> int:
    """Run one verb."""
    return int(arguments.run_verb(arguments))


def _create(arguments: Namespace) -> int:
    start = _moment(arguments.start)
    with service() as broker:
        request = broker.request_access(
            arguments.instance,
            protocol=arguments.protocol,
            reason=arguments.reason,
            ticket=arguments.ticket,
            duration=int(arguments.duration),
            starts_at=start,
            pending_for=int(arguments.pending),
        )
        if arguments.wait:
            request = _waited(broker, request, arguments.wait)
    _print([request], arguments.format)
    if request["state"] == "pending":
        short = request["id"][:8]
        output.talk(f"{_needed(request)}: tell somebody who may, by `broker request approve {short}`")
        return Exit.NEEDS_MORE if arguments.wait else Exit.OK
    return _ended(request)


def _waited(broker: Broker, request: RequestDocument, seconds: float) -> RequestDocument:
    """Look until it is answered, for so long at most."""
    deadline = time.monotonic() + seconds
    output.talk(f"{_needed(request)}: `broker request approve {request['id'][:8]}`; waiting")
    while request["state"] == "pending" and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(_LOOK_SECONDS, left))
        request = broker.request(request["id"])
    return request


def _needed(request: RequestDocument) -> str:
    missing = request["approvals_needed"] - len(request["approvals"])
    return f"{missing} approval{'s' if missing > 1 else ''} needed until {clock(request['pending_until'])}"


def _list(arguments: Namespace) -> int:
    with service() as broker:
        found = list(broker.requests(arguments.show))
    _print(found, arguments.format)
    return Exit.OK


def _show(arguments: Namespace) -> int:
    with service() as broker:
        request = broker.request(whole(arguments.request, "request", broker.requests, "broker request ls"))
    _print([request], arguments.format)
    for approval in request["approvals"]:
        said = f": {approval['reason']}" if approval["reason"] else ""
        output.talk(f"approved by {approval['approver']} at {clock(approval['at'])}{said}")
    if request["closed_by"]:
        said = f": {request['closing_reason']}" if request["closing_reason"] else ""
        output.talk(f"{request['state']} by {request['closed_by']}{said}")
    return Exit.OK


def _answer(arguments: Namespace) -> int:
    with service() as broker:
        request = broker.answer_request(
            whole(arguments.request, "request", broker.requests, "broker request ls"),
            arguments.verb,
            reason=arguments.reason,
        )
    place = request["instance"]["name"]
    if request["state"] == "pending":
        output.talk(f"noted; {_needed(request)}")
    elif request["state"] == "approved":
        begin, end = clock(request["starts_at"] or ""), clock(request["ends_at"] or "")
        output.talk(f"{request['requester']} may get into {place} from {begin} until {end}")
    else:
        output.talk(f"{request['requester']} may not get into {place}: {request['state']}")
    return Exit.OK


def _ended(request: RequestDocument) -> int:
    if request["state"] == "approved":
        output.talk(f"approved until {clock(request['ends_at'] or '')}: `broker ssh {request['instance']['name']}`")
        return Exit.OK
    output.complain(f"the request was {request['state']}")
    return _CLOSED[request["state"]]


def _moment(text: str) -> str:
    """Read a time, of this machine's zone unless it names one; answer it in UTC."""
    if not text:
        return ""
    try:
        return datetime.fromisoformat(text).astimezone(UTC).isoformat()
    except ValueError:
        raise Misconfigured(f"--start: {text!r} is no time; write one like 2026-03-01T22:00:00+01:00") from None


def _print(requests: Sequence[RequestDocument], form: str) -> None:
    for request in requests:
        if late := request.get("undelivered"):
            short = request["id"][:SHOWN]
            output.talk(f"note: {', '.join(late)} could not be told of {short} yet: tell an approver yourself")
    output.show(requests, form, COLUMNS, _row, "there is no request of yours, and none waits for your answer")


def _row(request: RequestDocument) -> tuple[object, ...]:
    place = request["instance"]
    return (
        request["id"][:SHOWN],
        f"{place['account']}/{place['region']}/{place['name']}",
        request["requester"],
        request["state"],
        in_a_table(request["ends_at"] or request["pending_until"]),
        request["ticket"],
        request["reason"],
    )
