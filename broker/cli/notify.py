"""`broker notify`: does a notice arrive? Sends a signed one that says nothing, and shows the answer."""

from __future__ import annotations

import asyncio
from uuid import uuid4

from broker.cli.configuration import add_config, settings_of
from broker.cli.exits import Exit
from broker.cli.output import plain, talk, write
from broker.cli.parsing import guide

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from broker.outbound.webhooks import Outcome, Receiver


EXAMPLES = """\
broker notify test  # to every receiver of the settings
broker notify test --receiver chat  # to this one alone, by its name in the settings
"""


def configure(parser: ArgumentParser) -> None:
    """Add the verbs."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    summary = "send each receiver one signed test notice, once, and show its answer"
    test = verbs.add_parser("test", help=summary, description=summary, allow_abbrev=False)
    add_config(test)
    test.add_argument("--receiver", metavar="NAME", help="this one alone")
    guide(test, EXAMPLES, {0: "every receiver took it", 1: "a receiver did not"}, see="broker check")


def run(arguments: Namespace) -> int:
    """Send; answer 1 when a receiver did not take it."""
    from broker import wiring

    settings = settings_of(arguments)
    receivers = wiring.receivers(settings)
    chosen = [receiver for receiver in receivers if arguments.receiver in {None, receiver.name}]
    if not chosen:
        names = ", ".join(receiver.name for receiver in receivers)
        talk(f"there is no such receiver; there are {names}" if names else "the settings name no receiver of notices")
        return Exit.USAGE
    return asyncio.run(_test(chosen, settings.audit.origin))


async def _test(receivers: list[Receiver], origin: str) -> int:
    from broker.outbound.webhooks import Fate

    outcomes = await asyncio.gather(*(_attempt(receiver, origin) for receiver in receivers))
    for receiver, outcome in zip(receivers, outcomes, strict=True):
        write(f"{receiver.name}  {'taken' if outcome.fate is Fate.TAKEN else 'NOT TAKEN'}  {plain(outcome.detail)}")
    return Exit.OK if all(outcome.fate is Fate.TAKEN for outcome in outcomes) else Exit.PROBLEMS


async def _attempt(receiver: Receiver, origin: str) -> Outcome:
    from broker.model import rfc3339, utc_now
    from broker.outbound.notices import trial
    from broker.outbound.webhooks import connected

    async with connected(receiver, utc_now) as send:
        return await send(trial(f"test_{uuid4().hex}", rfc3339(utc_now()), origin))
