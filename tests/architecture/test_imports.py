import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT = Path(sys.executable).with_name("lint-imports")

# One forbidden import for each contract: where it is planted, and what is written there.
PLANTED = {
    "house": ("identity/planted.py", "import broker.audit"),
    "settings": ("identity/planted.py", "import broker.settings"),
    "observability": ("audit/planted.py", "import broker.observability"),
    "emulator": ("web/planted.py", "import broker.emulator"),
    "emulator-alone": ("emulator/planted.py", "import broker.lightsail"),
    "client-alone": ("client/planted.py", "import broker.web"),
    "libraries": ("issuing/planted.py", "import aioboto3"),
    "offline-verifier": ("audit/verification.py", "import broker.audit.log"),
}


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Hold the import contracts of this project against the source in that folder."""
    return subprocess.run(
        [LINT, "--no-cache", "--no-logo", "--config", ROOT / ".importlinter"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "NO_COLOR": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "broker", tmp_path / "broker", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def contract_names() -> dict[str, str]:
    text = (ROOT / ".importlinter").read_text()
    return dict(re.findall(r"^\[importlinter:contract:(.+)\]\nname = (.+)$", text, re.MULTILINE))


def test_the_source_keeps_every_import_contract() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout
    assert f"{len(contract_names())} kept, 0 broken" in result.stdout


def test_every_contract_notices_the_import_that_it_forbids(copy: Path) -> None:
    for where, what in PLANTED.values():
        with (copy / "broker" / where).open("a") as module:
            module.write(f"\n{what}\n")
    result = lint(copy)
    verdicts = dict(re.findall(r"^(.+) (KEPT|BROKEN)$", result.stdout, re.MULTILINE))
    assert result.returncode != 0
    assert verdicts == dict.fromkeys(contract_names().values(), "BROKEN")
    assert set(PLANTED) == set(contract_names())


def test_no_room_may_use_a_library_that_is_not_named_for_it(copy: Path) -> None:
    rooms = sorted(path.parent.name for path in (copy / "broker").glob("*/__init__.py"))
    for room in rooms:
        (copy / "broker" / room / "planted.py").write_text("import flask\n")
    result = lint(copy)
    assert result.returncode != 0
    assert re.findall(r"^- broker\.(\w+)\.planted -> flask$", result.stdout, re.MULTILINE) == rooms


def test_a_new_room_must_be_given_its_place(copy: Path) -> None:
    (copy / "broker" / "annexe.py").write_text('"""A room that no contract knows."""\n')
    result = lint(copy)
    assert result.returncode != 0
    assert "annexe" in result.stdout
