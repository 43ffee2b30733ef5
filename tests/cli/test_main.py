import json
import subprocess
import sys
from pathlib import Path

import pytest

from broker import __version__
from broker.cli.main import COMMANDS, GROUPS
from tests.doubles.client import Answer, ServiceDouble, page, ssh_credential

from .conftest import TOKEN, Terminal

FORBIDDEN = {
    "asyncio",
    "click",
    "dataclasses",
    "importlib.metadata",
    "inspect",
    "typing",
    "yaml",
    "difflib",
    "pathlib",
    "shutil",
    "tempfile",
}
OURS = {"broker.model", "broker.errors", "broker.settings", "broker.cli.failures", "broker.client.documents"}
LOADED = """
import sys
from broker.cli.main import main
code = main(sys.argv[1:])
print("".join(f"{name} {getattr(module, '__file__', '')}\\n" for name, module in sys.modules.items()), file=sys.stderr)
raise SystemExit(code)
"""


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"]])
def test_the_overview_names_every_command_in_its_group(words: list[str], terminal: Terminal) -> None:
    ended = terminal.broker(*words)

    assert (ended.returncode, ended.stderr) == (0, "")
    for group, commands in GROUPS.items():
        assert f"\n{group}\n" in ended.stdout
        for name, (_, summary) in commands.items():
            assert f"\n  {name:<12}{summary}\n" in ended.stdout
    assert max(map(len, ended.stdout.splitlines())) <= 100


def test_without_a_command_the_overview_is_a_complaint(terminal: Terminal) -> None:
    ended = terminal.broker()

    assert (ended.returncode, ended.stdout) == (2, "")
    assert "Get in" in ended.stderr


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_explains_itself(name: str, terminal: Terminal) -> None:
    ended = terminal.broker(name, "--help")

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f"usage: broker {name}")
    assert COMMANDS[name][1][1:] in ended.stdout.replace("\n", " ")


def test_help_takes_the_name_of_a_command(terminal: Terminal) -> None:
    assert terminal.broker("help", "get").stdout == terminal.broker("get", "--help").stdout


def test_the_version_is_that_of_the_package(terminal: Terminal) -> None:
    assert terminal.broker("--version").stdout == f"broker {__version__}\n"


def test_the_package_runs_as_a_module(terminal: Terminal) -> None:
    command = [sys.executable, "-m", "broker", "--version"]
    ended = subprocess.run(command, env=dict(terminal.environment), capture_output=True, text=True, check=True)

    assert ended.stdout == f"broker {__version__}\n"


@pytest.mark.parametrize(("typed", "meant"), [("blueprint", "blueprints"), ("polcy", "policy")])
def test_a_mistyped_command_is_guessed(typed: str, meant: str, terminal: Terminal) -> None:
    ended = terminal.broker(typed, "--help")

    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"did you mean `broker {meant}`?" in ended.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["get", "web-1", "--raeson", "x"], "broker get: there is no option --raeson (did you mean --reason?)"),
        (["get", "--raeson=x"], "broker get: there is no option --raeson (did you mean --reason?)"),
        (["get", "x", "--zzz\x1b"], "broker get: there is no option --zzz"),
        (["get", "x", "--", "--raeson"], "broker get: there is no place for '--raeson'"),
        (
            ["keys", "add", "x", "--acount", "m"],
            "broker keys add: there is no option --acount (did you mean --account?)",
        ),
        (
            ["audit", "search", "--sinse", "1h"],
            "broker audit search: there is no option --sinse (did you mean --since?)",
        ),
        (["policy", "--config", "x"], None),
    ],
)
def test_a_mistyped_option_is_guessed(words: list[str], said: str | None, terminal: Terminal) -> None:
    ended = terminal.broker(*words)

    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    if said:
        assert ended.stderr == f"{said}; see {said.partition(':')[0]} --help\n"


@pytest.mark.parametrize("name", ["audit", "keys", "policy"])
def test_a_command_without_its_verb_prints_its_help(name: str, terminal: Terminal) -> None:
    ended = terminal.broker(name)

    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == terminal.broker(name, "--help").stdout


@pytest.mark.parametrize(
    "words", [["audit", "verify"], ["audit", "search"], ["keys", "add"], ["policy", "test"], ["get"], ["bundles"]]
)
def test_every_description_is_a_sentence(words: list[str], terminal: Terminal) -> None:
    paragraph = terminal.broker(*words, "--help").stdout.split("\n\n")[1]

    assert paragraph[0].isupper()
    assert paragraph.endswith(".")


