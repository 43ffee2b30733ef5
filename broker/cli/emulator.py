"""`broker emulator`: the embedded Lightsail on its own, until it is told to stop."""

from __future__ import annotations

import asyncio
import json
import shlex
import signal
import sys
from argparse import ArgumentTypeError
from pathlib import Path
from tempfile import TemporaryDirectory

from broker.cli.exits import Exit
from broker.cli.output import plain, talk
from broker.cli.parsing import guide

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from broker.emulator import Emulator, Fixture

_USUAL_ADDRESS = "127.0.0.1:9001"


EXAMPLES = """\
broker emulator  # a small company, on 127.0.0.1:9001
broker emulator --listen 127.0.0.1:0  # on any free port, which it names
broker emulator --fixture lightsail.toml  # instances of your own
"""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "--listen",
        metavar="ADDRESS",
        type=_address,
        default=_USUAL_ADDRESS,
        help=f"loopback address and port, 0 for any free one (default: {_USUAL_ADDRESS})",
    )
    parser.add_argument("--fixture", metavar="FILE", type=Path, help="what it serves (default: a small company)")
    guide(parser, EXAMPLES, see="broker demo, broker init")


def run(arguments: Namespace) -> int:
    """Serve until SIGINT or SIGTERM."""
    from broker.emulator import Fixture, small_company

    host, port = arguments.listen
    with TemporaryDirectory(prefix="broker-emulator-") as directory:
        fixture = Fixture.read(arguments.fixture) if arguments.fixture else small_company(Path(directory))
        try:
            asyncio.run(_serve(fixture, host, port))
        except ValueError as error:
            talk(str(error))
            return Exit.USAGE
    return Exit.OK


async def _serve(fixture: Fixture, host: str, port: int) -> None:
    from broker.emulator import Emulator

    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    emulator = Emulator(fixture)
    try:
        await emulator.start(host, port)
        sys.stderr.write("\n".join(_welcome(emulator)) + "\n")
        sys.stderr.flush()
        await stopped.wait()
    finally:
        await emulator.stop()


def _welcome(emulator: Emulator) -> list[str]:
    fixture = emulator.fixture
    variables = [f"  export {name}={shlex.quote(value)}" for name, value in emulator.environment.items()]
    width = max((len(f"{each.region}/{each.name}") for each in fixture.instances), default=0)
    instances = [
        f"  {f'{each.region}/{each.name}':<{width}}  {each.blueprint:<24}  {each.state:<10}"
        f"  {' '.join(f'{key}={value}' for key, value in sorted(each.tags.items()))}".rstrip()
        for each in fixture.instances
    ]
    return [
        f"An embedded Lightsail listens on {emulator.url}. Point any AWS client at it:",
        "",
        *variables,
        "",
        "For broker.toml; the two keys come from the environment, the address from here alone:",
        "",
        *_account(emulator),
        "",
        *_key_files(fixture),
        f"Servers that trust {fixture.ssh_ca}.pub let its certificates in. Instances:",
        "",
        *map(plain, instances),
        "",
        "Ctrl-C ends it.",
    ]


def _account(emulator: Emulator) -> list[str]:
    fixture = emulator.fixture
    used = {each.region for each in fixture.instances} | {each.region for each in fixture.key_pairs}
    regions = json.dumps(sorted(used) or ["eu-west-1"])
    return ["  [[accounts]]", '  name = "main"', f"  regions = {regions}", f'  endpoint_url = "{emulator.url}"']


def _key_files(fixture: Fixture) -> list[str]:
    if not fixture.key_pairs:
        return []
    files = [f"  {each.region}/{each.name}  {each.private_key}" for each in fixture.key_pairs]
    return ["Private keys, to try `broker keys add` with:", "", *map(plain, files), ""]


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) >= 2**16:
        raise ArgumentTypeError(f"{text!r} is not of the form ADDRESS:PORT")
    return host.strip("[]"), int(port)
