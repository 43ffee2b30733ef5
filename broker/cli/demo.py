"""`broker demo`: see it all work on this machine, in under a minute."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import signal
import sys
import sysconfig
import tempfile
from pathlib import Path

from broker.cli.exits import Exit
from broker.cli.output import bold, dim, talk
from broker.cli.parsing import guide

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from broker.demo.stage import Stage

INTRODUCTION = """\
Amazon Lightsail hands the keys of every server to whoever may call one API operation.
The broker alone may call it, and hands out short-lived credentials: to people and programs that your identity provider
vouches for, as your policies decide, and never without a durable entry in a log that proves itself.
"""


EXAMPLES = """\
broker demo  # a minute, and nothing is left behind
broker demo --keep  # leave it running, and say what to try
broker demo --directory demo  # keep the files: settings, policies, log
"""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--keep", action="store_true", help="leave everything running, and say what to try")
    parser.add_argument(
        "--directory", type=Path, metavar="DIR", help="where to put the files; default: a temporary one"
    )
    guide(parser, EXAMPLES, {1: "something did not go as it should"}, see="broker init, broker emulator")


def run(arguments: Namespace) -> int:
    """Play."""
    folder = arguments.directory or Path(tempfile.mkdtemp(prefix="broker-demo-"))
    try:
        return asyncio.run(_play(folder.resolve(), keep=arguments.keep))
    finally:
        if arguments.directory is None:
            shutil.rmtree(folder, ignore_errors=True)


async def _play(folder: Path, *, keep: bool) -> int:
    from broker.demo.stage import stage
    from broker.demo.story import Disappointment, Story

    def say(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    def strong(text: str) -> str:
        return bold(text, sys.stdout)

    def faint(text: str) -> str:
        return dim(text, sys.stdout)

    say(strong("Lightsail Credential Broker"))
    say(INTRODUCTION)
    async with stage(folder) as scene:
        say(f"An embedded Lightsail runs at {scene.emulator.url}, the broker at {scene.url}.")
        try:
            await Story(scene, say, strong, faint).play()
        except Disappointment as error:
            talk(f"the demonstration failed: {error}")
            return Exit.PROBLEMS
        say("")
        if keep:
            say(try_it(scene, await _link(scene)))
            await _until_interrupted()
        else:
            say("All as it should be. `broker demo --keep` (make demo KEEP=1) leaves it running, to try it yourself.")
    return Exit.OK


def _quiet(_: str) -> None:
    """Where the link is written down meanwhile is nothing that a visitor has to know."""


async def _link(scene: Stage) -> str:
    """Make a one-time link to the console for the auditor."""
    from broker import settings
    from broker.cli.console_link import at, make
    from broker.demo.stage import CAROL

    return at(scene.url, await make(settings.load(scene.config, {}), f"corp/{CAROL.name}", CAROL.groups, _quiet))


def try_it(scene: Stage, signs_in: str) -> str:
    """Say what to paste into another terminal, and what to try there; one link signs in to the console."""
    from broker.demo.stage import ALICE

    exports = {"PATH": f"{shlex.quote(sysconfig.get_path('scripts'))}:$PATH"}
    exports |= {name: shlex.quote(value) for name, value in scene.environment(ALICE).items()}
    exports["BROKER_CONFIG"] = shlex.quote(str(scene.config))
    lines = ["It goes on running until Ctrl-C. Paste this into another terminal, to be alice there:"]
    lines += [f"  export {name}={value}" for name, value in exports.items()]
    lines += ["and try", "  broker ls", '  broker get web-1 --reason "a look around"']
    if scene.sshd:
        lines += ['  broker ssh web-1 --reason "a look around"', '  broker doctor web-1 --reason "a look around"']
    lines += ["  broker leases", "  broker audit verify"]
    lines += ["As carol, an auditor, look at the console; this link is good once, within a minute:", f"  {signs_in}"]
    lines += ["and this makes another:", f"  broker console-link --as corp/carol --group auditors --url {scene.url}"]
    if scene.sshd:
        lines.append(f"web-1 is an sshd of this machine that runs as you: its only user is {scene.sshd.user}.")
    else:
        lines.append("No sshd is installed here, so nobody can log in to web-1; its credential is real all the same.")
    return "\n".join(lines)


async def _until_interrupted() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