def test_the_overview_explains_the_environment_and_every_exit_code(terminal: Terminal) -> None:
    shown = terminal.broker("--help").stdout
    for text in ("BROKER_CLIENT_CERT", "BROKER_CLIENT_KEY", "goes before BROKER_TOKEN_FILE", "130 interrupted"):
        assert text in shown


def test_the_file_of_the_settings_is_named_once(terminal: Terminal) -> None:
    file = terminal.folder / "broker.toml"
    file.write_text("[sever]\n[server]\nlisen = 'x'\n")
    said = terminal.broker("keys", "list").stderr.splitlines()

    assert said[0] == "broker: broker.toml: 5 problems"
    assert "broker:   server.lisen: there is no such setting; did you mean listen?" in said
    assert "broker:   sever: there is no such setting; did you mean server?" in said
    assert "broker.toml" not in "".join(said[1:])


@pytest.mark.parametrize("typed", ["--verbose", "", "main", "\x1b[2J"])
def test_what_is_no_command_is_refused(typed: str, terminal: Terminal) -> None:
    ended = terminal.broker(typed)

    assert ended.returncode == 2
    assert "broker --help" in ended.stderr
    assert "\x1b" not in ended.stderr


@pytest.mark.parametrize(
    "words", [["get", "web-1"], ["get", "web-1", "--format", "env"], ["ls"], ["blueprints"], ["bundles"]]
)
def test_a_client_command_loads_little(words: list[str], terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("POST /v1/credentials", Answer(ssh_credential(), 201))
    for route in ("instances", "blueprints", "bundles"):
        service.tell(f"GET /v1/{route}", page())
    ended = subprocess.run(
        [sys.executable, "-c", LOADED, *words],
        env=dict(terminal.environment),
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [
        line.split(" ", 1) for line in ended.stderr.splitlines() if " " in line and not line.startswith("broker: ")
    ]
    files = dict(lines)

    assert "http.client" in files
    opens = words[0] == "get"  # what is sealed is opened by `cryptography`, which loads `typing`
    assert not files.keys() & (FORBIDDEN - ({"typing"} if opens else set()) | OURS)
    foreign = {name.partition(".")[0] for name, file in files.items() if "site-packages" in file}
    # setuptools has one of them loaded into every process of its environment
    assert foreign - {"_distutils_hack"} == ({"_cffi_backend", "cryptography"} if opens else set())


def test_a_program_without_the_services_libraries_says_how_to_get_them(terminal: Terminal) -> None:
    without = (
        "import sys\n"
        "class Hidden:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in {'aiohttp', 'pydantic'}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
        "from broker.cli.main import main\n"
        "raise SystemExit(main(['serve', '--config', 'none.toml']))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", without],
        env=dict(terminal.environment),
        cwd=terminal.folder,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 2
    assert "lightsail-credential-broker[server]" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_an_internal_error_tells_where_and_not_what(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("POST /v1/credentials", Answer({"protocol": "ssh", "ssh": {"private_key": 7}, "warnings": []}, 201))
    quiet = terminal.broker("get", "web-1", "--format", "env")
    assert quiet.returncode == 7
    assert "internal error: KeyError at variables.py:" in quiet.stderr
    assert quiet.stderr.count("\n") == 1

    with terminal.start("get", "web-1", "--format", "env", BROKER_DEBUG="1") as process:
        _, said = process.communicate(timeout=30)
    assert "Traceback" in said
    assert TOKEN not in said


def test_a_full_disk_under_the_output_is_said_once(terminal: Terminal, service: ServiceDouble) -> None:
    service.tell("GET /v1/instances", page())
    command = [sys.executable, "-m", "broker", "ls", "--format", "json"]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            command, env=dict(terminal.environment), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )

    assert (ended.returncode, ended.stderr) == (2, "broker: No space left on device\n")


def test_the_token_is_not_inherited_by_child_processes(terminal: Terminal) -> None:
    program = (
        "import json, os; from broker.cli.service import service\nwith service(): print(json.dumps(dict(os.environ)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], env=dict(terminal.environment), capture_output=True, text=True, check=True
    )

    assert "BROKER_TOKEN" not in json.loads(ended.stdout)
