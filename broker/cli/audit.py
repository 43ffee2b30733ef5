"""`broker audit`: verify, search and export the audit log, from its files; no service is needed."""

from __future__ import annotations

import base64
import os
import sys
from contextlib import closing, contextmanager
from pathlib import Path

from broker.cli.configuration import add_config, settings_of
from broker.cli.exits import Exit
from broker.cli.output import add_format, print_json, show, talk, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Generator, Sequence

    from broker.audit.checkpoints import VerifierKey
    from broker.audit.evidence import Database
    from broker.audit.stores import Filters, Found
    from broker.audit.stores.sqlite_reader import SqliteReader
    from broker.audit.verification import Report

_FILTERS = {
    "actor": "issuer/subject",
    "instance": "account/region/name",
    "event": "such as credential.issued",
    "outcome": "success, failure, denied or unknown",
    "request-id": "the id in an answer's X-Request-Id",
}
_CANNOT_VERIFY = 2


def configure(parser: ArgumentParser) -> None:
    """Add the verbs."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, summary: str, run: Callable[[Namespace], int]) -> ArgumentParser:
        sub = verbs.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        sub.set_defaults(run_verb=run)
        add_config(sub)
        sub.add_argument("--database", type=Path, metavar="FILE", help="the log itself, instead of a configuration")
        return sub

    _configure_verify(verb("verify", "is the log the one that was signed? 0 yes, 1 no, 2 cannot tell", _verify))
    verb("checkpoint", "print the newest signed checkpoint, to be kept elsewhere", _checkpoint)
    verb("key", "print the verifier key, for auditors to pin", _key)
    export = verb("export", "write every event as a line of JSON that can be verified", _export)
    export.add_argument("--output", type=Path, metavar="FILE", help="default: stdout; FILE.checkpoint goes with it")
    event = verb("show", "print one event", _show)
    event.add_argument("index", type=int, metavar="INDEX")
    _configure_search(verb("search", "list events, newest first", _search))


def _configure_verify(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--key", metavar="VKEY|@FILE", help="the pinned key name+hash+key; default: the configuration's"
    )
    parser.add_argument(
        "--checkpoint", type=Path, action="append", default=[], metavar="FILE", help="a checkpoint kept elsewhere"
    )
    parser.add_argument("--export", type=Path, metavar="FILE", help="verify this export instead of the database")
    parser.add_argument("--require-sealed", action="store_true", help="fail when the newest events are not signed yet")
    add_format(parser, "table", "json", "yaml")


def _configure_search(parser: ArgumentParser) -> None:
    for name, what in _FILTERS.items():
        parser.add_argument(f"--{name}", metavar="TEXT", help=what)
    parser.add_argument("--account", action="append", metavar="NAME", help="only events of this account")
    parser.add_argument("--since", type=_moment, metavar="TIME", help="RFC 3339, or how long ago, such as 1h30m")
    parser.add_argument("--until", type=_moment, metavar="TIME", help="the same; not included")
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="default: 50")
    add_format(parser, "table", "json", "yaml")


def run(arguments: Namespace) -> int:
    """Run one verb."""
    from broker.audit.evidence import CannotVerify, Damaged

    try:
        return int(arguments.run_verb(arguments))
    except (CannotVerify, Damaged) as problem:
        talk(str(problem))
        return Exit.UNAVAILABLE


# -- verify


def _verify(arguments: Namespace) -> int:
    from broker.audit.checkpoints import CheckpointError
    from broker.audit.evidence import CannotVerify

    try:
        report = _replay(arguments)
    except (CannotVerify, CheckpointError, OSError, UnicodeDecodeError) as problem:
        talk(f"cannot verify: {problem}")
        return _CANNOT_VERIFY
    _print_report(report, arguments.format)
    return report.exit_code(require_sealed=arguments.require_sealed)


def _replay(arguments: Namespace) -> Report:
    from broker.audit.verification import verify_database, verify_export

    key = _pinned_key(arguments)
    notes = arguments.checkpoint
    beside = arguments.export and _checkpoint_file(arguments.export)
    if beside and not notes and beside.exists():
        notes = [beside]
    outside = [path.read_bytes().decode() for path in notes]
    if arguments.export:
        return verify_export(arguments.export, key, outside)
    return verify_database(_database_path(arguments), key, outside)


def _pinned_key(arguments: Namespace) -> VerifierKey:
    from broker.audit.checkpoints import VerifierKey
    from broker.audit.evidence import CannotVerify

    if not arguments.key and arguments.database:
        raise CannotVerify("give the key to hold the database against: --key name+hash+key, or --key @FILE")
    text = str(arguments.key or f"@{_public_key_path(arguments)}")
    return VerifierKey.parse(Path(text[1:]).read_text() if text.startswith("@") else text)


def _print_report(report: Report, form: str) -> None:
    if form == "table":
        items = [{"class": f.kind, "index": f.index, "what": f.message} for f in report.findings]
        if items:
            show(items, form, ("CLASS", ">INDEX", "WHAT"), lambda item: tuple(item.values()), "")
        state = "TAMPERED" if items else "clean" if report.sealed or not report.size else "not sealed yet"
        tail = f"; the last {report.unsealed} are not sealed yet" if report.sealed and report.unsealed else ""
        write(f"{state}: {report.size} events of {report.origin}, {report.sealed} under a checkpoint{tail}")
        return
    show_one = {
        "origin": report.origin,
        "clean": not report.findings,
        "size": report.size,
        "sealed": report.sealed,
        "unsealed": report.unsealed,
        "root": base64.b64encode(report.root).decode(),
        "findings": [
            {"class": f.kind, "index": f.index, "message": f.message, "recoverable": f.recoverable}
            for f in report.findings
        ],
    }
    _print(show_one, form)


# -- the other verbs


def _checkpoint(arguments: Namespace) -> int:
    with _reader(arguments) as reader:
        newest = reader.newest_checkpoint()
    if newest is None:
        talk("the log has no checkpoint")
        return Exit.PROBLEMS
    sys.stdout.write(newest.note)
    return Exit.OK


def _key(arguments: Namespace) -> int:
    write(_public_key_path(arguments).read_text().strip())
    return Exit.OK


def _export(arguments: Namespace) -> int:
    from broker.audit.evidence import open_database

    with open_database(_database_path(arguments)) as database:
        if arguments.output is None:
            _copy_lines(database, sys.stdout.buffer.write)
            return Exit.OK
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with os.fdopen(os.open(arguments.output, flags, 0o600), "wb") as file:
            count = _copy_lines(database, file.write)
        newest = max(database.notes(), default=None)
    if newest is not None:
        _checkpoint_file(arguments.output).write_text(newest.note)
    talk(f"{count} events written, {newest.size if newest else 0} of them under {arguments.output}.checkpoint")
    return Exit.OK


def _copy_lines(database: Database, put: Callable[[bytes], object]) -> int:
    from broker.audit.evidence import export_line

    count = 0
    for row in database.rows():
        put(export_line(row.idx, row.leaf_hash, row.leaf))
        count += 1
    return count


def _show(arguments: Namespace) -> int:
    with _reader(arguments) as reader:
        found = reader.find(arguments.index) if 0 <= arguments.index < 1 << 63 else None
    if found is None:
        talk(f"there is no event {arguments.index}")
        return Exit.PROBLEMS
    print_json(_item(found))
    return Exit.OK


def _search(arguments: Namespace) -> int:
    from broker.audit.stores import StoreError

    try:
        with _reader(arguments) as reader:
            found = reader.search(_filters(arguments), max(1, arguments.limit), None)
    except StoreError as problem:
        talk(str(problem))
        return Exit.UNAVAILABLE
    columns = (">INDEX", "TIME", "EVENT", "OUTCOME", "ACTOR", "ON", "WHY")
    show([_item(each) for each in found], arguments.format, columns, _cells, "no event fits")
    return Exit.OK


def _filters(arguments: Namespace) -> Filters:
    from broker.audit.stores import Filters

    texts = {name.replace("-", "_"): getattr(arguments, name.replace("-", "_")) for name in _FILTERS}
    accounts = frozenset(arguments.account) if arguments.account else None
    return Filters(accounts=accounts, since=arguments.since, until=arguments.until, **texts)


def _item(found: Found) -> dict[str, object]:
    from broker.audit.leaves import parse

    record = found.record
    return {**parse(record.leaf), "leaf_hash": base64.b64encode(record.leaf_hash).decode()}


def _cells(item: dict[str, object]) -> Sequence[object]:
    from broker.audit.leaves import search_columns

    columns = search_columns(item)
    details = item.get("details")
    operator = details.get("os_user") if isinstance(details, dict) else None
    why = "; ".join(str(item[name]) for name in ("error", "reason") if item.get(name))
    actor, on = columns.actor or operator or "", columns.instance or item.get("target") or ""
    return item["index"], item["time"], columns.event, columns.outcome, actor, on, why


# -- where things are


@contextmanager
def _reader(arguments: Namespace) -> Generator[SqliteReader]:
    from broker.audit.stores import StoreError
    from broker.audit.stores.sqlite_reader import SqliteReader
    from broker.errors import AuditUnavailable

    path = _database_path(arguments)
    try:
        with closing(SqliteReader(path, patience=60)) as reader:
            yield reader
    except StoreError as problem:
        raise AuditUnavailable(f"{path}: {problem}") from problem


def _database_path(arguments: Namespace) -> Path:
    if arguments.database:
        return Path(arguments.database)
    from broker.audit.evidence import CannotVerify

    database = settings_of(arguments).audit.database
    if not database.startswith("sqlite:///"):
        raise CannotVerify("this log is not a file here: verify an export of it")
    return Path(database.removeprefix("sqlite:///"))


def _public_key_path(arguments: Namespace) -> Path:
    from broker.audit.keyfiles import public_path

    return public_path(Path(settings_of(arguments).audit.signing_key.removeprefix("file:")))


def _checkpoint_file(export: Path) -> Path:
    return export.with_name(export.name + ".checkpoint")


def _moment(text: str) -> int:
    """Read a point in time, or how long ago, as milliseconds since 1970."""
    from time import time

    from broker.audit.leaves import milliseconds
    from broker.cli.durations import seconds

    try:
        return milliseconds(text)
    except ValueError:
        return int((time() - seconds(text)) * 1000)


def _print(document: dict[str, object], form: str) -> None:
    if form == "json":
        print_json(document)
    else:
        import yaml

        write(yaml.safe_dump(document, sort_keys=False).rstrip())
