import json
import os
import pty
import subprocess
import sys

import pytest
import yaml

from tests.doubles.client import ServiceDouble, blueprint, bundle, instance, page

from .conftest import Terminal


def test_instances_stand_in_columns(terminal: Terminal, service: ServiceDouble) -> None:
    windows = {"platform": "WINDOWS", "blueprint": "windows_server_2022", "protocols": ["rdp"], "tags": {}}
    service.tell("GET /v1/instances", page(instance("web-1"), cursor="2"), page(instance("windows-desk", **windows)))
    ended = terminal.broker("ls")

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == [
        "INSTANCE      STATE    BY   ACCOUNT  REGION     BLUEPRINT            BUNDLE    TAGS",
        "web-1         running  ssh  main     eu-west-1  amazon_linux_2023    nano_3_0  env=prod",
        "windows-desk  running  rdp  main     eu-west-1  windows_server_2022  nano_3_0",
    ]


def test_what_is_odd_about_an_instance_is_said_beside_the_table(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("GET /v1/instances", page(instance("web-1", warnings=["Its blueprint is unknown."])))
    ended = terminal.broker("ls")

    assert ended.stderr == "broker: warning: web-1: Its blueprint is unknown.\n"
    assert "unknown" not in ended.stdout


def test_numbers_stand_to_the_right(terminal: Terminal, service: ServiceDouble) -> None:
    small = {"bundleId": "nano_3_0", "price": 3.5, "ramSizeInGb": 0.5, "power": 250, "diskSizeInGb": 20}
    service.tell("GET /v1/bundles", page(bundle(**small), bundle()))

    assert terminal.broker("bundles").stdout.splitlines() == [
        "BUNDLE          US$/MONTH  CPU  RAM GB  DISK GB  TRANSFER GB  POWER  PLATFORMS",
        "nano_3_0             3.50    2     0.5       20         4096    250  WINDOWS",
        "medium_win_3_0      22.00    2       4       80         4096   1000  WINDOWS",
    ]


def test_blueprints_are_listed_with_the_power_that_they_need(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("GET /v1/blueprints", page(blueprint()))
    shown = terminal.broker("blueprints", "--all").stdout

    assert shown.splitlines()[1].split() == [
        "windows_server_2022", "Windows", "Server", "2022", "2022.12.14", "os", "WINDOWS", "500",
    ]  # fmt: skip
    assert service.seen[0].query == {"include_inactive": ["true"]}


def test_bundles_can_be_asked_for_by_blueprint(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("GET /v1/bundles", page())
    terminal.broker("bundles", "--blueprint", "windows_server_2022")

    assert service.seen[0].query == {"blueprint": ["windows_server_2022"]}


@pytest.mark.parametrize(("form", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
@pytest.mark.parametrize(
    ("command", "item"), [("ls", instance("web-1")), ("blueprints", blueprint()), ("bundles", bundle())]
)
def test_other_programs_get_the_items_as_they_are(
    form: str, read: object, command: str, item: object, terminal: Terminal, service: ServiceDouble
) -> None:
    assert callable(read)
    route = "instances" if command == "ls" else command
    service.tell(f"GET /v1/{route}", page(item))

    assert read(terminal.broker(command, "--format", form).stdout) == [item]


def test_an_empty_listing_is_said_and_is_no_data(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("GET /v1/instances", page())

    ended = terminal.broker("ls")
    assert (ended.returncode, ended.stdout) == (0, "")
    assert "no instance" in ended.stderr
    assert terminal.broker("ls", "--format", "json").stdout == "[]\n"


def test_foreign_text_cannot_play_with_the_terminal(terminal: Terminal, service: ServiceDouble) -> None:
    evil = instance("web-1", tags={"\x1b]0;owned\x07": "a\nb\u202e"}, state="run\x1b[31mning\x9b")
    service.tell("GET /v1/instances", page(evil))
    shown = terminal.broker("ls").stdout

    assert shown.count("\n") == 2
    assert all(character.isprintable() for character in shown.replace("\n", ""))
    assert "run[31mning" in shown


def test_a_terminal_without_unicode_shows_escapes(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("GET /v1/instances", page(instance("web-1", tags={"name": "é"})))
    ended = terminal.broker("ls", PYTHONIOENCODING="ascii")

    assert (ended.returncode, "name=\\xe9" in ended.stdout) == (0, True)


@pytest.mark.parametrize(
    ("changes", "heading"),
    [
        ({"TERM": "xterm"}, b"\x1b[2mINSTANCE"),
        ({"TERM": "xterm", "NO_COLOR": "1"}, b"INSTANCE"),
        ({"TERM": "dumb"}, b"INSTANCE"),
    ],
)
def test_only_a_terminal_that_likes_it_gets_a_dim_heading(
    changes: dict[str, str],
    heading: bytes,
    terminal: Terminal,
    service: ServiceDouble,
) -> None:
    service.tell("GET /v1/instances", page(instance("web-1")))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "broker", "ls"]
    subprocess.run(command, env={**terminal.environment, **changes}, stdout=theirs, check=True)
    shown = os.read(ours, 65536)
    os.close(ours)
    os.close(theirs)

    assert shown.startswith(heading)
    assert b"web-1" in shown


def test_a_reader_that_has_seen_enough_is_no_error(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("GET /v1/instances", page(*[instance(f"web-{number}") for number in range(20_000)]))
    with terminal.start("ls", "--format", "json") as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()

    assert (process.returncode, said) == (0, "")
