"""`broker doctor`: why can I not get in? Names the cause and the fix."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from contextlib import contextmanager

from broker.cli import output
from broker.cli.asking import add_reasons, private_folder
from broker.cli.exits import Exit
from broker.cli.output import terminal_width
from broker.cli.parsing import guide

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from broker.cli.parsing import Parser
    from broker.client.diagnosis.finding import Finding

EPILOG = """\
It looks at the settings, the service, the token, the policies, the instance, the network and the
login, in this order, and stops at the first thing that keeps you out. To try the login it asks for a
credential, which the audit log records; the key is in a folder of yours alone, and gone at the end.
"""

EXAMPLES = """\
broker doctor web-1  # what keeps me out, and what to do about it
broker doctor web-1 --reason "disk is full" --ticket OPS-7  # asked as you would ask for it
broker doctor win-1 --format json  # for a program
"""


def configure(parser: Parser) -> None:
    """Add the arguments."""
    parser.epilog = EPILOG
    parser.add_argument("instance", metavar="INSTANCE", help="its name, or account/region/name")
    parser.add_argument("--protocol", choices=["ssh", "rdp"], help="default: what the platform speaks")
    add_reasons(parser, os.environ)
    output.add_format(parser, "table", "json")
    guide(parser, EXAMPLES, {0: "all is well", 1: "a cause was found"}, see="broker ls, broker whoami, broker ssh")


def run(arguments: Namespace) -> int:
    """Look, and tell."""
    from broker.client.diagnosis.chain import Question, diagnose
    from broker.client.names import parts

    parts(arguments.instance)
    with _folder() as folder:
        question = Question(
            arguments.instance,
            os.environ,
            folder,
            protocol=arguments.protocol,
            reason=arguments.reason,
            ticket=arguments.ticket,
            notice=output.talk,
        )
        findings = []
        for finding in diagnose(question):
            findings.append(finding)
            if arguments.format == "table":
                _show(finding)
    problems = [finding for finding in findings if finding.status == "problem"]
    if arguments.format == "json":
        output.print_json({"ok": not problems, "findings": [finding.document() for finding in findings]})
    else:
        output.write(_summary(arguments.instance, problems))
    return Exit.PROBLEMS if problems else Exit.OK


def _show(finding: Finding) -> None:
    word = {"ok": "ok", "problem": "PROBLEM", "skipped": "skipped"}[finding.status]
    _put(f"{word:<8} {finding.check:<13} ", finding.detail)
    if finding.status != "problem":
        return
    _put(f"{'':<9}cause: ", finding.cause)
    _put(f"{'':<9}fix:   ", finding.fix)
    if finding.command:
        output.write(f"{'':<9}type:  {output.plain(finding.command)}")  # in one piece, to be copied


def _put(lead: str, text: str) -> None:
    """Write a text behind its lead, filled to the width of a terminal; what is piped is one line."""
    line, columns = lead + output.plain(text), terminal_width(sys.stdout)
    if columns and len(line) > columns:
        from textwrap import fill

        line = fill(
            line,
            columns,
            subsequent_indent=" " * len(lead),
            break_long_words=False,
            break_on_hyphens=False,
            drop_whitespace=True,
        )
    output.write(line)


def _summary(instance: str, problems: list[Finding]) -> str:
    if not problems:
        return f"Nothing was found that keeps you out of {output.plain(instance)}."
    return f"Found for {output.plain(instance)}: {', '.join(finding.cause for finding in problems)}."


@contextmanager
def _folder() -> Iterator[str]:
    """Make a folder for the key, which vanishes however this ends, but for a `kill -9`."""
    before = {number: signal.signal(number, _end) for number in (signal.SIGTERM, signal.SIGHUP)}
    folder = private_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _: object) -> None:
    raise SystemExit(128 + number)
