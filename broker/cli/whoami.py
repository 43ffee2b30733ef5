"""`broker whoami`: how the service sees me, and where my token comes from."""

from __future__ import annotations

import os

from broker.cli import output
from broker.cli.exits import Exit
from broker.cli.parsing import guide
from broker.cli.service import service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

    from broker.cli.parsing import Parser


EXAMPLES = """\
broker whoami  # who the service takes you for, and by which token
broker whoami --format json  # for a program
"""


def configure(parser: Parser) -> None:
    """Add the arguments."""
    guide(parser, EXAMPLES, see="broker login, broker ls")
    output.add_format(parser, "table", "json", "yaml")


def run(arguments: Namespace) -> int:
    """Ask, and show."""
    source = token_source(os.environ)
    with service() as broker:
        me: dict[str, object] = {**broker.whoami(), "token_from": source}
    if arguments.format == "json":
        output.print_json(me)
    elif arguments.format == "yaml":
        import yaml

        output.write(yaml.safe_dump(me, sort_keys=False).rstrip())
    else:
        for name, value in _sentences(me).items():
            output.write(f"{name:<14}{output.plain(value)}")
    return Exit.OK


def token_source(environment: Mapping[str, str]) -> str:
    """Say where the token comes from: the first of the places in which it is looked for."""
    if environment.get("BROKER_TOKEN"):
        return "BROKER_TOKEN"
    if path := environment.get("BROKER_TOKEN_FILE"):
        return f"BROKER_TOKEN_FILE ({path})"
    from broker.client.sessions import session_source

    session = session_source(environment, environment.get("BROKER_URL", ""))
    if session is None:
        return "the platform of this workload"
    return f"broker login at {session.service.url} (in the {session.service.place})"


def _sentences(me: Mapping[str, object]) -> dict[str, str]:
    groups, bound = me["groups"], "to a key of this client" if me["bound"] else "no: whoever has it can use it"
    return {
        "you are": f"{me['issuer']}/{me['subject']}",
        "kind": str(me["kind"]),
        "groups": ", ".join(map(str, groups)) if isinstance(groups, list) and groups else "none",
        "e-mail": str(me["email"] or "not verified"),
        "second factor": "yes" if me["mfa"] else "no",
        "logged in": str(me["authenticated_at"] or "not known"),
        "token bound": bound,
        "token until": str(me["token_expires_at"]),
        "token from": str(me["token_from"]),
    }
