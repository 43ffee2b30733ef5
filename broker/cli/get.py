"""`broker get`: a credential for a script, as JSON, as shell variables or as files."""

from __future__ import annotations

import shlex
import sys

from broker.cli import asking, output
from broker.cli.exits import Exit
from broker.cli.parsing import guide
from broker.client import Misconfigured
from broker.client.variables import quoted, variables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from broker.client.documents import CredentialDocument
    from broker.client.files import CredentialFolder

EPILOG = """\
formats:
  json    the service's answer
  env     NAME='value' lines: eval "$(broker get web-1 --format env)"
  files   DIR/INSTANCE/ with id, id-cert.pub, known_hosts and ssh_config, or password and NAME.rdp;
          then ssh -F DIR/INSTANCE/ssh_config NAME

A full name makes the folder DIR/ACCOUNT/REGION/NAME/, so two of one name do not meet. On a
terminal, files are told in words; elsewhere stdout gets JSON that names them.
"""


EXAMPLES = """\
broker get web-1 > credential.json  # the whole answer, as JSON
broker get web-1 --reason "disk is full" --ticket OPS-7  # where the policies ask why
eval "$(broker get web-1 --format env)"  # BROKER_HOST, BROKER_USERNAME and the others
broker get web-1 --format files --output keys  # keys/web-1/, with an ssh_config
broker get win-1 --wait 10m  # a new Windows server has no password for some minutes
"""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = EPILOG
    asking.add_arguments(parser)
    parser.add_argument("--protocol", choices=["ssh", "rdp"], help="default: what the platform speaks")
    parser.add_argument("--format", choices=["json", "env", "files"], help="default: json")
    parser.add_argument("--output", metavar="DIR", help="where the files go (default: here)")
    parser.add_argument("--idempotency-key", metavar="KEY", default="", help="repeat an earlier call, not a new one")
    guide(
        parser,
        EXAMPLES,
        {
            3: "denied, or the token is not taken",
            4: "not ready yet; --wait waits",
            5: "a host key or a certificate is not the one it should be",
            6: "a stronger login, a reason, a ticket or an approval is needed",
            7: "the service, AWS or the audit log is not available",
        },
        see="broker ls, broker ssh, broker exec, broker receipt",
    )


def run(arguments: Namespace) -> int:
    """Ask, wait if told to, and hand over."""
    form = arguments.format or ("files" if arguments.output else "json")
    if arguments.output and form != "files":
        raise Misconfigured("--output goes with --format files: leave one of the two out")
    if not (arguments.idempotency_key.isascii() and f"x{arguments.idempotency_key}".isprintable()):
        raise Misconfigured("--idempotency-key takes printable ASCII characters: write another one")
    folder = _folder(arguments) if form == "files" else None
    credential = asking.ask(arguments, arguments.protocol, arguments.idempotency_key)
    if folder:
        _print_files(credential, folder)
    elif form == "env":
        _print_variables(credential)
    else:
        output.print_json(credential)
    return Exit.OK


def _folder(arguments: Namespace) -> CredentialFolder:
    from broker.client.files import CredentialFolder

    return CredentialFolder(arguments.output or ".", arguments.instance)


def _print_files(credential: CredentialDocument, folder: CredentialFolder) -> None:
    from broker.cli.times import clock

    files = folder.write(credential)
    expires_at = credential["lease"]["expires_at"]
    output.talk(f"the files are in {folder.path}, for access until {clock(expires_at)}")
    document: dict[str, object] = {
        "directory": str(folder.path),
        "files": files,
        "host": credential["host"],
        "port": credential["port"],
        "username": credential["username"],
        "expires_at": expires_at,
    }
    if "ssh" in credential:
        document["command"] = command = ["ssh", "-F", files["ssh_config"], folder.name]
        sys.stderr.write(f"  {output.plain(shlex.join(command))}\n")
    else:
        output.talk(f"open {files['rdp']}; the password of {credential['username']} is in {files['password']}")
    if not sys.stdout.isatty():
        output.print_json(document)


def _print_variables(credential: CredentialDocument) -> None:
    # Put together first: a script that evaluates half of it would go on with the rest of an earlier one.
    lines = [f"{name}={quoted(value)}" for name, value in variables(credential).items()]
    output.write("\n".join(lines))
