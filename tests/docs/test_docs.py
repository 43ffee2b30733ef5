"""What the documents speak of is there: commands and options, settings, codes, metrics, tests, files, links."""

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from broker import errors
from broker.cli.exits import Exit
from broker.cli.init import STARTER
from broker.cli.main import COMMANDS
from broker.errors import BrokerError
from broker.model import Health
from broker.observability import Metrics
from broker.settings import Settings
from tests.doubles.web import ANSWERED

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [ROOT / "README.md", ROOT / "CHANGELOG.md"]
    + [path for folder in ("docs", "policies", "deploy") for path in (ROOT / folder).rglob("*.md")]
)
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMAND = re.compile(r"(?:^|\s|/bin/)broker ([a-z].*)")
each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def fences(document: Path, *languages: str) -> list[str]:
    return [text for kind, text in FENCE.findall(document.read_text()) if kind in languages]


def inline(document: Path) -> list[str]:
    return INLINE.findall(FENCE.sub("", document.read_text()))


def command_lines(document: Path) -> Iterator[list[str]]:
    """Answer the words after `broker` of every command that a document shows, up to a pipe or a redirection."""
    typed = [line for text in fences(document, "console", "sh") for line in text.splitlines()]
    for line in [*typed, *inline(document)]:
        if found := COMMAND.search(line.partition(" #")[0]):
            yield shlex.split(re.split(r" [|>&;]|\)", found[1])[0].rstrip("\\\N{HORIZONTAL ELLIPSIS}"))


@cache
def help_of(*words: str) -> str:
    """Answer the help of a command or a verb; empty when there is none."""
    run = subprocess.run(
        [sys.executable, "-m", "broker", *words, "--help"], capture_output=True, text=True, check=False
    )
    return run.stdout if run.returncode == 0 else ""


@cache
def settings_by_section() -> dict[str, frozenset[str]]:
    found = {}
    for name, field in Settings.model_fields.items():
        section = get_args(field.annotation)[0] if get_args(field.annotation) else field.annotation
        assert isinstance(section, type)
        assert issubclass(section, BaseModel)
        found[name] = frozenset(section.model_fields)
    return found


@cache
def source() -> str:
    return "\n".join(path.read_text() for path in sorted((ROOT / "broker").rglob("*.py")))


def unknown_settings(text: str) -> list[str]:
    known = settings_by_section()
    unknown = []
    for section, content in tomllib.loads(text).items():
        for table in content if isinstance(content, list) else [content]:
            unknown += [f"{section}.{key}" for key in table if key not in known.get(section, ())]
    return unknown


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@each_document
def test_every_command_and_option_that_is_shown_is_in_the_help(document: Path) -> None:
    for words in command_lines(document):
        name, *rest = words
        assert name in COMMANDS, words
        has_verbs = "..." in help_of(name).splitlines()[0]
        shown = help_of(name, rest[0]) if has_verbs and rest else help_of(name)
        assert shown, words
        for option in (word.partition("=")[0] for word in rest if word.startswith("--")):
            assert re.search(rf"{option}\b", shown), words


def test_the_check_of_commands_can_fail() -> None:
    assert "--reason" in help_of("get")
    assert "--reason" not in help_of("ls")
    assert help_of("audit", "no-such-verb") == ""


@each_document
def test_every_setting_that_is_shown_exists(document: Path) -> None:
    for text in fences(document, "toml"):
        assert unknown_settings(text) == []
    sections = "|".join(settings_by_section())  # `audit.db`, `audit.key` and `server.py` are files
    for code in inline(document):
        if found := re.match(rf"({sections})\.(?!(?:db|key|py)\b)([a-z_]+)(?:$| )", code):
            is_event = f'"{found[1]}.{found[2]}"' in source()
            assert is_event or found[2] in settings_by_section()[found[1]], code
        if found := re.fullmatch(r"BROKER__([A-Z]+)__(?:\d+__)?([A-Z_]+)", code):
            assert found[2].lower() in settings_by_section()[found[1].lower()], code


def test_every_setting_of_the_production_example_exists() -> None:
    assert unknown_settings((ROOT / "deploy/broker.toml").read_text()) == []
    assert unknown_settings("[server]\nlisten_on = 1\n[nobody]\nx = 1") == ["server.listen_on", "nobody.x"]


@pytest.mark.parametrize("text", [STARTER, (ROOT / "deploy/broker.toml").read_text()], ids=["starter", "deploy"])
def test_every_example_shows_how_an_emulator_is_reached(text: str) -> None:
    shown, count = re.subn(r"^# (endpoint_url = .+)$", r"\1", text, flags=re.MULTILINE)
    assert count == 1
    assert "endpoint_url" in tomllib.loads(shown)["accounts"][0]
    assert unknown_settings(shown) == []


@each_document
def test_every_variable_that_is_named_is_read(document: Path) -> None:
    named = {name for code in inline(document) for name in re.findall(r"\bBROKER_[A-Z]+(?:_[A-Z]+)*\b", code)}
    assert [name for name in sorted(named) if name not in source()] == []


@each_document
def test_every_relative_link_resolves(document: Path) -> None:
    for target in LINK.findall(FENCE.sub("", document.read_text())):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = (document.parent / path).resolve() if path else document
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there), target


@each_document
def test_every_path_of_the_project_that_is_named_exists(document: Path) -> None:
    for code in inline(document):
        if re.fullmatch(r"(broker|tests|deploy|docs|policies|benchmarks)/[\w./-]+", code):
            assert (ROOT / code).exists(), code


@each_document
def test_every_test_that_is_named_exists(document: Path) -> None:
    defined = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^ *(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    named = set(re.findall(r"`(test_\w+)`", document.read_text()))
    assert named <= defined, sorted(named - defined)


def test_every_promise_of_the_threat_model_names_a_test() -> None:
    promises = (ROOT / "docs/threat-model.md").read_text().partition("## Promises")[2].partition("\n## ")[0]
    rows = [row for row in re.findall(r"^\| (.+) \|$", promises, re.MULTILINE) if row[0] not in "-p"]
    assert len(rows) > 30
    assert [row for row in rows if "`test_" not in row] == []


@each_document
def test_every_make_target_that_is_shown_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    typed = [line.removeprefix("$ ") for text in fences(document, "console", "sh") for line in text.splitlines()]
    named = {found[1] for line in [*typed, *inline(document)] if (found := re.match(r"make ([a-z-]+)", line))}
    assert named <= targets


def test_the_readme_s_test_command_is_the_one_of_continuous_integration() -> None:
    assert "make test" in (ROOT / ".ci/run").read_text()
    assert re.search(r"^\$ make test\b", "".join(fences(ROOT / "README.md", "console")), re.MULTILINE)


def test_every_exit_code_is_explained() -> None:
    client = (ROOT / "README.md").read_text().partition("## The client")[2]
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", client, re.MULTILINE)} == set(Exit)


def test_every_error_code_is_explained_to_operators() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BrokerError)]
    section = (ROOT / "docs/operating.md").read_text().partition("## What each error code")[2].partition("\n## ")[0]
    explained = {code for row in re.findall(r"^\| (`.+?) \|", section, re.MULTILINE) for code in INLINE.findall(row)}
    assert explained == {kind.code for kind in kinds}


@each_document
def test_every_metric_that_is_named_is_served(document: Path) -> None:
    metrics = Metrics()
    metrics.request(ANSWERED)
    page = metrics.page([Health("audit", ready=True)]).decode()
    named = {name for code in inline(document) for name in re.findall(r"^broker_[a-z_]+\b", code)}
    assert [name for name in sorted(named) if name not in page] == []
