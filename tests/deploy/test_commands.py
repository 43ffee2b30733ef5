import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
CI = ROOT / ".ci/run"
SHELL_SCRIPTS = [CI, *(path for path in (ROOT / "deploy/container").iterdir() if not path.suffix)]


def test_make_alone_says_what_can_be_done() -> None:
    said = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {"demo", "test", "check", "bench", "lock", "image"} <= set(re.findall(r"^  make (\S+)", said, re.MULTILINE))


def test_nothing_is_installed_without_its_hash() -> None:
    for line in re.sub(r"\\\n\s*", "", MAKEFILE).splitlines():
        if re.search(r"\binstall\b", line) and "echo" not in line:
            assert "--require-hashes" in line or "--no-index" in line


@pytest.mark.parametrize("script", SHELL_SCRIPTS, ids=lambda path: path.name)
def test_a_script_can_be_run_and_has_no_syntax_error(script: Path) -> None:
    assert os.access(script, os.X_OK)
    first = script.read_text().splitlines()[0]
    subprocess.run([first.split()[-1].rsplit("/", 1)[-1], "-n", script], check=True)


def test_continuous_integration_needs_every_part_and_runs_what_people_run() -> None:
    script = CI.read_text()
    assert "export BROKER_TEST_REQUIRE=all" in script
    assert re.findall(r"^make .*(check|test)\b", script, re.MULTILINE) == ["check", "test"]
    assert script.index("make test") > script.index("check </dev/null")


def test_continuous_integration_installs_every_real_part_that_a_test_asks_for() -> None:
    conftest = (ROOT / "tests/conftest.py").read_text()
    programs = set(re.findall(r"shutil\.which\(\"([\w-]+)\"", conftest)) | {"Xvfb", "xfreerdp", "winpr-hash"}
    installed = set(re.findall(r"^    ([\w-]+) [\w-]+$", CI.read_text(), re.MULTILINE))
    programs -= {"ssh-keygen"}  # it comes with ssh
    programs -= {"buildah", "podman", "mmdebstrap", "runc"}  # of the long part alone
    assert programs <= installed
