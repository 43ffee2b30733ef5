"""`broker rdp`: open a Windows instance in the native client, after a look at who answers there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

from broker.cli import asking, durations, output
from broker.cli.launching import launch
from broker.cli.parsing import guide
from broker.cli.ssh import purpose_of
from broker.client import Misconfigured, clipboard
from broker.client.names import is_well_formed
from broker.client.rdp import clients
from broker.client.rdp.freerdp import version_in
from broker.client.rdp.pins import CertificateUnknown, hold_to
from broker.client.rdp.probe import await_answer
from broker.client.rdp.session import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from broker.cli.parsing import Parser
    from broker.client.documents import CredentialDocument
    from broker.client.purpose import Purpose

EPILOG = """\
The server has to show the certificate that AWS names for the instance, and to authenticate before
a session begins; else nothing is started and no password leaves. FreeRDP is told that certificate
too, and gets the password by a pipe. Other clients are pasted into: the password is on the
clipboard until --clipboard is over, or you copy something else.

What stands behind -- goes to the client: /f or /drive:docs,/srv/docs for FreeRDP. What says
where to go, as whom, or by which certificate is refused.

  BROKER_REASON   the reason, when --reason is not given
  BROKER_TICKET   the ticket, when --ticket is not given
"""

EXAMPLES = """\
broker rdp win-1 # open it
broker rdp win-1 --reason "patch day" -- /f # say why, and fill the screen
broker rdp win-1 --client remmina --clipboard 1m # another client, and time to paste
"""

_CLIENTS = f"one of {', '.join(clients.NAMES)} (default: the best that there is)"

SEE = "broker ssh, broker ls, broker get"

_NOT_IN = 128
"""From here on FreeRDP's exit codes say that there was no session, or that it broke off."""

_VERSION_SECONDS = 20


def configure(parser: Parser) -> None:
    """Add the arguments."""
    parser.epilog = EPILOG
    exits = {4: "no answer yet, or AWS knows no certificate yet", 5: "another certificate, or no authentication first"}
    guide(parser, EXAMPLES, exits, see=SEE)
    parser.usage = (
        "broker rdp INSTANCE [--client NAME] [--reason TEXT] [--ticket ID] [--break-glass]\n"
        "                  [--wait TIME] [--clipboard TIME] [-- CLIENT-ARGS]"
    )
    asking.add_arguments(parser, wait="2m")
    parser.add_argument("--client", metavar="NAME", choices=clients.NAMES, default="", help=_CLIENTS)
    parser.add_argument(
        "--clipboard",
        metavar="TIME",
        type=durations.seconds,
        default=durations.seconds("30s"),
        help="how long a password that is to be pasted stays there (default: 30s)",
    )
    parser.take_rest("client_arguments")


def run(arguments: Namespace) -> int:
    """Choose the client, ask, look who answers, and hand over to it."""
    if not is_well_formed(arguments.instance):
        raise Misconfigured("this is not the name of an instance: write NAME or ACCOUNT/REGION/NAME")
    client, program = clients.find(arguments.client, shutil.which, _version, os.environ, sys.platform)
    extras = client.admits(arguments.client_arguments)
    board = None if client.pins else clipboard.find(shutil.which, os.environ)
    deadline = time.monotonic() + arguments.wait
    purpose = purpose_of(arguments, os.environ)
    session = _opened(arguments.instance, purpose, arguments.wait, may_ask=not arguments.no_input)
    left = deadline - time.monotonic()
    with output.Progress(left) as progress:
        found = await_answer(session.host, session.port, left, progress.notice, sleep=progress.sleep)
    hold_to(session.pins, found.certificate_sha256, session.address)
    code = launch(client, program, session, extras, os.environ, board, arguments.clipboard)
    if code > _NOT_IN and client.pins:
        output.talk(f"{client.name} did not get in, or lost the connection (exit code {code})")
        output.talk(f"  next: `broker doctor {arguments.instance}` finds out why")
    return code


def _version(program: str) -> int:
    """Ask a FreeRDP which one it is; the older ones look for a screen first."""
    try:
        shown = subprocess.run(  # noqa: S603  # a FreeRDP on PATH
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_VERSION_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return 0
    return version_in(shown.stdout)


def _opened(instance: str, purpose: Purpose, seconds: float, *, may_ask: bool) -> Session:
    """Ask the service, as long as it helps."""
    return Session.of(asking.granted(instance, "rdp", purpose, seconds, _usable, may_ask=may_ask))


def _usable(credential: CredentialDocument) -> None:
    if "rdp" in credential and not credential["rdp"]["certificate_sha256"]:
        raise CertificateUnknown
