"""`broker ssh`: log in to an instance by the real ssh, with a key that lives in memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import time

from broker.cli import asking, children, output
from broker.cli.opening import opened
from broker.cli.parsing import guide
from broker.client import Misconfigured
from broker.client import ssh as client
from broker.client.purpose import Purpose

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping, Sequence

    from broker.cli.parsing import Parser
    from broker.client.lease import Lease

EPILOG = """\
What stands behind -- goes to ssh: options, a command, or both. Your own ~/.ssh/config applies too,
but for the key and the host's keys, which come from the broker.

The key goes into your ssh-agent, else into one of its own, and is gone when the lease ends; a
session that is open then goes on. Until then later calls use the key again; one that names a reason
or a ticket only uses a lease that was granted for the same.

  BROKER_REASON   the reason, when --reason is not given
  BROKER_TICKET   the ticket, when --ticket is not given
"""

EXAMPLES = """\
broker ssh web-1 # log in
broker ssh web-1 --reason "disk is full" -- df -h # run a command, and say why
broker ssh web-1 -- -L 8080:localhost:80 -N # forward a port
"""

EXITS = {
    3: "denied, or the token is not taken",
    4: "not ready, or no answer, within --wait",
    5: "a host key or a certificate is not the one it should be",
    6: "a stronger login, a reason, a ticket or an approval is needed",
    7: "the service, AWS or the audit log is not available",
    255: "ssh did not get in, or lost the connection; once it runs, what it ends with is passed on",
}

SEE = "broker ssh-config, broker ls, broker get"

_FAILED = 255
"""How ssh ends when it did not get in or lost the connection."""

_SHOW_SECONDS = 20


def configure(parser: Parser) -> None:
    """Add the arguments."""
    parser.epilog = EPILOG
    guide(parser, EXAMPLES, EXITS, see=SEE)
    parser.usage = (
        "broker ssh INSTANCE [--reason TEXT] [--ticket ID] [--break-glass] [--wait TIME]\n"
        "                  [-- SSH-ARGS]"
    )
    asking.add_arguments(parser, wait="2m")
    parser.take_rest("ssh_arguments")


def run(arguments: Namespace) -> int:
    """Prepare, wait until the instance answers, and hand over to ssh."""
    program = shutil.which("ssh")
    if not program:
        raise Misconfigured("there is no ssh on this machine: install OpenSSH's client, or use `broker get`")
    instance, deadline = arguments.instance, time.monotonic() + arguments.wait
    purpose = purpose_of(arguments, os.environ)
    may_ask = not arguments.no_input
    lease = opened(instance, purpose, arguments.wait, may_ask=may_ask)
    environment = client.child_environment(os.environ, instance)
    words = command(program, lease, instance, arguments.ssh_arguments)
    if client.knock(lease.host, lease.port) and not _is_proxied(words, environment):
        left = deadline - time.monotonic()
        with output.Progress(left) as progress:
            client.await_port(lease, left, progress.notice, sleep=progress.sleep)
        lease = opened(instance, purpose, 0, may_ask=may_ask)  # it may have ended meanwhile
        words = command(program, lease, instance, arguments.ssh_arguments)
    code = children.run(words, environment)
    if code == _FAILED:
        output.talk(f"ssh did not get in, or lost the connection: `broker doctor {instance}` finds out why")
    return code


def purpose_of(arguments: Namespace, environment: Mapping[str, str]) -> Purpose:
    """Answer what was said about the request, by options, else by variables."""
    return Purpose(
        arguments.reason or environment.get("BROKER_REASON", ""),
        arguments.ticket or environment.get("BROKER_TICKET", ""),
        break_glass=arguments.break_glass,
    )


def command(program: str, lease: Lease, instance: str, rest: Sequence[str]) -> list[str]:
    """Put ssh's command line together."""
    return [program, *client.arguments(lease, user=not client.names_a_user(rest)), instance, *rest]


def _is_proxied(words: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Ask ssh itself whether it goes through another host, from where the instance may well be reached."""
    try:
        shown = subprocess.run(  # noqa: S603  # the person's own ssh
            [words[0], "-G", *words[1:]],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SHOW_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return client.goes_through_a_proxy(shown.stdout)
