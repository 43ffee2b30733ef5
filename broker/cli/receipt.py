"""`broker receipt`: complete the receipt of a credential, to prove later that its event was in the log."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from broker.cli import durations, output
from broker.cli.exits import Exit
from broker.cli.parsing import guide
from broker.cli.service import service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from broker.client import Broker
    from broker.client.documents import CompletedReceipt

_PAUSE = 5.0
"""Seconds between two looks; a checkpoint comes at least once a minute."""


class _NoReceipt(Exception):
    """What was given names no event."""


EXAMPLES = """\
broker receipt credential.json --wait 2m --output receipt.json  # of a saved answer of broker get
broker receipt 41  # of an event by its index, to stdout
broker get web-1 | broker receipt -  # without saving the credential
"""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = "Then, with the log's key and nothing else: broker audit verify --receipt FILE --key KEY"
    parser.add_argument("receipt", metavar="FILE|INDEX", help="a saved answer of `broker get`, -, or an index")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: stdout")
    parser.add_argument(
        "--wait", type=durations.seconds, default=0, metavar="2m", help="until a checkpoint covers the event"
    )
    guide(
        parser,
        EXAMPLES,
        {1: "the proof or the log is not what was promised", 4: "no checkpoint covers the event yet; --wait waits"},
        see="broker get, broker audit verify",
    )


def run(arguments: Namespace) -> int:
    """Fetch it, hold it against what was saved, and write it down."""
    try:
        index, leaf_hash = _named(arguments.receipt)
    except (OSError, _NoReceipt) as problem:
        output.talk(f"{arguments.receipt}: {getattr(problem, 'strerror', None) or problem}")
        return Exit.USAGE
    with service() as broker:
        receipt = _complete(broker, index, arguments.wait)
    if leaf_hash is not None and receipt["leaf_hash"] != leaf_hash:
        output.talk(f"event {index} of this log is not the one that the receipt was given for: this is another log")
        return Exit.PROBLEMS
    return _deliver(receipt, arguments.output)


def _deliver(receipt: CompletedReceipt, path: Path | None) -> int:
    from broker.client.receipts import holds

    complete = receipt["checkpoint"] is not None
    if complete and not holds(receipt):
        output.talk("the proof does not lead to the checkpoint: the service answered what is not so")
        return Exit.PROBLEMS
    if path is None:
        output.print_json(receipt)
    else:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(json.dumps(receipt, indent=2) + "\n")
    if not complete:
        output.talk("no checkpoint covers the event yet: ask again in a minute, or with --wait 2m")
        return Exit.NOT_READY
    return Exit.OK


def _named(word: str) -> tuple[int, str | None]:
    """Answer which event is meant, and the hash that was saved with it, if any."""
    if word.isascii() and word.isdigit():
        return int(word), None
    text = sys.stdin.read() if word == "-" else Path(word).read_text(encoding="utf-8", errors="replace")
    try:
        saved = json.loads(text)
        saved = saved.get("audit", saved)
        index, leaf_hash = saved["index"], saved["leaf_hash"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _NoReceipt("neither an answer of `broker get` nor a receipt") from None
    if type(index) is not int or index < 0 or not isinstance(leaf_hash, str):
        raise _NoReceipt("neither an answer of `broker get` nor a receipt")
    return index, leaf_hash


def _complete(broker: Broker, index: int, seconds: float) -> CompletedReceipt:
    deadline = time.monotonic() + seconds
    while True:
        receipt = broker.receipt(index)
        if receipt["checkpoint"] is not None or time.monotonic() + _PAUSE > deadline:
            return receipt
        time.sleep(_PAUSE)
