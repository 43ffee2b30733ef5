"""Completion: what is offered, and the scripts in the shells that they are for."""

import os
import subprocess
import sys
import time
from pathlib import Path
from threading import Event

import pytest

from broker.cli.completing import Candidate, candidates
from broker.cli.completion import SCRIPTS
from broker.cli.helping import verbs_of
from broker.cli.main import COMMANDS, parser_of
from tests.doubles.client import Answer, ServiceDouble, instance, page

from .conftest import Terminal

PROGRAM = '#!/bin/sh\nexec "$BROKER_TEST_PYTHON" -m broker "$@"\n'
BASH = """
eval "$(broker completion bash)"
COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 ))
_broker broker
printf '%s\\n' "${COMPREPLY[@]}"
"""
FISH = "broker completion fish | source; complete -C $argv[1]"
ZSH = """
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'PROMPT=">"; eval "$(broker completion zsh)"; zstyle ":completion:*" list-prompt ""; echo READ""Y'
zpty -r -m shell seen '*READY*'
zpty -w -n shell "$1"$'\\t'
zpty -r -m shell seen "*$2*" && print -r -- "$seen"
zpty -d shell
"""


def offered(*words: str) -> list[str]:
    """Answer the words that may stand where the last of these does."""
    commands = {name: summary for name, (_, summary) in COMMANDS.items()}
    return [each.word for each in candidates(words[:-1], words[-1], commands, parser_of)]


def test_every_command_verb_and_option_is_offered() -> None:
    assert {*COMMANDS, "help", "--help", "--version"} == {*offered("")}
    for name in COMMANDS:
        parser = parser_of(name)
        for words, own in [((name,), parser), *(((name, verb), each) for verb, each in verbs_of(parser).items())]:
            options = {option for action in own._actions for option in action.option_strings}  # noqa: SLF001  # argparse has no other way
            assert {*offered(*words, "--")} == {option for option in options if option.startswith("--")}
        assert {*offered(name, "")} >= {*verbs_of(parser)}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["au"], ["audit"]),
        (["help", "au"], ["audit"]),
        (["help", "audit", "ve"], ["verify"]),
        (["get", "--format", ""], ["json", "env", "files"]),
        (["get", "--format=e"], ["--format=env"]),
        (["get", "--wait", ""], []),
        (["get", "x", "--output", ""], [":directories"]),
        (["keys", "add", "x", "--private-key", ""], [":files"]),
        (["audit", "verify", "--anchor="], [":files"]),
        (["get", "--reason", "x", "--rea"], []),
        (["audit", "search", "--account", "a", "--acc"], ["--account"]),
        (["exec", "web-1", "--", ""], [":files"]),
        (["bundles", ""], []),
        (["completion", ""], ["bash", "fish", "zsh"]),
        (["no-such-command", ""], []),
        (["audit", "no-such-verb", "--conf"], []),
    ],
)
def test_what_may_stand_there_is_offered(words: list[str], expected: list[str]) -> None:
    assert offered(*words) == expected


def test_what_is_offered_is_explained() -> None:
    commands = {"ls": "the instances"}
    assert [*candidates([], "l", commands, parser_of)] == [Candidate("ls", "the instances")]


def test_instances_are_offered_from_what_is_kept(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("GET /v1/instances", page(instance("web-1"), instance("web-2"), instance("db-1")))

    for _ in range(2):
        assert terminal.broker("complete", "bash", "get", "web").stdout == "web-1\nweb-2\n"
    assert terminal.broker("complete", "fish", "hosts", "show", "").stdout == "db-1\nweb-1\nweb-2\n"
    assert len(service.seen) == 1


def test_a_service_that_is_not_there_offers_nothing_and_says_nothing(terminal: Terminal) -> None:
    for changes in ({"BROKER_URL": "https://127.0.0.1:1"}, {"BROKER_URL": None}, {"BROKER_TOKEN": None}):
        ended = terminal.broker("complete", "zsh", "get", "", **changes)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_a_slow_service_is_not_waited_for(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("GET /v1/instances", Answer({"items": [], "next_cursor": None}, gate=Event()))
    began = time.monotonic()
    ended = terminal.broker("complete", "bash", "get", "")

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert time.monotonic() - began < 10  # the service would take twenty seconds


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_script_says_in_a_comment_how_it_is_installed(shell: str, terminal: Terminal) -> None:
    script = terminal.broker("completion", shell).stdout

    assert script == SCRIPTS[shell]
    assert [line for line in script.splitlines()[:3] if line.startswith("#") and f"broker completion {shell}" in line]


# -- in the shells


@pytest.fixture
def shell(terminal: Terminal) -> dict[str, str]:
    """An environment in which `broker` is on PATH, and a folder with files of awkward names."""
    program = terminal.folder / "bin" / "broker"
    program.parent.mkdir()
    program.write_text(PROGRAM)
    program.chmod(0o755)
    for name in ("key.pem", "key two.pem"):
        (terminal.folder / name).touch()
    (terminal.folder / "keys").mkdir()
    path = f"{program.parent}:{os.environ['PATH']}"
    here = str(Path(__file__).parents[2])
    return {**terminal.environment, "PATH": path, "BROKER_TEST_PYTHON": sys.executable, "PYTHONPATH": here}


def run(shell: dict[str, str], *command: str) -> str:
    ended = subprocess.run(
        command, env=shell, cwd=shell["HOME"], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stderr == ""
    return ended.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["broker", "au"], ["audit"]),
        (["broker", "get", "--format", "=", "f"], ["files"]),
        (["broker", "get", "--format", "="], ["env", "files", "json"]),
        (["broker", "keys", "add", "x", "--private-key", "key"], ["key two.pem", "key.pem", "keys"]),
        (["broker", "demo", "--directory", "k"], ["keys"]),
        (["broker", "get", "w"], ["web-1", "web-2"]),
        (["broker", "ls", "$(touch broken)"], [""]),
    ],
)
def test_bash_completes(
    words: list[str], expected: list[str], shell: dict[str, str], service: ServiceDouble, tmp_path: Path
) -> None:
    service.tell("GET /v1/instances", page(instance("web-1"), instance("web-2")))

    assert sorted(run(shell, "bash", "--norc", "-c", BASH, "bash", *words).splitlines()) == expected
    assert not (tmp_path / "broken").exists()


@pytest.mark.real("fish")
@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("broker au", ["audit\tverify, search, export and look after the audit log"]),
        ("broker get --format=f", ["--format=files"]),
        ("broker keys add x --private-key key", ["key two.pem", "key.pem", "keys/"]),
        ("broker get w", ["web-1", "web-2"]),
    ],
)
def test_fish_completes(typed: str, expected: list[str], shell: dict[str, str], service: ServiceDouble) -> None:
    service.tell("GET /v1/instances", page(instance("web-1"), instance("web-2")))
    found = run(shell, "fish", "--no-config", "-c", FISH, typed).splitlines()

    assert sorted(line for line in found if line.split("\t")[0] != "") == expected


@pytest.mark.real("zsh")
@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("broker aud", "it"),
        ("broker get --format f", "iles"),
        ("broker keys rem", "ove"),
        ("broker demo --directory k", "eys"),
        ("broker get only", "-one"),
    ],
)
def test_zsh_completes(typed: str, expected: str, shell: dict[str, str], service: ServiceDouble) -> None:
    service.tell("GET /v1/instances", page(instance("only-one")))
    shown = run({**shell, "TERM": "dumb"}, "zsh", "-f", "-c", ZSH, "zsh", typed, expected)

    assert expected in shown
