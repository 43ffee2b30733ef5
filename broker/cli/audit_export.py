"""`broker audit export`: events in the order of the log, as JSON Lines that verify, as CSV, or as OCSF."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path

from broker.cli import audit_search
from broker.cli.audit_files import checkpoint_file, reader
from broker.cli.audit_reads import note_export
from broker.cli.exits import Exit
from broker.cli.output import talk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator
    from typing import BinaryIO

FORMATS = ("jsonl", "csv", "ocsf")


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--format", choices=FORMATS, default="jsonl", help="default: jsonl")
    audit_search.add_filters(parser)
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: stdout; FILE.checkpoint goes with jsonl")
    parser.add_argument("--force", action="store_true", help="replace files that are there")


def run(arguments: Namespace) -> int:
    """Write them out; with JSON Lines of the whole log, the checkpoint that covers it lies beside."""
    from broker.audit import exporting
    from broker.audit.stores import Filters

    output: Path | None = arguments.output
    for path in (output, checkpoint_file(output)) if output and not arguments.force else ():
        if path.exists():
            talk(f"{path} is there already, and is left as it is; --force replaces it")
            return Exit.USAGE
    form, count = exporting.FORMATS[arguments.format], 0
    with reader(arguments) as opened:
        try:
            filters = audit_search.filters_of(arguments, opened)
        except audit_search.Unclear as problem:
            talk(str(problem))
            return Exit.USAGE
        note_export(arguments, arguments.format, audit_search.named(arguments))
        newest = opened.newest_checkpoint()  # read first: one of later would cover events that are not written
        with _written(output, replace=arguments.force) as file:
            file.write(form.header)
            for records in exporting.chunks(opened, filters):
                file.writelines(map(form.line, records))
                count += len(records)
    if output is None:
        return Exit.OK
    said = f"{count} events written"
    if arguments.format == "jsonl" and filters == Filters() and newest is not None:
        checkpoint_file(output).write_text(newest.note)
        said += f", {newest.size} of them under {checkpoint_file(output)}"
    talk(said)
    return Exit.OK


@contextmanager
def _written(output: Path | None, *, replace: bool) -> Iterator[BinaryIO]:
    """Open what is written to: a new file (0600), one that is replaced, or stdout."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.flush()
        return
    existing = os.O_TRUNC if replace else os.O_EXCL
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | existing | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        yield file
