"""`broker logout`: forget the login, here and at the identity provider, and every credential that is still good."""

from __future__ import annotations

import os

from broker.cli.exits import Exit
from broker.cli.output import talk
from broker.cli.parsing import guide
from broker.client.leases import forget
from broker.client.sessions import logins, session_source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from broker.cli.parsing import Parser


EXAMPLES = """\
broker logout  # from this service
broker logout --all  # from every service
"""


def configure(parser: Parser) -> None:
    """Add the arguments."""
    guide(parser, EXAMPLES, see="broker login")
    parser.add_argument("--all", action="store_true", help="at every service, not only at this one")


def run(arguments: Namespace) -> int:
    """Forget."""
    url = os.environ.get("BROKER_URL", "")
    found = session_source(os.environ, url)
    sessions = logins(os.environ) if arguments.all else [found] if found else []
    for session in sessions:
        told = session.end()
        said = "" if told else "; the identity provider could not be told, so the token lives until it ends by itself"
        talk(f"logged out of {session.service.url}{said}")
    if not sessions:
        talk("nobody was logged in here")
    dropped = forget(os.environ)
    if dropped:
        talk(f"{dropped} credential{'s' if dropped > 1 else ''} for ssh forgotten")
    return Exit.OK
