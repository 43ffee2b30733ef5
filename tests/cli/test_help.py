"""The help of every command and every verb: one shape, complete, and true."""

import os
import pty
import re
import shlex
import subprocess
import sys
from argparse import SUPPRESS

import pytest

from broker.cli.helping import examples_of, verbs_of
from broker.cli.main import COMMANDS, parser_of
from broker.cli.parsing import Parser

from .conftest import Terminal


def parsers() -> dict[str, Parser]:
    found = {}
    for name in COMMANDS:
        found[name] = parser_of(name)
        found |= {f"{name} {verb}": parser for verb, parser in verbs_of(found[name]).items()}
    return found


PARSERS = parsers()
LEAVES = {name: parser for name, parser in PARSERS.items() if not parser.has_verbs}
each_parser = pytest.mark.parametrize("name", PARSERS)


@each_parser
def test_it_begins_with_a_sentence_of_purpose(name: str) -> None:
    description = PARSERS[name].description or ""

    assert description[0].isupper()
    assert description.endswith(".")


@each_parser
def test_every_argument_and_option_is_explained(name: str) -> None:
    unexplained = [action.dest for action in PARSERS[name]._actions if not action.help and action.nargs != "A..."]  # noqa: SLF001  # argparse has no other way
    assert unexplained == []
    assert not any(action.help is SUPPRESS for action in PARSERS[name]._actions)  # noqa: SLF001  # same


@each_parser
def test_it_shows_examples_that_say_what_they_do(name: str) -> None:
    examples = examples_of(PARSERS[name])

    assert examples
    for command, why in examples:
        assert f"broker {name.partition(' ')[0]}" in command
        assert why


@pytest.mark.parametrize("name", LEAVES)
def test_every_example_parses_with_its_own_parser(name: str) -> None:
    for command, _ in examples_of(LEAVES[name]):
        found = re.search(rf"(?:^|[\s(\"])broker {name}(?: (.*)|$)", command)
        assert found, command
        words = shlex.split(re.split(r"(?:^| )[|>&;]|\)", found[1] or "")[0])
        LEAVES[name].parse_args(words)


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_that_it_points_to_is_there(name: str) -> None:
    for pointed in re.findall(r"`broker ([a-z-]+)", LEAVES[name].epilog or ""):
        assert pointed in COMMANDS
    see = [each.strip() for each in LEAVES[name].see.split(",") if each]
    assert all(each.removeprefix("broker ") in PARSERS or not each.startswith("broker ") for each in see), see


def shown_on_a_terminal(columns: int, *words: str, **variables: str) -> list[str]:
    """Answer the lines that a terminal of this width is sent."""
    ours, theirs = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm", "COLUMNS": str(columns), **variables}
    with subprocess.Popen([sys.executable, "-m", "broker", *words], env=environment, stdout=theirs):
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += (more := os.read(ours, 65536))
            except OSError:  # how Linux ends a terminal that nobody has open any more
                break
            if not more:
                break
    os.close(ours)
    return shown.decode().replace("\r\n", "\n").splitlines()


@pytest.mark.parametrize("name", ["get", "audit verify", "audit trace", "keys coverage", "exec", "completion"])
@pytest.mark.parametrize("columns", [60, 80, 100, 200])
def test_it_fits_the_terminal_and_is_no_wider_than_one_reads(name: str, columns: int) -> None:
    lines = shown_on_a_terminal(columns, *name.split(), "--help", NO_COLOR="1")

    commands = {command for command, _ in examples_of(PARSERS[name])}
    prose = [line for line in lines if line.strip() not in commands]
    assert max(map(len, prose)) <= min(columns, 100)


def test_headings_stand_out_on_a_terminal_alone(terminal: Terminal) -> None:
    assert "\x1b[1moptions:\x1b[0m" in shown_on_a_terminal(80, "get", "--help")
    assert "\x1b" not in terminal.broker("get", "--help", TERM="xterm").stdout


@pytest.mark.parametrize("name", LEAVES)
def test_the_parts_stand_in_one_order(name: str, terminal: Terminal) -> None:
    shown = terminal.broker("help", *name.split()).stdout
    parts = [part for part in ("usage:", "\noptions:", "\nexamples:", "\nexit codes:", "\nsee also:") if part in shown]

    assert parts[:3] == ["usage:", "\noptions:", "\nexamples:"]
    assert sorted(parts, key=shown.index) == parts
