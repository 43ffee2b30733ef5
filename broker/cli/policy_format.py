"""`broker policy format`: lay policies out in one way."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from broker.cli.configuration import add_config
from broker.cli.exits import Exit
from broker.cli.output import talk, write
from broker.cli.policy_files import Usage, count, directory_of, show_problems

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="DIR|FILE",
        help="what to format (default: policies); - formats stdin to stdout, for editors",
    )
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when something would change")
    add_config(parser)


def run(arguments: Namespace) -> int:
    """Format."""
    from broker.authorization.formatting import formatted

    if arguments.paths == ["-"]:
        texts = {"-": sys.stdin.read()}
    else:
        texts = {str(path): _read(path) for path in _files(arguments)}
    done, problems = formatted(texts)
    show_problems(Path(), problems, "table")
    if arguments.paths == ["-"]:
        sys.stdout.write(done.get("-", ""))
        return Exit.PROBLEMS if problems else Exit.OK
    changed = [name for name, text in done.items() if text != texts[name]]
    for name in changed:
        if arguments.check:
            write(f"{name}:{_first_difference(texts[name], done[name])}:1: the layout differs")
        else:
            _replace(Path(name), done[name])
            write(f"{name}: formatted")
    what = "would change" if arguments.check else "changed"
    talk(f"{count(len(texts), 'file')}, {len(changed)} {what}" + (f", {len(problems)} not read" if problems else ""))
    return Exit.PROBLEMS if problems or (arguments.check and changed) else Exit.OK


def _files(arguments: Namespace) -> list[Path]:
    arguments.directory = None
    found: list[Path] = []
    for path in [Path(each) for each in arguments.paths] or [directory_of(arguments)]:
        if not path.exists():
            raise Usage(f"{path.absolute()}: there is no such file or directory")
        found += sorted(path.glob("*.cedar")) if path.is_dir() else [path]
    return found


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise Usage(f"{path}: this is not UTF-8") from error


def _first_difference(before: str, after: str) -> int:
    lines = enumerate(zip(before.splitlines(), after.splitlines(), strict=False), start=1)
    return next((number for number, (old, new) in lines if old != new), 1)


def _replace(path: Path, text: str) -> None:
    """Write a file atomically, with its mode; the running service never sees half of it."""
    import tempfile

    target = path.resolve()
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode())
            os.fchmod(descriptor, target.stat().st_mode & 0o7777)
            os.fsync(descriptor)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
