"""What the doctor says, apart from what it finds out."""

import shlex
from typing import Any

import pytest

from broker.cli.main import parser_of
from broker.client.diagnosis.causes import FIXES
from broker.client.diagnosis.commands import Names
from broker.client.diagnosis.spans import span
from tests.doubles.client import instance

WINDOWS: Any = instance("win-1", platform="WINDOWS")
LINUX: Any = instance("web-1")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0 s"),
        (119.4, "119 s"),
        (180.0, "3 min"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (172_799, "2 d"),
        (864_000, "10 d"),
    ],
)
def test_a_duration_is_said_as_people_say_it(seconds: float, said: str) -> None:
    assert span(seconds) == said


def test_every_command_of_ours_parses() -> None:
    names = Names("web-1")
    names.reached_at("https://broker.example.com", "/etc/our ca.pem")
    names.found(LINUX)
    commands = [command for cause in FIXES if (command := names.command(cause))]
    assert commands
    for words in map(shlex.split, commands):
        if words[0] == "broker":
            parser_of(words[1]).parse_args(words[2:])


def test_what_is_not_known_yet_is_in_no_command() -> None:
    names = Names("web-1")
    assert names.command("not-running") == ""
    assert names.command("login-failed") == "broker ssh web-1 -- -v"


def test_the_tag_is_that_of_the_protocol() -> None:
    names = Names("win-1")
    assert "`ssh-port` or `rdp-port`" in names.narrowed(FIXES["port-refused"])
    names.opened_by("rdp")
    for cause in ("port-refused", "port-silent"):
        assert "`rdp-port`" in names.narrowed(FIXES[cause])
        assert "ssh-port" not in names.narrowed(FIXES[cause])
    names.found(WINDOWS)
    assert "key=rdp-port,value=PORT" in names.command("port-refused")


def test_a_name_is_quoted_for_the_shell() -> None:
    assert Names("a b").command("login-failed") == "broker ssh 'a b' -- -v"


def test_nobody_is_told_to_type_what_takes_a_second_person() -> None:
    assert Names("web-1").asking(["reason", "approval"], "", "") == ""
