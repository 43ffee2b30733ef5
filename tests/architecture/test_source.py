import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.architecture.source import ROOT, dotted, modules, nodes

# The only places where a secret becomes text: what opens it, what signs for it, what hands it over.
REVEALERS = {
    "cli/console_link.py",
    "identity/provider_login.py",
    "identity/sessions.py",
    "outbound/webhooks.py",
    "unsealing/certificates.py",
    "unsealing/keypairs.py",
    "unsealing/vault.py",
    "web/app.py",
    "web/credentials.py",
}

# Everybody else is given a clock, so that tests own the time.
CLOCKS = ("model.py", "observability.py", "emulator/", "client/", "cli/", "demo/")
WALL_CLOCK = re.compile(
    r"(.+\.)?(datetime\.(now|utcnow|today)|date\.today|time\.(time|time_ns|localtime|gmtime|ctime|strftime))"
)

# What turns the checking of certificates or signatures off, in any of the libraries.
UNCHECKED = {"verify", "ssl", "verify_ssl", "verify_signature", "check_hostname"}


def where(found: Iterable[tuple[str, ast.AST]]) -> list[str]:
    return sorted(f"{module}:{getattr(node, 'lineno', 0)}" for module, node in found)


def called(name: str) -> list[tuple[str, ast.Call]]:
    """Find the calls in broker/ of that function, method or class, however it was imported."""
    return [(module, node) for module, node in nodes("broker", ast.Call) if dotted(node.func).split(".")[-1] == name]


def imported(folder: str, *names: str) -> list[tuple[str, ast.AST]]:
    """Find the imports of those modules, whole or in part."""
    whole = nodes(folder, ast.Import)
    part = nodes(folder, ast.ImportFrom)
    return [
        *((module, node) for module, node in whole if set(names) & {alias.name for alias in node.names}),
        *((module, node) for module, node in part if node.module in names),
    ]


def test_only_the_log_builds_a_receipt() -> None:
    assert {module for module, _ in called("Receipt")} == {"audit/log.py"}


def test_only_the_desk_builds_what_was_issued() -> None:
    assert {module for module, _ in called("Issued")} == {"issuing/desk.py"}


def test_only_the_front_door_builds_a_caller() -> None:
    builders = {module for module, _ in called("Caller")}
    # The made-up callers of truth tables, and who asked for access, as their token said when they did. (The emulator's
    # are of another kind.)
    rehearsals = {"authorization/cases.py", "approvals/requests.py"}
    assert {module for module in builders - rehearsals if not module.startswith(("identity/", "emulator/"))} == set()
    assert any(module.startswith("identity/") for module in builders)


def test_a_secret_becomes_text_in_few_places() -> None:
    assert {module for module, _ in called("reveal")} == REVEALERS


def test_nothing_is_taken_from_a_secret_behind_its_back() -> None:
    peeks = {module for module, node in nodes("broker", ast.Attribute) if node.attr == "_text"}
    assert peeks == {"model.py"}


def test_only_the_command_line_and_the_policy_checker_s_process_print() -> None:
    printers = {module for module, _ in called("print") if not module.startswith(("cli/", "demo/"))}
    # stdout is how these processes answer
    assert printers == {"authorization/checking.py", "authorization/formatting.py"}


def test_the_time_comes_from_an_injected_clock() -> None:
    readings: list[tuple[str, ast.AST]] = [
        *((module, node) for module, node in nodes("broker", ast.Attribute) if WALL_CLOCK.fullmatch(dotted(node))),
        *called("utc_now"),
    ]
    assert where((module, node) for module, node in readings if not module.startswith(CLOCKS)) == []


def test_no_clock_is_imported_by_its_bare_name() -> None:
    imports = [
        (module, node)
        for module, node in nodes("broker", ast.ImportFrom)
        if node.module == "time" and not module.startswith(CLOCKS)
        if {"time", "time_ns", "localtime", "gmtime"} & {alias.name for alias in node.names}
    ]
    assert where(imports) == []


LOOKER = "client/rdp/probe.py"
"""Windows' RDP certificate is self-signed: it is fetched for its fingerprint, which is then compared with the pins."""


