"""`broker exec`: run a program with a credential that is gone when it ends."""

from __future__ import annotations

import os
import shutil

from broker.cli import asking, children
from broker.cli.parsing import guide
from broker.client import Misconfigured
from broker.client.variables import about, variables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from broker.client.documents import CredentialDocument

EPILOG = """\
The program finds BROKER_HOST, BROKER_PORT, BROKER_USERNAME, BROKER_PROTOCOL, BROKER_INSTANCE,
BROKER_LEASE_ID and BROKER_EXPIRES_AT in its environment, and

  with --format files (the default), in a folder in memory that is removed when it ends:
    ssh   BROKER_PRIVATE_KEY_FILE, BROKER_CERTIFICATE_FILE, BROKER_KNOWN_HOSTS_FILE, BROKER_SSH_CONFIG
    rdp   BROKER_PASSWORD_FILE, BROKER_RDP_FILE
  with --format env, the same as `broker get --format env`: BROKER_PRIVATE_KEY, BROKER_PASSWORD …
    Every process that the program starts inherits them: prefer files.

The exit code is the program's own; without a credential it is not started, and the exit code is
that of `broker get`.
"""

_FILES = {
    "private_key": "BROKER_PRIVATE_KEY_FILE",
    "certificate": "BROKER_CERTIFICATE_FILE",
    "known_hosts": "BROKER_KNOWN_HOSTS_FILE",
    "ssh_config": "BROKER_SSH_CONFIG",
    "password": "BROKER_PASSWORD_FILE",
    "rdp": "BROKER_RDP_FILE",
}


EXAMPLES = """\
broker exec web-1 -- sh -c 'ssh -F "$BROKER_SSH_CONFIG" web-1 uptime'  # by files that are gone at the end
broker exec win-1 --reason patching -- ./patch  # ./patch reads $BROKER_PASSWORD_FILE
broker exec web-1 --format env -- ./deploy  # by variables, which every child inherits
"""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = EPILOG
    parser.usage = (
        "broker exec INSTANCE [--reason TEXT] [--ticket ID] [--break-glass] [--wait TIME] [--protocol {ssh,rdp}]"
        " [--format {files,env}] -- COMMAND [ARGUMENT ...]"
    )
    asking.add_arguments(parser)
    parser.add_argument("--protocol", choices=["ssh", "rdp"], help="default: what the platform speaks")
    parser.add_argument("--format", choices=["files", "env"], default="files", help="default: files")
    parser.add_argument("command", metavar="COMMAND", nargs="+", help="the program and its arguments, behind --")
    guide(parser, EXAMPLES, see="broker get, broker ssh")


def run(arguments: Namespace) -> int:
    """Ask, run, and tidy up."""
    if shutil.which(arguments.command[0]) is None:  # before anything is issued that nobody could use
        raise Misconfigured(f"there is no program {arguments.command[0]!r} on PATH: install it, or name it by its path")
    if arguments.format == "env":
        credential = asking.ask(arguments, arguments.protocol)
        return children.run(arguments.command, _inherited() | variables(credential))
    with children.removing() as folders:
        folders.append(asking.private_folder())
        credential = asking.ask(arguments, arguments.protocol)
        return children.run(arguments.command, _inherited() | about(credential) | _files(folders[0], credential))


def _files(folder: str, credential: CredentialDocument) -> dict[str, str]:
    """Write the files; answer their names as variables."""
    from broker.client.files import CredentialFolder

    written = CredentialFolder(folder, credential["instance"]["name"]).write(credential)
    return {_FILES[what]: path for what, path in written.items()}


def _inherited() -> dict[str, str]:
    """Leave out what an enclosing `broker exec` may have set: it is for another instance."""
    stale = {*_FILES.values(), "BROKER_PRIVATE_KEY", "BROKER_PASSWORD", "BROKER_CERTIFICATE", "BROKER_KNOWN_HOSTS"}
    return {name: value for name, value in os.environ.items() if name not in stale}
