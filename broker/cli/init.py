"""`broker init`: create the state. Nothing else does: a log or a key that is missing later is a loss, and says so."""

from __future__ import annotations

from broker.cli.configuration import add_config, path_of, settings_of
from broker.cli.exits import Exit
from broker.cli.output import talk
from broker.cli.parsing import guide

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
STARTER = """\
# Settings of the Lightsail Credential Broker. Every value can be overridden by BROKER__SECTION__KEY.
# Paths are relative to this file. `broker check` tells what is missing.

[server]
listen = "127.0.0.1:8443"
# tls_certificate = "tls.crt"      # without both, plain HTTP, and only on a loopback address
# tls_private_key = "tls.key"

[[issuers]]                        # who may vouch for a caller
name = "corp"                      # the short name that policies use: Group::"corp/ops"
issuer = "https://id.example.com"  # the exact `iss` of its tokens; keys are found by OpenID Connect discovery
audience = "lightsail-broker"

[[accounts]]                       # where instances live
name = "main"
regions = ["eu-west-1"]
# role_arn = "arn:aws:iam::123456789012:role/lightsail-broker"
# endpoint_url = "http://127.0.0.1:9001"   # only to reach `broker emulator`; AWS_ENDPOINT_URL is not heeded

[policies]
directory = "policies"

[keys]
directory = "state/keys"
master_key = "file:state/master.key"

[audit]
database = "sqlite:///state/audit.db"
signing_key = "file:state/audit.key"
origin = "broker.example.com/audit"   # the log's name in its checkpoints; it cannot be changed later
"""

PLACEHOLDER = "broker.example.com/"
"""What the starter and the documentation call a broker; nobody's log shall be named so for ever."""


EXAMPLES = """\
broker init  # write broker.toml, or create the state that it names
broker init --config /etc/broker/broker.toml  # for settings elsewhere
"""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    add_config(parser)
    parser.epilog = "Writes a starter settings file when there is none. Never overwrites anything."
    guide(parser, EXAMPLES, see="broker check, broker serve")


def run(arguments: Namespace) -> int:
    """Create what is missing, unless that would hide a loss."""
    path = path_of(arguments)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(STARTER, encoding="utf-8")
        talk(f"wrote {path}: put your issuer and your accounts in, then run `broker init` again")
        return Exit.OK
    from broker import state

    settings = settings_of(arguments)
    if settings.audit.origin.startswith(PLACEHOLDER):
        talk(f"put a name of your own into audit.origin of {path} first: it cannot be changed later")
        return Exit.USAGE
    for sentence in state.create(settings):
        talk(sentence)
    if not settings.policies.directory.is_dir():
        talk(f"there are no policies in {settings.policies.directory} yet, so nobody gets in")
    talk("the state is there; `broker check` tells whether everything else is")
    return Exit.OK