def turns_checking_off(node: ast.AST) -> bool:
    match node:
        case ast.keyword(arg=str(name), value=ast.Constant(value=False)):
            return name in UNCHECKED
        case ast.Assign(targets=[ast.Attribute(attr=name)], value=ast.Constant(value=False)):
            return name in UNCHECKED
        case ast.Dict(keys=keys, values=values):
            pairs = zip(keys, values, strict=True)
            return any(
                isinstance(key, ast.Constant) and key.value in UNCHECKED and getattr(value, "value", None) is False
                for key, value in pairs
            )
        case ast.Attribute(attr=name):
            return name in {"CERT_NONE", "_create_unverified_context"}
    return False


def test_the_checking_of_certificates_and_signatures_cannot_be_turned_off() -> None:
    suspects = nodes("broker", ast.keyword, ast.Assign, ast.Dict, ast.Attribute)
    found = [(module, node) for module, node in suspects if turns_checking_off(node)]
    assert where((module, node) for module, node in found if module != LOOKER) == []
    assert len([module for module, _ in found if module == LOOKER]) == 2  # of one context


def test_who_takes_any_certificate_does_nothing_but_look_at_it() -> None:
    uses = [
        node.attr
        for module, node in nodes("broker", ast.Attribute)
        if module == LOOKER and isinstance(node.value, ast.Name) and node.value.id == "secured"
    ]
    assert uses == ["getpeercert"]


def test_nothing_is_unpickled_or_loaded_as_code() -> None:
    assert where(imported("broker", "pickle", "marshal", "shelve", "dill", "importlib.util", "runpy", "code")) == []


SINS = """
import pickle, random, ssl, subprocess, tempfile, hashlib
import jinja2, requests, yaml
def sin(text, database):
    eval(text)
    exec(text)
    pickle.loads(text)
    yaml.load(text)
    subprocess.run(text, shell=True)
    random.choice(text)
    assert text
    database.execute(f"SELECT * FROM t WHERE a = '{text}'")
    requests.get(text, verify=False, timeout=1)
    hashlib.md5(text)
    ssl._create_unverified_context()
    tempfile.mktemp()
    jinja2.Environment()
    password = "hunter2"
    try:
        sin(text, database)
    except Exception:
        pass
"""


def test_the_linter_lets_no_dangerous_call_into_the_service() -> None:
    linter = Path(sys.executable).with_name("ruff")
    words = [str(linter), "check", "--output-format", "json", "--stdin-filename", "broker/web/sins.py", "-"]
    ran = subprocess.run(words, input=SINS, capture_output=True, text=True, check=False, cwd=ROOT)
    found = {each["code"] for each in json.loads(ran.stdout)}
    dangerous = {
        *("S307", "S102", "S301", "S506", "S602", "S311", "S101", "S608", "S501"),
        *("S324", "S323", "S306", "S701", "S105", "S110", "BLE001"),
    }
    assert dangerous - found == set()


def test_every_exemption_names_its_rule_and_its_reason() -> None:
    exemption = re.compile(r"#\s*(noqa|type:\s*ignore|pragma:|mypy:|ruff:)")
    reasoned = re.compile(r"# (noqa: [A-Z]+\d+(, ?[A-Z]+\d+)*|type: ignore\[[a-z, -]+\]) +(--?|#) \S.+")
    bare = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in ("broker", "tests", "benchmarks")
        for path in modules(folder)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if exemption.search(line) and not reasoned.search(line) and path.name != "test_source.py"
    ]
    assert bare == []


def test_the_suite_patches_nothing() -> None:
    patches = [
        (module, node)
        for module, node in nodes("tests", ast.Attribute)
        if dotted(node).endswith(("monkeypatch.setattr", "mocker.patch"))
    ]
    assert where([*patches, *imported("tests", "unittest", "unittest.mock", "mock")]) == []


def test_every_rule_that_is_left_out_has_its_reason() -> None:
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    linter = lines[lines.index("[tool.ruff.lint]") : lines.index("[tool.ruff.lint.pylint]")]
    exempt = re.compile(r'^\s*(".*" = \[)?"[A-Z]+\d+"')
    exemptions = [line for line in linter if exempt.search(line)]
    assert len(exemptions) > 20
    assert [line for line in exemptions if not re.search(r"  # \S.+", line)] == []
