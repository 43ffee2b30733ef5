"""`broker ssh-config`: the block for ~/.ssh/config that lets plain ssh, scp, rsync and Ansible in."""

from __future__ import annotations

import os
import shlex
import sys

from broker.cli import durations, output
from broker.cli.exits import Exit
from broker.cli.parsing import guide

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from pathlib import Path

    from broker.client.names_cache import NamesCache

EPILOG = """\
Put the block at the top of ~/.ssh/config, and ssh, scp, sftp, rsync, git and Ansible open your
instances by their names.

PATTERN says which names are looked at, such as 'web-*' or '!web-9'; without one, all that have
no dot: those are domain names and addresses. An instance with a dot in its name has to be named.

  BROKER_REASON   the reason to give, where policies ask for one
  BROKER_TICKET   the ticket to give

What is no instance of yours is left to ssh. An instance that is refused stays closed: ssh says
why, and does not try another host of that name.
"""

EXAMPLES = """\
broker ssh-config > ~/.ssh/broker.conf # then put `Include broker.conf` at the top of ~/.ssh/config
broker ssh-config 'web-*' '*.shop' # only these names, even those with a dot
"""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = EPILOG
    guide(parser, EXAMPLES, see="broker ssh, broker ls")
    parser.add_argument("patterns", metavar="PATTERN", nargs="*", help="which names may be instances")
    parser.add_argument("--match", metavar="NAME", help="open this instance; exit 1 when it is none: for the block")
    parser.add_argument("--files", metavar="DIR", help="where the block looks for what is open: for the block")
    parser.add_argument(
        "--wait", metavar="TIME", type=durations.seconds, default=30, help="for what is not ready yet (default: 30s)"
    )


def run(arguments: Namespace) -> int:
    """Print the block, or answer the question that it asks."""
    from pathlib import Path

    from broker.client import ssh_hosts

    files = Path(arguments.files or ssh_hosts.folder(os.environ)).absolute()
    if arguments.match is not None:
        return _match(arguments.match, files, arguments.wait)
    command = [*_this_program(), "ssh-config", "--wait", f"{arguments.wait}s", "--files", str(files)]
    sys.stdout.write(ssh_hosts.config(arguments.patterns, shlex.join(command), files))
    return Exit.OK


def _match(name: str, files: Path, seconds: int) -> int:
    """Open an instance. What is none is left to ssh; what is one and was not opened must not be."""
    from broker.client import Broker, ssh_hosts
    from broker.client.names_cache import NamesCache, is_known
    from broker.client.ssh import PREPARED

    if os.environ.get(PREPARED) == name:
        return Exit.OK  # its options are on ssh's command line, and go before those of the block
    environment = dict(os.environ)  # `service()` takes the token out of the other
    cache = NamesCache(lambda: Broker.from_environment(environment), environment)
    if not is_known(name, cache):
        return Exit.PROBLEMS
    try:
        _open(name, files, seconds)
    except Exception as error:  # noqa: BLE001  # whatever it is, the instance stays closed
        ssh_hosts.close(name, files)
        if _is_gone(error, name, cache):
            return Exit.PROBLEMS
        _explain(error, name)
    return Exit.OK


def _open(name: str, files: Path, seconds: int) -> None:
    from broker.cli.opening import opened
    from broker.client import ssh_hosts
    from broker.client.purpose import Purpose

    purpose = Purpose(os.environ.get("BROKER_REASON", ""), os.environ.get("BROKER_TICKET", ""))
    ssh_hosts.write(name, opened(name, purpose, seconds), files)


def _is_gone(error: Exception, name: str, cache: NamesCache) -> bool:
    """Tell whether it was refused because it is no instance any more: then the name is free for another host."""
    if getattr(error, "code", "") != "denied":
        return False
    cache.refresh(older_than=0)
    return not cache.has(name)


def _explain(error: Exception, name: str) -> None:
    from broker.cli.failures import explain

    explain(error, "ssh", ["ssh", name])
    variables = {"reason_required": "BROKER_REASON", "ticket_required": "BROKER_TICKET"}
    if variable := variables.get(getattr(error, "code", "")):
        output.talk(f"  or: {variable}='…' in the environment of ssh")
    output.talk(f"{name} stays closed to ssh; `broker doctor {name}` finds out why")


def _this_program() -> list[str]:
    """Answer how this program is started from any folder."""
    started = os.path.abspath(sys.argv[0])  # noqa: PTH100  # a link is not followed: it may lead to another after an update
    return [started] if os.path.basename(started) == "broker" else [sys.executable, "-m", "broker"]  # noqa: PTH119  # same
