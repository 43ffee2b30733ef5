"""What the service is made of: all of it is written down, by hash, and may be used by everybody."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PERMISSIVE = {"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "MIT", "MIT-0", "PSF-2.0"}
ALSO = {"orjson": "MPL-2.0"}  # weak copyleft, for changed files of its own


def locked(name: str = "requirements.lock") -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)==([^\s;]+)", (ROOT / name).read_text(), re.MULTILINE))


def test_the_bill_of_materials_is_the_lock_with_its_hashes(tmp_path: Path) -> None:
    tool, files = Path(sys.executable).with_name("cyclonedx-py"), [tmp_path / "one.json", tmp_path / "two.json"]
    words = ["requirements", "requirements.lock", "--pyproject", "pyproject.toml", "--output-reproducible", "-o"]
    for file in files:
        subprocess.run([str(tool), *words, str(file)], cwd=ROOT, check=True, capture_output=True, timeout=60)
    assert files[0].read_bytes() == files[1].read_bytes()
    bill = json.loads(files[0].read_text())
    assert {each["name"]: each["version"] for each in bill["components"]} == locked()
    hashed = {each["name"] for each in bill["components"] if "hashes" in json.dumps(each)}
    assert hashed == set(locked())
    assert bill["metadata"]["component"]["name"] == "lightsail-credential-broker"


def test_what_runs_here_is_what_is_locked() -> None:
    installed = {name: metadata.version(name) for name in locked()}
    assert installed == locked()


def test_every_part_may_be_used_by_everybody_and_the_list_is_up_to_date() -> None:
    made = subprocess.run([sys.executable, "deploy/licences"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (ROOT / "docs/licences.md").read_text().endswith(made.stdout)
    rows = re.findall(r"^\| ([a-z0-9._-]+) \| [\d.]\S* \| (.+) \|$", made.stdout, re.MULTILINE)
    assert {name for name, _ in rows} == set(locked())
    for name, licence in rows:
        terms = {term.strip("() ") for term in re.split(r" AND | OR ", licence)}
        assert terms - {ALSO.get(name)} <= PERMISSIVE, (name, licence)


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock", "requirements-build.lock"])
def test_a_lock_is_whole_and_tells_nothing_of_where_it_was_made(name: str) -> None:
    text = (ROOT / name).read_text()
    pinned = re.findall(r"^[a-z0-9._-]+==", text, re.MULTILINE)
    hashed = re.findall(r"^[a-z0-9._-]+==.*\\\n(?:    --hash=sha256:[0-9a-f]{64}.*\n)+", text, re.MULTILINE)
    assert len(pinned) == len(hashed) > 0
    assert not re.search(r"https?://|index-url|find-links", text)


def test_one_altered_hash_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "wheels"
    wheel.mkdir()
    build = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, wheel], cwd=ROOT, check=True, capture_output=True, timeout=60)
    lock, name = tmp_path / "altered.lock", "lightsail-credential-broker"
    lock.write_text(f"{name}=={metadata.version(name)} --hash=sha256:{'0' * 64}\n")
    words = ["--quiet", "--no-index", "--no-deps", "--find-links", str(wheel), "--require-hashes", "-r", str(lock)]
    install = [sys.executable, "-m", "pip", "install", *words, "--target", str(tmp_path / "there")]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "HASHES" in done.stderr.upper()


def test_it_runs_without_looking_at_the_environment_or_the_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-m", "broker", "--version"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
