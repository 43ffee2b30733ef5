"""`broker get`: a credential for a script, as JSON, as shell variables or as files."""

from __future__ import annotations

import shlex
import sys
from functools import partial

from broker.cli import durations, output
from broker.cli.exits import Exit
from broker.cli.service import service
from broker.client import Misconfigured, new_idempotency_key
from broker.client.waiting import patiently

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
          then ssh -F DIR/INSTANCE/ssh_config NAME, with -l USER for another user

A full name makes the folder DIR/ACCOUNT/REGION/NAME/, so two of one name do not meet. On a
terminal, files are told in words; elsewhere stdout gets JSON that names them.
"""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = EPILOG
    parser.add_argument("instance", metavar="INSTANCE", help="its name, or account/region/name")
    parser.add_argument("--protocol", choices=["ssh", "rdp"], help="default: what the platform speaks")
    parser.add_argument("--reason", metavar="TEXT", default="", help="why; policies may ask for it")
    parser.add_argument("--ticket", metavar="ID", default="", help="the ticket; policies may ask for it")
    parser.add_argument("--break-glass", action="store_true", help="ask by the policies for emergencies")
    parser.add_argument("--wait", metavar="TIME", type=durations.seconds, default=0, help="keep trying, such as 5m")
    parser.add_argument("--format", choices=["json", "env", "files"], help="default: json")
    parser.add_argument("--output", metavar="DIR", help="where the files go (default: here)")
    parser.add_argument("--idempotency-key", metavar="KEY", default="", help="repeat an earlier call, not a new one")


def run(arguments: Namespace) -> int:
    """Ask, wait if told to, and hand over."""
    form = arguments.format or ("files" if arguments.output else "json")
    if arguments.output and form != "files":
        raise Misconfigured("--output goes with --format files")
    if not (arguments.idempotency_key.isascii() and f"x{arguments.idempotency_key}".isprintable()):
        raise Misconfigured("--idempotency-key takes printable ASCII characters")
    folder = _folder(arguments) if form == "files" else None
    credential = _ask(arguments)
    for warning in credential.get("warnings", []):
        output.talk(f"warning: {warning}")
    if folder:
        _print_files(credential, folder)
    elif form == "env":
        _print_variables(credential)
    else:
        output.print_json(credential)
    return Exit.OK


def _ask(arguments: Namespace) -> CredentialDocument:
    """Ask for the credential, under one key over all attempts."""
    with service() as broker:
        ask = partial(
            broker.credential,
            arguments.instance,
            protocol=arguments.protocol,
            reason=arguments.reason,
            ticket=arguments.ticket,
            break_glass=arguments.break_glass,
            idempotency_key=arguments.idempotency_key or new_idempotency_key(),
        )
        return patiently(ask, arguments.wait, output.talk)


def _folder(arguments: Namespace) -> CredentialFolder:
    from broker.client.files import CredentialFolder

    return CredentialFolder(arguments.output or ".", arguments.instance)


def _print_files(credential: CredentialDocument, folder: CredentialFolder) -> None:
    files = folder.write(credential)
    expires_at = credential["lease"]["expires_at"]
    output.talk(f"the files are in {folder.path}, for access until {expires_at}")
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
    lines = [f"{name}={quoted(value)}" for name, value in _variables(credential).items()]
    output.write("\n".join(lines))


def _variables(credential: CredentialDocument) -> dict[str, str]:
    """Name what a script needs. Both protocols are always named: nothing stays over from an earlier `eval`."""
    place, ssh, rdp = credential["instance"], credential.get("ssh"), credential.get("rdp")
    return {
        "BROKER_INSTANCE": f"{place['account']}/{place['region']}/{place['name']}",
        "BROKER_LEASE_ID": credential["lease"]["id"],
        "BROKER_EXPIRES_AT": credential["lease"]["expires_at"],
        "BROKER_PROTOCOL": credential["protocol"],
        "BROKER_HOST": credential["host"],
        "BROKER_PORT": str(credential["port"]),
        "BROKER_USERNAME": credential["username"],
        "BROKER_PRIVATE_KEY": ssh["private_key"] if ssh else "",
        "BROKER_CERTIFICATE": ssh["certificate"] if ssh else "",
        "BROKER_KNOWN_HOSTS": "\n".join(ssh["known_hosts"]) if ssh else "",
        "BROKER_PASSWORD": rdp["password"] if rdp else "",
        "BROKER_CERTIFICATE_SHA256": ",".join(rdp["certificate_sha256"]) if rdp else "",
    }


def quoted(text: str) -> str:
    """Quote for POSIX sh: within single quotes nothing is special but the quote itself."""
    return "'" + text.replace("\0", "").replace("'", "'\\''") + "'"
