"""`broker audit search`: events by who, where, what and when, newest first."""

from __future__ import annotations

import base64
import re
from argparse import ArgumentTypeError

from broker.cli.audit_files import reader
from broker.cli.audit_reads import note_reading, rfc3339_of
from broker.cli.configuration import settings_of
from broker.cli.exits import Exit
from broker.cli.output import add_format, show, talk
from broker.model import EVENTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterable, Sequence

    from broker.audit.stores import Filters, Found, Reader
    from broker.settings import Settings

PROTOCOLS = ("ssh", "rdp")
OUTCOMES = ("success", "failure", "denied", "unknown")
_FIRST = ("index", "time", "event", "outcome", "actor")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_COLUMNS = (">INDEX", "!TIME", "EVENT", "OUTCOME", "ACTOR", "ON", "WHY")


class Unclear(Exception):
    """A short name that does not tell who or what is meant."""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    add_filters(parser)
    parser.add_argument("--limit", type=_positive, default=50, metavar="N", help="default: 50")
    add_format(parser, "table", "json", "yaml")


def add_filters(parser: ArgumentParser) -> None:
    """Add what says which events are wanted."""
    parser.add_argument("--actor", metavar="TEXT", help="issuer/subject; the subject alone where the settings tell")
    parser.add_argument("--instance", metavar="TEXT", help="account/region/name; the name alone, as above")
    parser.add_argument("--account", action="append", metavar="NAME", help="only events of this account")
    parser.add_argument("--event", type=_event, metavar="NAME", help="such as credential.issued")
    parser.add_argument("--outcome", choices=OUTCOMES, help="how it ended")
    parser.add_argument("--protocol", choices=PROTOCOLS, help="ssh or rdp")
    parser.add_argument("--text", type=_words, default=(), metavar="WORDS", help="words that an event must have")
    parser.add_argument("--request-id", metavar="TEXT", help="the id in an answer's X-Request-Id")
    when = "a date, an RFC 3339 time, or how long ago, such as 1h30m"
    parser.add_argument("--since", type=moment, metavar="TIME", help=when)
    parser.add_argument("--until", type=moment, metavar="TIME", help="the same; not included")


def run(arguments: Namespace) -> int:
    """Search, and say so when there is more than was asked for."""
    try:
        with reader(arguments) as opened:
            found = opened.search(filters_of(arguments, opened), arguments.limit + 1, None)
    except Unclear as problem:
        talk(str(problem))
        return Exit.USAGE
    note_reading(arguments, named(arguments))  # what cannot be recorded is not shown
    shown = found[: arguments.limit]
    show([item_of(each) for each in shown], arguments.format, _COLUMNS, _cells, "no event fits")
    if len(found) > len(shown):
        talk(f"more events fit; these are the newest {len(shown)}: --limit shows more, --until shows older ones")
    return Exit.OK


def item_of(found: Found) -> dict[str, object]:
    """Answer an event with what is read first in front, and its hash."""
    from broker.audit.leaves import parse

    members = parse(found.record.leaf)
    first = {name: members[name] for name in _FIRST if name in members}
    return {**first, **members, "leaf_hash": base64.b64encode(found.record.leaf_hash).decode()}


# -- what is wanted


def filters_of(arguments: Namespace, opened: Reader) -> Filters:
    """Answer which events are wanted; raises Unclear for a short name that fits several."""
    from broker.audit.stores import Filters

    return Filters(
        accounts=frozenset(arguments.account) if arguments.account else None,
        actor=_full(arguments, "actor", opened),
        instance=_full(arguments, "instance", opened),
        event=arguments.event,
        outcome=arguments.outcome,
        protocol=arguments.protocol,
        request_id=arguments.request_id,
        text=arguments.text,
        since=arguments.since,
        until=arguments.until,
    )


def named(arguments: Namespace) -> list[str]:
    """Answer the filters that were given, as the log has them."""
    names = ("actor", "instance", "event", "outcome", "protocol", "request_id")
    given = [f"{name}={getattr(arguments, name)}" for name in names if getattr(arguments, name)]
    given += [f"account={account}" for account in arguments.account or ()]
    given += [f"text={' '.join(arguments.text)}"] if arguments.text else []
    times = {name: rfc3339_of(getattr(arguments, name)) for name in ("since", "until")}
    return given + [f"{name}={time}" for name, time in times.items() if time]


def _full(arguments: Namespace, what: str, opened: Reader) -> str | None:
    """Answer a full name; a short one is tried in every place of the settings, each a look-up in the index."""
    from broker.audit.stores import Filters

    name: str | None = getattr(arguments, what)
    if name is None or "/" in name:
        return name
    form = "issuer/subject" if what == "actor" else "account/region/name"
    if arguments.database:
        raise Unclear(f"--{what} takes {form} here: without settings, nobody knows where {name} belongs")
    names = [f"{place}/{name}" for place in _places(settings_of(arguments), what)]
    sought = [Filters(actor=each) if what == "actor" else Filters(instance=each) for each in names]
    known = [name for name, filters in zip(names, sought, strict=True) if opened.search(filters, 1, None)]
    if len(known) > 1:
        raise Unclear(f"--{what} {name} can be any of {', '.join(known)}: name one")
    return known[0] if known else names[0]


def _places(settings: Settings, what: str) -> Iterable[str]:
    if what == "actor":
        return [issuer.name for issuer in settings.issuers]
    return [f"{account.name}/{region}" for account in settings.accounts for region in account.regions]


def _event(text: str) -> str:
    from difflib import get_close_matches

    if text in EVENTS:
        return text
    close = get_close_matches(text, EVENTS, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(EVENTS)}"
    raise ArgumentTypeError(f"there is no event {text!r}; {hint}")


def _words(text: str) -> tuple[str, ...]:
    from broker.audit.texts import MAX_WORDS, words

    found = tuple(words(text))
    if not 1 <= len(found) <= MAX_WORDS:
        raise ArgumentTypeError(f"write 1 to {MAX_WORDS} words")
    return found


def _positive(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
        raise ArgumentTypeError("write a number from 1 on")
    return int(text)


def moment(text: str) -> int:
    """Read a point in time, or how long ago, as milliseconds since 1970. A date begins at midnight, UTC."""
    from time import time

    from broker.audit.leaves import milliseconds
    from broker.cli.durations import seconds

    try:
        return milliseconds(f"{text}T00:00:00Z" if _DATE.fullmatch(text) else text)
    except ValueError:
        pass
    try:
        return int((time() - seconds(text)) * 1000)
    except ArgumentTypeError:
        example = "2026-11-23, a time with its zone like 2026-11-23T09:30:00Z, or how long ago like 1h30m"
        raise ArgumentTypeError(f"write a date like {example}") from None


# -- what is shown


def _cells(item: dict[str, object]) -> Sequence[object]:
    from broker.audit.leaves import search_columns

    columns = search_columns(item)
    details = item.get("details")
    operator = details.get("os_user") if isinstance(details, dict) else None
    actor, on = columns.actor or operator or "", columns.instance or item.get("target") or ""
    return item["index"], item["time"], columns.event, columns.outcome, actor, on, _why(item)


def _why(item: dict[str, object]) -> str:
    parts = ["BREAK-GLASS"] if item.get("break_glass") else []
    parts += [str(item[name]) for name in ("error", "ticket", "reason") if item.get(name)]
    details = item.get("details")
    counts = details.get("counts") if isinstance(details, dict) else None
    if isinstance(counts, dict):
        parts.append(", ".join(f"{count} {cause}" for cause, count in counts.items()))
    return "; ".join(parts)
