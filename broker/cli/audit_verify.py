"""`broker audit verify`: is the log the one that was signed? The verdict is the last line, and the exit code."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

from broker.cli.audit_files import checkpoint_file, database_path, is_shared, public_key_path
from broker.cli.audit_reads import note_verification
from broker.cli.audit_witnessed import add_witness, documents, seen, sentences
from broker.cli.output import add_format, print_json, show, talk, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence

    from broker.audit.anchors.witnessed import Seen
    from broker.audit.checkpoints import VerifierKey
    from broker.audit.receipts import Receipt
    from broker.audit.verification import Report

_USAGE = 2
CLEAN, TAMPERED, NOT_SEALED = "clean", "tampered", "not sealed"
_CANNOT_VERIFY = 2
_SQLITE = b"SQLite format 3\0"


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--key", metavar="VKEY|@FILE", help="the pinned key name+hash+key; default: the configuration's"
    )
    parser.add_argument(
        "--checkpoint", type=Path, action="append", default=[], metavar="FILE", help="a checkpoint kept elsewhere"
    )
    parser.add_argument(
        "--anchor",
        type=Path,
        action="append",
        default=[],
        metavar="FILE|DIR",
        help="what an anchor holds: checkpoints one after the other, a syslog with them, or a folder of files",
    )
    parser.add_argument(
        "--receipt", type=Path, action="append", default=[], metavar="FILE", help="a receipt that a caller was given"
    )
    parser.add_argument(
        "--archive", type=Path, action="append", default=[], metavar="FILE", help="the bodies of pruned events"
    )
    add_witness(parser)
    parser.add_argument("--export", type=Path, metavar="FILE", help="verify this export instead of the database")
    parser.add_argument("--require-sealed", action="store_true", help="fail when the newest events are not signed yet")
    parser.add_argument(
        "--record", action="store_true", help="write the verdict into the log too, for the console and for alarms"
    )
    add_format(parser, "table", "json", "yaml")


def run(arguments: Namespace) -> int:
    """Verify, print what was found, and answer 0 yes, 1 no, 2 cannot tell."""
    from broker.audit.checkpoints import CheckpointError
    from broker.audit.evidence import CannotVerify

    if arguments.record and (arguments.export or arguments.database or arguments.key):
        talk("--record is for the log of the settings: leave out --export, --database and --key")
        return _USAGE
    try:
        report, cosigned = _replay(arguments)
    except (CannotVerify, CheckpointError) as problem:
        talk(f"cannot verify: {problem}")
        return _CANNOT_VERIFY
    except OSError as problem:
        talk(f"cannot verify: {_sentence(problem)}")
        return _CANNOT_VERIFY
    verdict = _verdict(report, require_sealed=arguments.require_sealed)
    if arguments.format == "table":
        _print_table(report, verdict, cosigned, failed=arguments.require_sealed)
    else:
        _print_document({**_document(report, verdict), "cosigned": documents(cosigned)}, arguments.format)
    if arguments.record and (trouble := note_verification(arguments, _noted(report), clean=not report.findings)):
        talk(f"the verdict is not recorded: {trouble}")
    return report.exit_code(require_sealed=arguments.require_sealed)


# -- what there is to verify, and by what


def _replay(arguments: Namespace) -> tuple[Report, Sequence[Seen]]:
    from broker.audit.anchors.witnessed import judged

    named = (*arguments.checkpoint, *arguments.anchor, *arguments.receipt, *arguments.archive)
    for path in filter(None, (arguments.export, *named)):
        path.stat()  # a slip of the pen is told before anything else
    key = _pinned_key(arguments)
    notes = arguments.checkpoint
    beside = arguments.export and checkpoint_file(arguments.export)
    if beside and not notes and beside.exists():
        notes = [beside]
    outside = [_note(path, key) for path in notes] + [note for path in arguments.anchor for note in _anchored(path)]
    cosigned = seen(arguments, outside)
    return judged(_verified(arguments, key, outside), cosigned), cosigned


def _verified(arguments: Namespace, key: VerifierKey, outside: Sequence[str]) -> Report:
    from broker.audit.evidence import CannotVerify
    from broker.audit.verification import verify_database, verify_export, verify_receipt

    receipts = [_receipt(path) for path in arguments.receipt]
    if arguments.export:
        return verify_export(arguments.export, key, outside, receipts, arguments.archive)
    if receipts and _names_no_log(arguments):
        if outside or arguments.archive:
            raise CannotVerify("receipts alone cannot be held against checkpoints or archives: name the log too")
        return _of_all([verify_receipt(receipt, key) for receipt in receipts])
    log, shared = _log(database_path(arguments)), is_shared(arguments)
    return verify_database(log, key, outside, receipts, arguments.archive, shared=shared)


def _of_all(reports: Sequence[Report]) -> Report:
    """Answer one report over receipts that were each verified alone: that of the longest log, with every finding."""
    longest = max(reports, key=lambda report: report.size)
    findings = tuple(finding for report in reports for finding in report.findings)
    return replace(longest, findings=findings, held=longest.held._replace(receipts=len(reports)))


def _names_no_log(arguments: Namespace) -> bool:
    """Tell whether a receipt is to be verified by itself: a key is given, and neither database nor settings are."""
    return bool(arguments.key) and not (arguments.database or arguments.config)


def _receipt(path: Path) -> Receipt:
    from broker.audit.evidence import CannotVerify
    from broker.audit.receipts import MalformedReceipt, Receipt

    try:
        return Receipt.parse(path.read_text(errors="replace"))
    except MalformedReceipt as problem:
        raise CannotVerify(f"{path} is not a receipt: {problem}") from problem


def _anchored(path: Path) -> Sequence[str]:
    """Read every checkpoint that an anchor holds; without any it is no anchor."""
    from broker.audit.anchors.notes import notes_in
    from broker.audit.evidence import CannotVerify

    files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    notes = [note for file in files for note in notes_in(file.read_text(errors="replace"))]
    if not notes:
        raise CannotVerify(f"{path} holds no checkpoint")
    return notes


def _pinned_key(arguments: Namespace) -> VerifierKey:
    from broker.audit.checkpoints import CheckpointError, VerifierKey
    from broker.audit.evidence import CannotVerify

    if not arguments.key and arguments.database:
        raise CannotVerify("give the key to hold the database against: --key name+hash+key, or --key @FILE")
    text = str(arguments.key or f"@{public_key_path(arguments)}")
    if text.startswith("@"):
        return VerifierKey.parse(Path(text[1:]).read_text(errors="replace"))
    try:
        return VerifierKey.parse(text)
    except CheckpointError as problem:
        if Path(text).is_file():
            raise CannotVerify(f"--key takes the key itself, or @ and a file: did you mean @{text}?") from problem
        raise


def _note(path: Path, key: VerifierKey) -> str:
    """Read a checkpoint. One that does not hold is a finding; what is no signed checkpoint at all is a slip."""
    from broker.audit.checkpoints import BadSignature, CheckpointError, ForeignOrigin
    from broker.audit.evidence import CannotVerify

    try:
        note = path.read_bytes().decode()
    except UnicodeDecodeError as problem:
        raise CannotVerify(f"{path} is not a checkpoint: it is no text") from problem
    try:
        key.open(note)
    except (BadSignature, ForeignOrigin):
        pass  # the replay tells
    except CheckpointError as problem:
        raise CannotVerify(f"{path} is not a checkpoint: {problem}") from problem
    return note


def _log(path: Path) -> Path:
    """Answer the path of what is a SQLite database at least."""
    from broker.audit.evidence import CannotVerify

    with path.open("rb") as file:
        begins = file.read(len(_SQLITE))
    if begins != _SQLITE:
        what = "it is no SQLite database" if begins else "the file is empty"
        raise CannotVerify(f"{path} is not an audit log: {what}")
    return path


def _sentence(problem: OSError) -> str:
    if isinstance(problem, FileNotFoundError):
        return f"{problem.filename}: no such file"
    return f"{problem.filename}: {problem.strerror}"


# -- the answer


def _verdict(report: Report, *, require_sealed: bool) -> str:
    if report.findings:
        return TAMPERED
    unsealed = report.unsealed if require_sealed else report.size and not report.sealed
    return NOT_SEALED if unsealed else CLEAN


def _print_table(report: Report, verdict: str, cosigned: Sequence[Seen], *, failed: bool) -> None:
    items = [{"class": f.kind, "index": f.index, "what": f.message} for f in report.findings]
    if items:
        show(items, "table", ("CLASS", ">INDEX", "WHAT"), lambda item: tuple(item.values()), "")
    for text in filter(None, (*_keys(report), *_notes(report), _held(report), *sentences(cosigned))):
        write(text)
    write(_not_sealed(report) if verdict == NOT_SEALED and failed else _summary(report, verdict))


def _keys(report: Report) -> Sequence[str]:
    """Say which key counts where, when it ever changed."""
    if len(report.keys) == 1:
        return ()
    return [f"key from {each.since or 'the beginning'} on: {each.key}" for each in report.keys]


def _notes(report: Report) -> Sequence[str]:
    """Say where times are not in the order of events; that is no fault of the log."""
    return [f"note: the clock was set back before event {index}" for index in report.set_back]


def _not_sealed(report: Report) -> str:
    return (
        f"NOT SEALED: the last {report.unsealed} of {_events(report.size)} {_are(report.unsealed)} under no checkpoint"
    )


def _summary(report: Report, verdict: str) -> str:
    state = {TAMPERED: "TAMPERED", NOT_SEALED: "not sealed yet", CLEAN: "clean"}[verdict]
    read = f"{_events(report.size)} of {report.origin}"
    if report.broke_off:
        read += f" {'was' if report.size == 1 else 'were'} read before it broke"
    line = f"{state}: {read}, {report.sealed} under a checkpoint"
    if report.sealed and report.unsealed:
        line += f"; the last {report.unsealed} {_are(report.unsealed)} not sealed yet"
    if report.bodiless:
        line += f"; {_events(report.bodiless)} by their hashes alone, their bodies were pruned"
    return line


def _held(report: Report) -> str:
    """Say what of elsewhere the log was held against; a log that agrees with itself alone may be an older one."""
    counts = {"checkpoint": report.held.checkpoints, "receipt": report.held.receipts}
    named = [f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items() if count]
    return f"held against {' and '.join(named)} kept elsewhere" if named else ""


def _events(number: int) -> str:
    return "1 event" if number == 1 else f"{number} events"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _document(report: Report, verdict: str) -> dict[str, object]:
    return {
        "verdict": verdict,
        "origin": report.origin,
        "clean": not report.findings,
        "size": report.size,
        "sealed": report.sealed,
        "unsealed": report.unsealed,
        "bodiless": report.bodiless,
        "keys": [{"since": each.since, "key": str(each.key)} for each in report.keys],
        "clock_set_back": list(report.set_back),
        "held_against": report.held._asdict(),
        "root": base64.b64encode(report.root).decode(),
        "findings": [
            {"class": f.kind, "index": f.index, "message": f.message, "recoverable": f.recoverable}
            for f in report.findings
        ],
    }


def _noted(report: Report) -> dict[str, str | int | tuple[str, ...]]:
    """Answer what the log is told of its own verification: how much held, and what did not."""
    root = base64.b64encode(report.root).decode()
    kinds = tuple(sorted({finding.kind for finding in report.findings}))
    first = min((finding.index for finding in report.findings), default=-1)
    whole: dict[str, str | int | tuple[str, ...]] = {"size": report.size, "sealed": report.sealed, "root": root}
    return {**whole, "findings": kinds, "first_bad": first} if kinds else whole


def _print_document(document: dict[str, object], form: str) -> None:
    if form == "json":
        print_json(document)
        return
    import yaml

    write(yaml.safe_dump(document, sort_keys=False).rstrip())
