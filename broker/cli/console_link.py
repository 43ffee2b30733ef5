"""`broker console-link`: a one-time link by which somebody signs in to the console."""

from __future__ import annotations

import asyncio
from urllib.parse import urlencode

from broker.cli.configuration import add_config, settings_of
from broker.cli.exits import Exit
from broker.cli.output import complain, talk, write
from broker.cli.parsing import guide

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Sequence

    from broker.settings import Settings


EXAMPLES = """\
broker console-link --as corp/carol --group auditors  # prints the link; it is good for a minute, once
broker console-link --as corp/carol --group auditors --url https://broker.example.com  # under another address
"""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    add_config(parser)
    help_text = "whom the link signs in, and whom the log names"
    parser.add_argument("--as", dest="person", metavar="ISSUER/SUBJECT", required=True, help=help_text)
    help_text = "a group of theirs, as policies name it without its issuer; once for each of them"
    parser.add_argument("--group", metavar="GROUP", action="append", default=[], help=help_text)
    parser.add_argument("--url", metavar="URL", default="", help="the address of the service; default: by the settings")
    guide(parser, EXAMPLES, {7: "the audit log cannot be written"}, see="broker audit search")


def run(arguments: Namespace) -> int:
    """Make the link."""
    settings = settings_of(arguments)
    issuer, _, subject = arguments.person.partition("/")
    people = [each.name for each in settings.issuers if each.principal == "user"]
    if issuer not in people or not subject or not arguments.person.isprintable():
        complain(f"--as is ISSUER/SUBJECT, and of the issuers these vouch for people: {', '.join(people) or 'none'}")
        return Exit.USAGE
    link = asyncio.run(make(settings, arguments.person, arguments.group, talk))
    write(at(arguments.url or _address(settings), link))
    return Exit.OK


def at(url: str, link: str) -> str:
    """Write the link to the service at a URL."""
    return f"{url.rstrip('/')}/console/sign-in?{urlencode({'link': link})}"


async def make(settings: Settings, person: str, groups: Sequence[str], say: Callable[[str], object]) -> str:
    """Record that somebody may sign in once within a minute, and answer the link's secret; `say` where that went."""
    from broker import wiring
    from broker.identity.sessions import link_event
    from broker.model import utc_now

    link, event = link_event(person, groups, utc_now())
    async with wiring.operator_log(settings, say) as append:
        await append(event)
    return link.reveal()


def _address(settings: Settings) -> str:
    from broker import wiring

    server = settings.server
    host = f"[{server.host}]" if ":" in server.host else server.host
    return wiring.public_urls(settings).of(f"{host}:{server.port}")
