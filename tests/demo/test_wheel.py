"""The wheel: all that is needed is in it, so that `broker demo` works wherever it is installed."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.architecture.source import ROOT

BUILD = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
SHIPPED = """
import broker
from broker.authorization.loading import load_snapshot
from broker.demo.stage import shipped_policies
assert broker.__file__.startswith(__import__("sys").argv[1]), broker.__file__
print(len(load_snapshot(shipped_policies()).rules))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [sys.executable, "-c", BUILD, folder], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert built.returncode == 0, built.stderr
    return folder / built.stdout.split()[-1]


def test_it_holds_the_package_and_every_shipped_policy_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    policies = {f"broker/{path.relative_to(ROOT)}" for path in (ROOT / "policies").rglob("*") if path.is_file()}
    assert any(name.endswith(".cedar") for name in policies)
    assert policies <= names
    assert {"broker/__main__.py", "broker/authorization/broker.cedarschema"} <= names
    console = (ROOT / "broker/web/console").rglob("*.*")
    pages = {str(path.relative_to(ROOT)) for path in console if path.suffix in {".html", ".css", ".js", ".svg"}}
    assert len(pages) > 10
    assert pages <= names
    assert {name.partition("/")[0] for name in names} == {"broker"}
    assert not any("__pycache__" in name or name.endswith((".key", ".pem", ".db", ".token")) for name in names)


def test_two_builds_are_the_same_bit_for_bit(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", BUILD, tmp_path], cwd=ROOT, capture_output=True, check=True, timeout=60)
    assert (tmp_path / wheel.name).read_bytes() == wheel.read_bytes()


def test_installed_from_it_the_demonstration_finds_its_policies(wheel: Path, tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    ran = subprocess.run(
        [sys.executable, "-c", SHIPPED, installed],
        env={**os.environ, "PYTHONPATH": str(installed)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) > 3
